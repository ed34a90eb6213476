"""Variants run on batches: forward passes traced, planned and replayed."""
