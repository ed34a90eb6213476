"""What the thesis notebooks of the hybrid detector count, and how they name its weights."""
