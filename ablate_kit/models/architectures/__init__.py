"""Architectures that transformers lacks, in its form: a file each, and a line in ``bundled``."""
