"""Detectors of transformers, and of folders in its form."""
