"""What a study says, and its map of the model."""
