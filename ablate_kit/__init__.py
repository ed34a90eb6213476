"""Ablation analysis of object detectors, on checkpoints."""

__version__ = "0.1.0"
