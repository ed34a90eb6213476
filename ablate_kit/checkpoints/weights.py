"""A checkpoint is an archive plus the place in it where the model's weights sit."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ablate_kit.checkpoints.archive import Archive, open_archive
from ablate_kit.checkpoints.located import located
from ablate_kit.checkpoints.model_settings import arguments, classes, config
from ablate_kit.checkpoints.pickle.saved_modules import SavedModule, modules_above
from ablate_kit.checkpoints.pickle.unresolved import show
from ablate_kit.checkpoints.quantized import quantized
from ablate_kit.checkpoints.tensors import Storage, TensorInfo
from ablate_kit.checkpoints.told import tell
from ablate_kit.checkpoints.unsupported_tensors import UNSUPPORTED, unsupported
from ablate_kit.checkpoints.weight_sets import WeightSet, named_set, weight_sets
from ablate_kit.errors import CheckpointError, did_you_mean
from ablate_kit.plural import counted

if TYPE_CHECKING:
    import torch


_MOST_EMPTY = 4  # one in so many tensors of a model may be without elements


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model's weights in an open archive, and what the file says about the model.

    ``path`` is what was opened: a file, or a Hugging Face folder; of an index of shards it is
    the folder. ``tensors`` maps the model's keys to the archive's tensors; ``place`` says where
    they sit, and ``alternatives`` are the other weight sets, which
    ``open_checkpoint(path, weights=PLACE)`` opens. ``config`` is the model's configuration
    and ``classes`` its class names, if the file holds them.
    """

    path: Path
    archive: Archive
    place: str
    tensors: Mapping[str, TensorInfo]
    alternatives: tuple[WeightSet, ...]
    config: Mapping[str, Any] | None
    classes: tuple[str, ...] | None

    @property
    def folder(self) -> Path | None:
        """The Hugging Face folder, if one (or its index of shards) was opened."""
        return self.path if self.path != self.archive.path else None

    @property
    def has_config_file(self) -> bool:
        """Whether a folder was opened that says what its weights are of."""
        return self.folder is not None and (self.folder / "config.json").is_file()

    def tensor(self, key: str) -> TensorInfo:
        """The archive's tensor of model key ``key``; ``CheckpointError`` if there is none."""
        if key not in self.tensors and key in self.unsupported:
            raise CheckpointError(
                f'tensor "{key}" in {self} is {self.unsupported[key]}: {UNSUPPORTED}'
            )
        if key not in self.tensors:
            raise CheckpointError(f'no tensor "{key}" in {self}{did_you_mean(key, self.tensors)}')
        return self.tensors[key]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of ``tensors``."""
        return {key: info.shape for key, info in self.tensors.items()}

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the file says of how the model was built: its configuration, or else the arguments
        of the script that trained it."""
        if self.config is not None:
            return self.config
        return arguments(self.archive.metadata, self.tensors)

    def modules_above(self, key: str) -> list[SavedModule]:
        """The modules that the tensor of model key ``key`` lies in, innermost first; none where
        the file holds no modules, but tensors alone."""
        return modules_above(self.archive.metadata, self.tensor(key).path)

    @property
    def unsupported(self) -> dict[str, str]:
        """The tensors beside ``tensors`` that are more than their bytes, and why."""
        found = unsupported(self.archive.metadata, self.place)
        if not found or not self.tensors or "+" in self.place:
            return found
        key, info = next(iter(self.tensors.items()))
        wrapper = info.name.removeprefix(f"{self.place}." if self.place else "").removesuffix(key)
        return {name.removeprefix(wrapper): reason for name, reason in found.items()}

    @cached_property
    def quantized(self) -> dict[str, str]:
        """Of ``tensors`` those whose numbers mean nothing alone, and why."""
        return quantized(self.tensors)

    def sharing(self, key: str) -> list[str]:
        """The other keys whose tensors have bytes in common with that of ``key``; also of the
        archive's other weights, by their names there."""
        own = self.tensor(key)
        group = self._views(own.storage)
        found = []
        # From the last that begins before this one's end, back to where none before reaches it.
        at = bisect_left(group, own.offset + own.span, key=lambda one: one[0])
        while at and group[at - 1][1] > own.offset:
            at -= 1
            other = group[at][2]
            info = self._all[other]
            if other != key and own.offset < info.offset + info.span:
                found.append(other)
        return found[::-1]

    def _views(self, storage: Storage) -> list[tuple[int, int, str]]:
        """The keys of a storage by where their tensors begin, with the furthest end so far."""
        known = self._sorted
        if storage not in known:
            begin = self._by_offset[storage.offset]
            keys = [key for key in begin if self._all[key].storage == storage]
            keys.sort(key=lambda key: self._all[key].offset)
            infos = [self._all[key] for key in keys]
            ends = accumulate((info.offset + info.span for info in infos), max)
            starts = (info.offset for info in infos)
            known[storage] = list(zip(starts, ends, keys, strict=True))
        return known[storage]

    @cached_property
    def _sorted(self) -> dict[Storage, list[tuple[int, int, str]]]:
        return {}

    @cached_property
    def _by_offset(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for key, info in self._all.items():
            found.setdefault(info.storage.offset, []).append(key)
        return found

    @cached_property
    def _all(self) -> dict[str, TensorInfo]:
        """Of the archive; those of ``tensors`` by their keys."""
        own = {info.name for info in self.tensors.values()}
        others = {name: info for name, info in self.archive.tensors.items() if name not in own}
        return others | dict(self.tensors)

    def distinct(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """``keys`` without those that are the same tensor as an earlier one, which has them."""
        first: dict[object, str] = {}
        found: dict[str, list[str]] = {}
        for key in keys:
            info = self.tensors[key]
            view = (info.storage, info.offset, info.shape, info.stride) if info.numel else key
            if (known := first.setdefault(view, key)) == key:
                found.setdefault(key, [])
            else:
                found[known].append(key)
        return found

    def read(self, key: str) -> "torch.Tensor":
        """The tensor of model key ``key``, in memory of its own."""
        return self.archive.read(self.tensor(key).name)

    def state_dict(self) -> "dict[str, torch.Tensor]":
        """All weights by model key, as ``load_state_dict`` takes them."""
        return {key: self.read(key) for key in self.tensors}

    def close(self) -> None:
        """Close the file; the descriptions stay."""
        self.archive.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self.path} ({self.place})" if self.place else str(self.path)


def open_checkpoint(path: Path, weights: str | None = None, *, listing: bool = False) -> Checkpoint:
    """Open the checkpoint at ``path``: its usual weight set, or the one at place ``weights``.

    ``builtin:shapes_tiny`` names the one that is shipped, ``hf:OWNER/NAME`` a repository of the
    hub (``checkpoints/hub.py``). Raises ``CheckpointError`` if the file is
    none, holds no weights, or has no set of that name; and for one of Paddle, whose weights mean
    something else, unless it is opened for ``listing`` alone.
    """
    path = located(Path(path))
    archive = open_archive(path)
    if archive.format == "sharded":
        path = archive.path.parent
    try:
        if archive.format == "paddle" and not listing:
            raise CheckpointError(
                f"{path} is of Paddle, whose linear layers keep their weights transposed: ablate "
                "keys, meta and diff read it; for all else convert it to PyTorch first"
            )
        sets = weight_sets(archive)
        chosen = _choose(archive, sets, weights)
        if weights is None:
            _tell_of_others(path, chosen, sets)
        return Checkpoint(
            path,
            archive,
            chosen.place,
            chosen.tensors,
            tuple(other for other in sets if other is not chosen),
            config(path, archive, chosen.tensors),
            classes(archive.metadata, chosen.tensors),
        )
    except BaseException:
        archive.close()
        raise


def _choose(archive: Archive, sets: list[WeightSet], weights: str | None) -> WeightSet:
    if not sets:
        raise CheckpointError(
            f"{archive.path} holds no weights that can be read as tensors; it holds "
            f"{_instead(archive)}"
        )
    if weights is None:
        return _with_elements(archive, sets[0])
    found = named_set(sets, weights)
    if found is None:
        known = ", ".join(f"{_called(one)} ({counted(len(one.tensors), 'tensor')})" for one in sets)
        raise CheckpointError(f'no weights "{weights}" in {archive.path}, which holds {known}')
    return _with_elements(archive, found)


def _called(one: WeightSet) -> str:
    return f'"{one.place}"' if one.place else "weights without a name of their own"


def _instead(archive: Archive) -> str:
    """What an archive holds that has no weights."""
    metadata = archive.metadata
    for place in ("", *(key for key in metadata if isinstance(key, str))):
        for name, reason in unsupported(metadata, place).items():
            return f"{show(name, 80)}, which is {reason}; load it, and save plain tensors"
    if archive.tensors:
        name = next(iter(archive.tensors))
        return f"the state of a training run alone, such as {show(name, 80)}"
    return show(metadata.get("", metadata), 120)


def _tell_of_others(path: Path, chosen: WeightSet, sets: list[WeightSet]) -> None:
    """That the file holds the model several times, such as with its average: programs differ in
    which they load."""
    same = [
        one
        for one in sets
        if one.tensors.keys() == chosen.tensors.keys() and _bytes_of(one) != _bytes_of(chosen)
    ]
    if same:
        others = " or ".join(f'"{one.place}"' for one in same)
        tell(
            f'{path} holds the model\'s weights {len(same) + 1} times: "{chosen.place}" is taken; '
            f"--weights chooses {others}"
        )


def _bytes_of(one: WeightSet) -> dict[str, object]:
    """Where each of its tensors lies: the same ones may have two names in a file."""
    return {name: (info.storage, info.offset) for name, info in one.tensors.items()}


def _with_elements(archive: Archive, found: WeightSet) -> WeightSet:
    """``found``; ``CheckpointError`` where many are names alone; buffers may have elements."""
    count = sum(not info.numel for info in found.tensors.values())
    if count > 1 and _MOST_EMPTY * count > len(found.tensors):
        raise CheckpointError(
            f"{archive.path} holds {count} tensors without elements: the weights were split among "
            "processes (DeepSpeed ZeRO 3?); expected a file with all of them, as "
            "zero_to_fp32.py makes it"
        )
    return found
