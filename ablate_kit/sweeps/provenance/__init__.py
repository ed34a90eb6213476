"""What a run comes of: its files, its images, and the programs at work."""
