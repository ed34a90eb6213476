"""Weights of a model that lie among other tensors of one state dict: averages, wrapped detectors.

An average that a module carries (``ema_model.module.*``, ``ema_backbone_conv_weight``) is another
version of the model, not a part of it. In Lightning's files the detector is an attribute of the
module that trains it.
"""

import re
from collections.abc import Iterable, Mapping

from ablate_kit.checkpoints.tensors import TensorInfo

COUNTERS = {"n_averaged", "num_updates", "updates", "steps"}
"""What averaging wrappers count beside the ``module.*`` weights they hold."""

AVERAGE = re.compile(r"(?:^|[_.])(?:ema|swa|averaged|average_model|shadow)(?:$|[_.])")
# What EMA hooks put before names whose points they replace or leave out.
_FLAT = ("ema_", "model_ema_", "swa_")
_SETTINGS = COUNTERS | {"decay"}
_OF_TRAINING = re.compile(
    r"(?:^|_)(?:criteri(?:on|a)|loss(?:es)?|metrics?|matcher|map)(?:$|_|\d)", re.IGNORECASE
)
_HELD_AS = {"model", "_model", "net", "network", "module", "detector"}

Names = Mapping[str, TensorInfo]


def without_averages(tensors: Names) -> tuple[Names, dict[str, Names]]:
    """The tensors that are no average of others among them, and the averages by what their names
    begin with, each under the names of what it is an average of."""
    prefixes = tuple(_prefixes(tensors))
    if not prefixes:
        return tensors, {}
    found: dict[str, Names] = {}
    rest = dict(tensors)
    model = {name: info for name, info in tensors.items() if not name.startswith(prefixes)}
    for prefix in prefixes:
        inside = {name: info for name, info in rest.items() if name.startswith(prefix)}
        average = _as_in(model, {name.removeprefix(prefix): i for name, i in inside.items()})
        # One of a smaller share is a part of the model, such as a head that learns from averages.
        if average and 2 * _elements(average) >= _elements(model):
            found[prefix.rstrip("._")] = average
            rest = {name: info for name, info in rest.items() if name not in inside}
    return (rest if found else tensors), found


def held_detector(tensors: Names) -> str:
    """The attribute under which a training module holds all that is no loss and no metric; empty
    where there is none, or several."""
    parts = {name.partition(".")[0] for name in tensors}
    own = [part for part in parts if not _OF_TRAINING.search(part)]
    return own[0] if len(own) == 1 and own[0] in _HELD_AS else ""


def below(tensors: Names, prefix: str) -> dict[str, TensorInfo]:
    """Those whose names begin with ``prefix`` and a point, without both."""
    start = f"{prefix}."
    return {n.removeprefix(start): info for n, info in tensors.items() if n.startswith(start)}


def _prefixes(names: Iterable[str]) -> list[str]:
    heads = dict.fromkeys(name.partition(".")[0] for name in names)
    pointed = [f"{head}." for head in heads if AVERAGE.search(head)]
    # Several such heads may be one average, part by part: ``ema_backbone.*`` and ``ema_neck.*``.
    flat = [one for one in _FLAT if sum(head.startswith(one) for head in heads) > 1]
    return [*flat, *pointed]


def _as_in(others: Names, inside: Names) -> dict[str, TensorInfo]:
    """``inside`` by the names of ``others``; empty unless each is of one shape with one of them."""
    exact: dict[str, str] = {}
    for name in others:
        for spelled in (name, name.partition(".")[2]):
            # Of two names that are one without points nobody can tell which is meant.
            exact[_flat(spelled)] = "" if _flat(spelled) in exact else name
    found: dict[str, TensorInfo] = {}
    for name, info in inside.items():
        if name in _SETTINGS:
            continue
        own = exact.get(_flat(name.removeprefix("module.")), "")
        if not own or own in found or others[own].shape != info.shape:
            return {}
        found[own] = info
    return found


def _elements(tensors: Names) -> int:
    return sum(info.numel for info in tensors.values())


def _flat(name: str) -> str:
    return name.replace(".", "").replace("_", "")
