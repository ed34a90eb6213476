"""The command ``ablate``."""

from ablate_kit.cli.app import main

__all__ = ["main"]
