"""Pretrained parts put into a checkpoint of the hybrid detector."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ablate_kit.errors import UserError, did_you_mean
from detector.config import HybridConfig
from detector.network import legacy
from detector.network.model import HybridDetector

Shape = tuple[int, ...]

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
    model: HybridDetector,
    shapes: Mapping[str, Shape],
    read: Callable[[str], torch.Tensor],
    parts: Sequence[str],
    renamed: Mapping[str, str],
) -> Graft:
    """Fills ``parts`` of ``model`` in place with every tensor of the same name and shape.

    Args:
        shapes: of the source's tensors, by its own names.
        read: gives one of them.
        parts: modules of the detector, such as ``backbone`` or ``neck``.
        renamed: the detector's name of each of the source's tensors; others are unused.

    Raises:
        UserError: a part is none of the detector's, or nothing matches.
    """
    state = model.state_dict()
    wanted = dict.fromkeys(_inside(state, parts))
    sources: dict[str, str] = {}
    for theirs, ours in renamed.items():
        if ours in sources:
            raise UserError(f'both "{sources[ours]}" and "{theirs}" are mapped to "{ours}"')
        if ours in wanted:
            sources[ours] = theirs
    if not sources:
        raise UserError(
            f"no tensor of the source belongs to {' or '.join(parts)}; it has "
            f'"{next(iter(shapes), "")}" and the detector "{next(iter(wanted))}": give --map'
        )
    loaded, mismatched, cast = {}, {}, []
    for ours, theirs in sources.items():
        here = tuple(state[ours].shape)
        if shapes[theirs] != here:
            mismatched[ours] = (here, shapes[theirs])
            continue
        value = read(theirs)
        if value.dtype != state[ours].dtype:
            cast.append(ours)
        state[ours].copy_(value)
        loaded[ours] = theirs
    used = set(sources.values())
    return Graft(
        loaded=loaded,
        cast=cast,
        mismatched=mismatched,
        missing=[name for name in wanted if name not in sources],
        unused=[name for name in shapes if name not in used],
    )


def detector_names(
    names: Iterable[str], config: HybridConfig, rules: Sequence[str] = ()
) -> dict[str, str]:
    """The detector's name of each tensor: by ``OLD=NEW`` rules, else as the notebooks name them.

    A rule renames a tensor, or all under a module; ``*`` and ``**`` on its right stand for what
    those on its left matched, in order. Tensors that no rule matches keep their names. Without
    rules, the notebooks' names are recognized.
    """
    names = list(names)
    if rules:
        readable = [_rule(text) for text in rules]
        return {name: _by_rules(name, readable) for name in names}
    found = {}
    for name in names:
        try:
            found[name] = legacy.to_ours([name], config)[name]
        except UserError:  # a tensor of ours, or foreign
            found[name] = name
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


def _inside(state: Mapping[str, torch.Tensor], parts: Sequence[str]) -> list[str]:
    modules = {name[: dot.start()] for name in state for dot in re.finditer(r"\.", name)}
    wanted = []
    for part in parts:
        if part not in modules:
            raise UserError(
                f'the detector has no part "{part}"{did_you_mean(part, sorted(modules))}'
            )
        wanted += [name for name in state if name.startswith(f"{part}.")]
    return wanted
