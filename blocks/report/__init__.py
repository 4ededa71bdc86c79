"""A run to PNGs and one page."""
