"""What a sweep evaluates: a model with something changed, as a value, and as a file."""
