"""What a trunk's features are worth: to files, by nearest neighbours, by linear classifiers."""
