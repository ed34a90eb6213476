"""How the pictures of the shapes data set are made."""
