"""Checkpoints written anew, because names or shapes change."""
