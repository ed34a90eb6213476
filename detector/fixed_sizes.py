"""Sizes of the hybrid detector that no setting changes."""

STRIDES = (4, 8, 16, 32)
"""Strides of the maps p3, p4, p5, p6 (p3 has stride 4 in this detector)."""

DCN_GROUP_CHANNELS = 16
"""Channels of one DCNv4 group; the compiled kernel takes multiples of 16 only."""

NORM_GROUPS = 32
"""Groups of group norm, or their greatest common divisor with the channels."""
