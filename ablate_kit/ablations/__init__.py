"""What is cut, as plain values, and how they are applied: to a running model, and to a file."""
