"""The static check: the weights inside each model file against the trained ones."""
