"""Copies of one tensor: branches that share weights in the model, saved as separate bytes.

torch.save writes tensors that are tied once, but a program that moved each of them from a GPU first
has as many equal ones: cutting one then leaves the others as they were.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ablate_kit.checkpoints.compare import digest_of_tensor, is_constant, layout, row_major_bytes
from ablate_kit.checkpoints.tensors import TensorInfo
from ablate_kit.checkpoints.weights import Checkpoint

_WINDOW = 1 << 12  # bytes that are read of a tensor before it is found to be another
_Read = Callable[[int, int], bytes]


def tied_copies(checkpoint: Checkpoint, names: Iterable[str]) -> dict[str, Sequence[str]]:
    """For those of ``names`` that have equal tensors at other places of the file: all these keys.

    Equal ones have one list, with themselves in it. None for a tensor of one value: biases that
    are all zero are not copies of each other. However many names there are, each tensor of the file
    is looked at once, and read as a whole where its beginning is another's.
    """
    tensors = checkpoint.tensors
    wanted = {name for name in set(names) if not is_constant(checkpoint, tensors[name], _WINDOW)}
    layouts = {layout(tensors[name]) for name in wanted}
    read = {path: source.ahead() for path, source in checkpoint.archive.sources.items()}
    alike: dict[object, list[str]] = {}
    for key, info in tensors.items():
        if (own := layout(info)) in layouts:
            first = hashlib.blake2b(_beginning(checkpoint, info, read), digest_size=16).digest()
            alike.setdefault((own, first), []).append(key)
    found: dict[str, Sequence[str]] = {}
    for group in alike.values():
        if len(group) > 1 and not wanted.isdisjoint(group):
            for equal in _equal(checkpoint, group):
                found |= {name: equal for name in equal if name in wanted}
    return found


def _beginning(checkpoint: Checkpoint, info: TensorInfo, read: dict[Path, _Read]) -> bytes:
    if info.contiguous:
        return read[info.file](info.offset, min(info.nbytes, _WINDOW))
    return next(row_major_bytes(checkpoint, info, _WINDOW))


def _equal(checkpoint: Checkpoint, group: Sequence[str]) -> Iterator[Sequence[str]]:
    """The keys of tensors that begin alike, by what the whole of them is."""
    infos = [checkpoint.tensors[key] for key in group]
    if len({(info.storage, info.offset) for info in infos}) == 1:
        return  # tied: the same bytes, not a copy
    by_digest: dict[str, list[str]] = {}
    for key, info in zip(group, infos, strict=True):
        digest = "" if info.nbytes <= _WINDOW else digest_of_tensor(checkpoint, key)
        by_digest.setdefault(digest, []).append(key)
    for equal in by_digest.values():
        if len(equal) > 1:
            yield equal
