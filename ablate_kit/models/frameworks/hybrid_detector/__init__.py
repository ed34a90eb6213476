"""This project's own detector."""
