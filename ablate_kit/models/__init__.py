"""Detectors that can be run: what an adapter offers, running it on images, the frameworks."""
