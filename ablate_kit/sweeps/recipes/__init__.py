"""What a recipe of a sweep holds: its file, and what its lines and sections come to in a run."""
