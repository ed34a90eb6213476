"""Pretrained parts put into a checkpoint of the hybrid detector."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ablate_kit.anatomy.schemes import SCHEMES
from ablate_kit.checkpoints import TensorInfo
from ablate_kit.errors import UserError, did_you_mean
from detector.config import HybridConfig

Shape = tuple[int, ...]
Described = torch.Tensor | TensorInfo

_WILDCARD = re.compile(r"\*\*|\*")


@dataclass(frozen=True)
class Graft:
    """Where each tensor of the grafted parts comes from, under the detector's names."""

    loaded: dict[str, str]  # source's name of each
    cast: list[str]  # of those loaded, from another dtype
    mismatched: dict[str, tuple[Shape, Shape]]  # shape here, shape in the source
    missing: list[str]  # the source has none: left as they were
    unused: list[str]  # the source's names of tensors that are in none of the parts


def graft(
    detector: Mapping[str, Described],
    source: Mapping[str, Described],
    parts: Sequence[str],
    renamed: Mapping[str, str],
) -> Graft:
    """Which tensors of ``parts`` the source has in the same shape; ``fill`` copies them.

    Args:
        detector: its tensors, or their descriptions.
        source: its tensors, by its own names.
        parts: modules of the detector, such as ``backbone`` or ``neck``.
        renamed: the detector's name of each of the source's tensors; others are unused.

    Raises:
        UserError: a part is none of the detector's, or nothing matches.
    """
    wanted = dict.fromkeys(_inside(detector, parts))
    sources: dict[str, str] = {}
    for theirs, ours in renamed.items():
        if ours in sources:
            raise UserError(f'both "{sources[ours]}" and "{theirs}" are mapped to "{ours}"')
        if ours in wanted:
            sources[ours] = theirs
    if not sources:
        raise UserError(
            f"no tensor of the source belongs to {' or '.join(parts)}; it has "
            f'"{next(iter(source), "")}" and the detector "{next(iter(wanted))}": give --map'
        )
    shapes = {
        ours: (tuple(detector[ours].shape), tuple(source[theirs].shape))
        for ours, theirs in sources.items()
    }
    loaded = {ours: theirs for ours, theirs in sources.items() if len(set(shapes[ours])) == 1}
    used = set(sources.values())
    return Graft(
        loaded=loaded,
        cast=[ours for ours in loaded if _type(detector[ours]) != _type(source[loaded[ours]])],
        mismatched={ours: pair for ours, pair in shapes.items() if ours not in loaded},
        missing=[name for name in wanted if name not in sources],
        unused=[name for name in source if name not in used],
    )


def fill(
    state: Mapping[str, torch.Tensor], found: Graft, read: Callable[[str], torch.Tensor]
) -> None:
    """Copies the tensors of a graft, which ``read`` gives by the source's names, into ``state``."""
    for ours, theirs in found.loaded.items():
        state[ours].copy_(read(theirs))


def detector_names(
    names: Iterable[str], config: HybridConfig, rules: Sequence[str] = ()
) -> dict[str, str]:
    """The detector's name of each tensor: by ``OLD=NEW`` rules, else by known schemes.

    A rule renames a tensor, or all under a module; ``*`` and ``**`` on its right stand for what
    those on its left matched, in order. Tensors that no rule matches keep their names. Without
    rules, the names of known schemes are recognized.
    """
    names = list(names)
    if rules:
        readable = [_rule(text) for text in rules]
        return {name: _by_rules(name, readable) for name in names}
    found = {name: name for name in names}
    for scheme in SCHEMES.values():
        known = scheme.renamed(found.values(), config)
        found = {name: known[other] for name, other in found.items()}
    return found


def _rule(text: str) -> tuple[re.Pattern[str], str]:
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise UserError(f'cannot read --map "{text}"; expected OLD=NEW')
    stars = [len(_WILDCARD.findall(side)) for side in (left, right)]
    if stars[0] != stars[1]:
        raise UserError(
            f'cannot read --map "{text}"; {stars[0]} wildcards on the left, {stars[1]} on the right'
        )
    pieces = re.split(r"(\*\*|\*)", left)
    body = "".join({"**": "(.*)", "*": "([^.]*)"}.get(piece, re.escape(piece)) for piece in pieces)
    return re.compile(rf"{body}(?P<rest>\..*)?", re.DOTALL), right


def _by_rules(name: str, rules: Sequence[tuple[re.Pattern[str], str]]) -> str:
    for pattern, right in rules:
        match = pattern.fullmatch(name)
        if match:
            groups = iter(match.groups())
            return _WILDCARD.sub(lambda _: next(groups), right) + (match["rest"] or "")  # noqa: B023
    return name


def _type(one: Described) -> str:
    return str(one.dtype).removeprefix("torch.")


def _inside(state: Collection[str], parts: Sequence[str]) -> list[str]:
    modules = {name[: dot.start()] for name in state for dot in re.finditer(r"\.", name)}
    wanted = []
    for part in parts:
        if part not in modules:
            raise UserError(
                f'the detector has no part "{part}"{did_you_mean(part, sorted(modules))}'
            )
        wanted += [name for name in state if name.startswith(f"{part}.")]
    return wanted
