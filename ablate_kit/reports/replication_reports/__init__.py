"""What the same cuts say in several checkpoints: words, table, figure, folder."""
