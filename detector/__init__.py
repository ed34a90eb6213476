"""The hybrid detector and its trainer."""
