"""Data sets as the trainer and the evaluation see them: images, annotations, batches."""
