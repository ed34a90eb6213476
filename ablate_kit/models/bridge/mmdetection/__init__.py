"""Files of MMDetection, by the configuration that is in them."""
