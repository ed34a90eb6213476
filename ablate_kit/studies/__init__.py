"""A sweep that plans itself: what a detector is made of, what to cut first, what to say of it."""
