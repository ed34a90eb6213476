"""A file of named tensors, opened as data: nothing in it is ever run.

What edits and digests is imported by name, so that listing what a file holds needs no numpy.
"""

from ablate_kit.checkpoints.archive import Archive, open_archive
from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject, show
from ablate_kit.checkpoints.tensors import Storage, TensorInfo, TensorView
from ablate_kit.checkpoints.weight_sets import WeightSet, weight_sets
from ablate_kit.checkpoints.weights import Checkpoint, open_checkpoint
from ablate_kit.errors import CheckpointError

__all__ = [
    "Archive",
    "Checkpoint",
    "CheckpointError",
    "Storage",
    "TensorInfo",
    "TensorView",
    "UnresolvedObject",
    "WeightSet",
    "open_archive",
    "open_checkpoint",
    "show",
    "weight_sets",
]
