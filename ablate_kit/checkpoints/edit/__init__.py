"""Changed copies of checkpoints: other values in place, every other byte as it was."""
