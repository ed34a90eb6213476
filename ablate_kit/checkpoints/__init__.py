"""A file of named tensors, opened as data: nothing in it is ever run.

``patch`` and ``digest`` are imported by name, so that listing what a file holds needs no numpy.
"""

from .archive import Archive, open_archive
from .errors import CheckpointError
from .opaque import Opaque, show
from .tensors import Storage, TensorInfo, TensorView
from .weight_sets import WeightSet, weight_sets
from .weights import Checkpoint, open_checkpoint

__all__ = [
    "Archive",
    "Checkpoint",
    "CheckpointError",
    "Opaque",
    "Storage",
    "TensorInfo",
    "TensorView",
    "WeightSet",
    "open_archive",
    "open_checkpoint",
    "show",
    "weight_sets",
]
