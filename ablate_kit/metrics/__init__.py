"""Detections in, numbers out: COCO average precision, F1 and GIoU, on NumPy arrays."""
