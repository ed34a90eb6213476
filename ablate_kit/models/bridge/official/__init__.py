"""Files of official repositories, one file each, by their tensors and arguments."""
