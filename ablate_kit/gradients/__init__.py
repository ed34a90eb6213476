"""What learns in a training run, what does not, and why."""
