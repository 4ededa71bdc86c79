"""What a model looks at: numbers from params and images, and figures from the numbers."""
