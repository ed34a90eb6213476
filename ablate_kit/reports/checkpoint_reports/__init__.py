"""What is in checkpoints, how two differ, and what a cut would change: text for the terminal."""
