"""The network of the hybrid detector, stage by stage."""
