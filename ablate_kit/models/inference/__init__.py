"""Running a detector on images: devices, batches, detections."""
