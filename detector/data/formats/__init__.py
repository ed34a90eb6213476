"""Data sets as others store them: one file per format, and what reads their fields."""
