"""The same cuts in several checkpoints: what has to be swept for it, and the comparison."""
