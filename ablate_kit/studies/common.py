"""The common sweeps without a recipe: every head, every layer, every module."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.quantized import not_cut
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.opening.framework_registry import anatomy_of
from ablate_kit.models.unsupported.number_types import refuse_unreadable
from ablate_kit.studies.structure import Part, first_uses, structure, tell_of_uncounted, traced
from ablate_kit.sweeps.recipes.model_section import ModelSection
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe, recipe_of
from detector.training.recipes.data_sections import OneSet
from detector.training.recipes.recipe_file import Override

ALL = "all"

Line = dict[str, Any]  # of a recipe


def common_recipe(
    model: ModelSection,
    data: OneSet,
    heads: Sequence[str] = (),
    layers: Sequence[str] = (),
    modules: Sequence[str] = (),
    *,
    overrides: Sequence[str | Override] = (),
    trust_remote_code: bool = False,
) -> SweepRecipe:
    """The recipe of a common sweep.

    Args:
        heads, layers, modules: patterns, or ``all``.

    Raises:
        UserError: the checkpoint cannot be opened, or has none of what is asked for.
    """
    with model.opened() as checkpoint:
        images = cache(data.dataset)

        @cache
        def adapter() -> Adapter:
            images()  # whose mistakes take less time to find than a model to make
            return model.adapter(checkpoint, trust_remote_code=trust_remote_code)

        anatomy = anatomy_of(checkpoint, model.framework)
        uses = None
        if ALL in modules:  # of which those that run in evaluation are meant
            seen = traced(adapter(), adapter().prepare(images().image(0)))
            uses = first_uses(adapter(), *seen) if seen else None
        source = KindContext(checkpoint, live=adapter, anatomy=anatomy)
        lines = common_lines(source, heads, layers, modules, uses)
    return recipe_of(model, data, lines, said_by="the options", overrides=overrides)


def common_lines(
    source: KindContext,
    heads: Sequence[str],
    layers: Sequence[str],
    modules: Sequence[str],
    uses: Mapping[str, float] | None,
) -> list[Line]:
    """Lines of a recipe, for patterns or ``all``; ``uses`` as of ``structure``.

    Raises ``UserError`` where the model has none of what is asked for.
    """
    parts: list[Part] = []
    if ALL in (*heads, *layers, *modules):
        parts = list(structure(source, uses).walk())[1:]
    checkpoint = source.checkpoint
    lines: list[Line] = []
    if ALL in heads:
        tell_of_uncounted(source)
    for one in heads:
        patterns = _heads(parts, checkpoint) if one == ALL else [one]
        lines += [{"kind": "heads", "pattern": pattern} for pattern in patterns]
    for one in layers:
        places = _layers(parts, str(checkpoint)) if one == ALL else [_split(one)]
        lines += [{"kind": "layers", "base": base, "part": part} for base, part in places]
    every = [part.name for part in parts if part.kind != "tensor"]
    lines += [{"kind": "modules", "pattern": every if one == ALL else [one]} for one in modules]
    return lines


def general(name: str) -> str:
    """A pattern for a module and those like it: its numbers become ``*``."""
    return ".".join("*" if level.isdecimal() else level for level in name.split("."))


def _heads(parts: Iterable[Part], checkpoint: Checkpoint) -> list[str]:
    attentions = [one for one in parts if one.kind == "attention"]
    if not any(one.heads for one in attentions):
        refuse_unreadable(checkpoint)
        for name, reason in checkpoint.quantized.items():
            raise not_cut(name, reason)
        raise UserError(
            f"{checkpoint} has no attention heads that can be told apart and removed; a recipe can "
            "say num_heads"
        )
    uncut = {general(one.name) for one in attentions if not one.heads}
    names = (one.name for one in attentions if one.heads)
    return list(dict.fromkeys(one if general(one) in uncut else general(one) for one in names))


def _layers(parts: Iterable[Part], where: str) -> list[tuple[str, str]]:
    branches = [one.name for one in parts if one.kind in ("attention", "feed-forward")]
    found = dict.fromkeys((m["base"], m["part"]) for m in map(_LAST.fullmatch, branches) if m)
    if not found:
        raise UserError(f"{where} has no layers with attention or feed-forward branches")
    return list(found)


_LAST = re.compile(r"(?P<base>.+)\.\d+\.(?P<part>.+)")  # the last number counts


def _split(pattern: str) -> tuple[str, str]:
    """The list of layers and the part of each."""
    base, star, part = pattern.partition(".*.")
    if not star or any(sign in f"{base}{part}" for sign in "*{}"):
        raise UserError(
            f'cannot read --layers "{pattern}"; expected all, or the list of layers, * and a part: '
            "decoder.layers.*.self_attn"
        )
    return base, part
