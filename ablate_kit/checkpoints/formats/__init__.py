"""One file per format in which checkpoints are stored, and how formats are told apart."""
