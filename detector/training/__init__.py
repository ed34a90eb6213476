"""The training loop, its two tasks, and what they share."""
