"""What models cost, beside what they find: a smaller one, and a detector in several settings."""
