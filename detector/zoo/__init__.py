"""Checkpoints trained by this project and shipped with it, each with its recipe and history."""

from pathlib import Path

SHAPES_TINY = Path(__file__).parent / "shapes_tiny" / "model.safetensors"
"""The tiny hybrid detector, trained on the built-in shapes (recipes/train/shapes_tiny.yaml)."""
