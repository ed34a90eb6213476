"""Data sets of Hugging Face as COCO files."""
