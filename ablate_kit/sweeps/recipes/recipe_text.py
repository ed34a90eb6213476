"""A sweep's recipe as the YAML file that makes it again."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from ablate_kit.ablations.kinds.kind import Kind
from ablate_kit.models.frameworks import own_code
from ablate_kit.sweeps.recipes.named_files import below
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe


def recipe_text(recipe: SweepRecipe) -> str:
    """YAML that ``load_sweep`` reads as this recipe, from whatever folder it lies in.

    Code of one's own is left out, which no recipe can name.
    """
    comment = ""
    told: dict[str, Any] = {
        "model": _section(recipe.model),
        "data": {"kind": recipe.data.kind, **_section(recipe.data)},
    }
    framework = recipe.model.framework or ""
    if framework.partition(":")[0] == own_code.NAME:
        del told["model"]["framework"]
        comment = f"(with --model {framework})"
    if recipe.reference:
        told["reference"] = {"kind": recipe.reference.kind, **_section(recipe.reference)}
    if recipe.race:
        told["race"] = _section(recipe.race)
    if recipe.screen:
        told["screen"] = _section(recipe.screen)
    told["ablations"] = [_line(rule) for rule in recipe.ablations]
    if evaluation := _section(recipe.evaluation):
        told["evaluation"] = evaluation
    if recipe.max_variants != SweepRecipe.model_fields["max_variants"].default:
        told["max_variants"] = recipe.max_variants
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    return lines + yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=100)


def _section(section: BaseModel) -> dict[str, Any]:
    """What is not as it is by default."""
    return below(Path.cwd(), section.model_dump(mode="json", exclude_defaults=True))


def _line(rule: Kind) -> dict[str, Any]:
    own = {one.name: getattr(rule, one.name) for one in fields(rule)}
    defaults = {one.name: one.default for one in fields(rule) if one.name != "kind"}
    if "donor" in own:
        own |= below(Path.cwd(), {"donor": own["donor"]})
    return {
        "kind": own.pop("kind"),
        **{key: value for key, value in own.items() if value != defaults[key]},
    }
