"""Which groups of an archive's tensors are the weights of a model, judged by their names."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ablate_kit.checkpoints.archive import Archive
from ablate_kit.checkpoints.inner_sets import (
    AVERAGE,
    COUNTERS,
    below,
    held_detector,
    without_averages,
)
from ablate_kit.checkpoints.tensors import TensorInfo

# Keys under which training scripts keep the weights, most usual first.
_USUAL = (
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "params",
    "network",
    "net",
    "module",
    "weights",
)
# Keys under which a wrapper keeps the weights beside counters of its own.
_INNER = (*_USUAL, "shadow", "shadow_params")
_TRAINING_STATE = re.compile(
    r"optim|sched|scaler|criterion|callback|(?:^|_)(?:loss|rng|amp|loops)(?:$|_)", re.IGNORECASE
)
_LIGHTNING = "pytorch-lightning_version"
_PART = re.compile(r"(?P<part>.+)_state_dict")
_WHOLE = {"model", "network", "net", "module"}
# What data parallelism, torch.compile, Lightning, activation checkpointing and FSDP put in front of
# the keys of the model they wrap. All but the first are no names that a model has for its parts.
_WRAPPERS = (
    "module.",
    "_orig_mod.",
    "_forward_module.",
    "_checkpoint_wrapped_module.",
    "_fsdp_wrapped_module.",
    "_fpw_module.",
)
_INNER_WRAPPERS = re.compile(rf"(?<=\.)(?:{'|'.join(map(re.escape, _WRAPPERS[1:]))})+")


@dataclass(frozen=True)
class WeightSet:
    """One model's weights in an archive.

    ``place`` is the keys that lead to it, joined with ``"."``; ``""`` is the top level, and parts
    that are kept apart are joined with ``"+"`` (``"backbone_state_dict+neck_state_dict"``).
    ``tensors`` maps the model's own keys to the archive's tensors.
    """

    place: str
    tensors: Mapping[str, TensorInfo]

    @property
    def is_average(self) -> bool:
        """Whether the names say that these are averaged (EMA) weights."""
        return AVERAGE.search(self.place) is not None


def weight_sets(archive: Archive) -> list[WeightSet]:
    """Every set of weights in ``archive``, the one to use unless told otherwise first.

    The order: the usual keys (``model``, ``state_dict``, ...), the top level, models kept in parts
    (``backbone_state_dict`` and ``neck_state_dict``), other keys, averages. The state of
    optimizers, schedulers and the like is not listed, but for averages that a callback keeps. An
    average among other tensors is a set of its own, and so is the detector in a module of
    Lightning's, which is taken before the whole module.
    """
    loose = [info for info in archive.tensors.values() if len(info.path) == 1]
    if all("." not in info.name and _TRAINING_STATE.search(info.name) for info in loose):
        loose = []
    nested: dict[str, list[TensorInfo]] = {}
    for info in archive.tensors.values():
        if len(info.path) > 1 and not _of_training(archive.metadata, info.path):
            nested.setdefault(info.path[0], []).append(info)

    parts: dict[bool, dict[str, str]] = {False: {}, True: {}}
    usual, other = [], []
    for key, infos in nested.items():
        part = _part_name(key)
        if part:
            parts[AVERAGE.search(key) is not None][key] = part
        elif key in _USUAL or AVERAGE.search(key):
            usual.append(_set_at(_inner((key,), infos), infos))
        elif isinstance(archive.metadata.get(key), list | tuple) and _are_listed(infos):
            loose += infos  # as quantized modules of PyTorch keep weight and bias
        elif not {".".join(info.path[1:]) for info in infos} <= COUNTERS:
            other.append(_set_at(_inner((key,), infos), infos))
    kept_in_parts = [_set_of_parts(names, nested) for _, names in sorted(parts.items()) if names]

    sets = usual + kept_in_parts
    if not sets and (loose or len(other) > 1):
        everything = {info.name: info for infos in (loose, *nested.values()) for info in infos}
        sets = [WeightSet("", _unwrapped(everything))]
    if sets and _LIGHTNING in archive.metadata:  # which keeps other weights there, too
        sets += other
        other = []
    taken_apart = [each for one in sets for each in _taken_apart(one, archive)]
    # The others after the usual ones: a key of theirs may be a whole name, "model.0.conv".
    found = sorted(sorted(taken_apart, key=_rank) + other, key=lambda one: one.is_average)
    return found + _kept_by_callbacks(archive, found[:1])


def _are_listed(infos: Iterable[TensorInfo]) -> bool:
    """Whether these are elements of a list, without names."""
    return all(len(info.path) == 2 for info in infos)


def _taken_apart(one: WeightSet, archive: Archive) -> list[WeightSet]:
    """A set, before it the detector that it holds, and the averages that lie among its tensors."""
    rest, averages = without_averages(one.tensors)
    held = held_detector(rest) if _LIGHTNING in archive.metadata else ""
    start = f"{one.place}." if one.place else ""
    found = [WeightSet(one.place, rest)]
    if held:
        found.insert(0, WeightSet(f"{start}{held}", _unwrapped(below(rest, held))))
    for prefix, tensors in averages.items():
        own = _unwrapped(below(tensors, held)) if held else tensors
        found.append(WeightSet(f"{start}{prefix}", own))
    return found


def _kept_by_callbacks(archive: Archive, taken: list[WeightSet]) -> list[WeightSet]:
    """Averages among the state of callbacks: there only tensors named as the weights are some."""
    places: dict[tuple[str, ...], list[TensorInfo]] = {}
    for info in archive.tensors.values():
        if info.path[0] == "callbacks":
            depth = next((i for i, key in enumerate(info.path[:-1]) if AVERAGE.search(key)), None)
            if depth is not None:
                places.setdefault(info.path[: depth + 1], []).append(info)
    found = []
    for place, infos in places.items():
        one = _set_at(_inner(place, infos), infos)
        if taken and set(one.tensors) == set(taken[0].tensors):
            found.append(one)
        elif taken and set(own := below(one.tensors, "model")) == set(taken[0].tensors):
            found.append(WeightSet(f"{one.place}.model", own))
    return found


def named_set(sets: Iterable[WeightSet], place: str) -> WeightSet | None:
    """The set at ``place``; of a set's tensors also those whose names begin with the rest; and
    the only set below it."""
    for one in sets:
        if one.place == place:
            return one
    for one in sets:
        start = f"{one.place}." if one.place else ""
        inside = below(one.tensors, place.removeprefix(start)) if place.startswith(start) else {}
        if inside:
            return WeightSet(place, _unwrapped(inside))
    beneath = [one for one in sets if one.place.startswith(f"{place}.")]
    return beneath[0] if len(beneath) == 1 else None


def _of_training(metadata: Mapping[Any, Any], path: tuple[str, ...]) -> bool:
    """Whether what lies at a path is the state of an optimizer and the like."""
    if _TRAINING_STATE.search(path[0]) or (path[0] == "state" and "param_groups" in metadata):
        return True
    here: Any = metadata.get("", metadata)
    for key in path[:-1]:  # also of one that a trainer keeps, or that has no name
        if isinstance(here, list | tuple):
            here = here[int(key)]
        else:
            here = here.get(key) if isinstance(here, dict) else None
        if isinstance(here, dict) and "param_groups" in here:
            return True
    return False


def _rank(weights: WeightSet) -> int:
    """The usual keys in their order, then all else as it comes."""
    first = weights.place.split(".")[0]
    return _USUAL.index(first) if first in _USUAL else len(_USUAL)


def _set_at(place: tuple[str, ...], infos: Iterable[TensorInfo]) -> WeightSet:
    depth = len(place)
    found = {".".join(info.path[depth:]): info for info in infos if info.path[:depth] == place}
    return WeightSet(".".join(place), _unwrapped(found))


def _inner(place: tuple[str, ...], infos: Iterable[TensorInfo]) -> tuple[str, ...]:
    """``place``, or the place below it if there is nothing but a wrapper around the weights."""
    while True:
        depth = len(place)
        here = [info.path[depth:] for info in infos if info.path[:depth] == place]
        if any(len(path) == 1 and path[0] not in COUNTERS for path in here):
            return place
        below = {path[0] for path in here if len(path) > 1}
        inner = next((key for key in _INNER if key in below), None)
        if inner is None:
            return place
        place = (*place, inner)


def _part_name(key: str) -> str:
    """``"backbone"`` of ``"ema_backbone_state_dict"``; empty where a whole model is named."""
    match = _PART.fullmatch(key)
    words = match["part"].split("_") if match else []
    words = [word for word in words if not AVERAGE.fullmatch(word)]
    return "" if set(words) <= _WHOLE else "_".join(words)


def _set_of_parts(names: Mapping[str, str], nested: Mapping[str, list[TensorInfo]]) -> WeightSet:
    tensors = {}
    for key, part in names.items():
        for name, info in _set_at((key,), nested[key]).tensors.items():
            own = name if name.startswith(f"{part}.") else f"{part}.{name}"
            tensors[own] = info
    return WeightSet("+".join(names), MappingProxyType(tensors))


def _unwrapped(tensors: Mapping[str, TensorInfo]) -> Mapping[str, TensorInfo]:
    """``tensors`` by the keys of the model itself, without those of wrappers around it."""
    names = {name: name for name in tensors if name not in COUNTERS}
    wrapped = False
    while prefix := next((p for p in _WRAPPERS if names and _all_start(names.values(), p)), None):
        names = {name: own.removeprefix(prefix) for name, own in names.items()}
        wrapped = True
    if not wrapped:
        if not _INNER_WRAPPERS.search("\n.".join(["", *tensors])):
            return MappingProxyType(tensors)
        names = {name: name for name in tensors}
    # A submodule that was wrapped by itself carries the wrapper's name inside its keys, and may be
    # the first that the model has.
    if _INNER_WRAPPERS.search("\n.".join(["", *names.values()])):
        inner = {name: _INNER_WRAPPERS.sub("", f".{own}")[1:] for name, own in names.items()}
        if len(set(inner.values())) == len(inner):
            names = inner
    return MappingProxyType({own: tensors[name] for name, own in names.items()})


def without_wrappers(name: str) -> str:
    """A name, or a pattern, as the model's own keys have it."""
    while prefix := next((one for one in _WRAPPERS if name.startswith(one)), None):
        name = name.removeprefix(prefix)
    return _INNER_WRAPPERS.sub("", f".{name}")[1:]


def _all_start(names: Iterable[str], prefix: str) -> bool:
    return all(name.startswith(prefix) for name in names)
