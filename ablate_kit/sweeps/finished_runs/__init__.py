"""Runs that are finished, read again: their images, and what changed."""
