"""What Python users call: models, images, sweeps and studies, as few names with plain arguments."""
