"""A sweep's recipe as the YAML file that makes it again."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from ablate_kit.ablations.kinds.kind import Kind
from ablate_kit.metrics.clusters import is_file
from ablate_kit.models.frameworks import own_code
from ablate_kit.sweeps.recipes.named_files import IMAGE_FILES
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from detector.zoo import BUILTIN


def recipe_text(recipe: SweepRecipe) -> str:
    """YAML that ``load_sweep`` reads as this recipe, from whatever folder it lies in.

    Code of one's own is left out, which no recipe can name.
    """
    comment = ""
    told: dict[str, Any] = {
        "model": _section(recipe.model, ("checkpoint", "class_names")),
        "data": {"kind": recipe.data.kind, **_section(recipe.data, IMAGE_FILES)},
    }
    framework, colon, place = (recipe.model.framework or "").partition(":")
    if framework == own_code.NAME:
        del told["model"]["framework"]
        comment = f"(with --model {recipe.model.framework})"
    elif colon:
        told["model"]["framework"] = f"{framework}:{_absolute(place)}"
    if recipe.reference:
        files = _section(recipe.reference, IMAGE_FILES)
        told["reference"] = {"kind": recipe.reference.kind, **files}
    if recipe.race:
        told["race"] = _section(recipe.race)
    if recipe.screen:
        told["screen"] = _section(recipe.screen)
    told["ablations"] = [_line(rule) for rule in recipe.ablations]
    clusters = recipe.evaluation.cluster
    evaluation = _section(recipe.evaluation, ("cluster",) if clusters and is_file(clusters) else ())
    if evaluation:
        told["evaluation"] = evaluation
    if recipe.max_variants != SweepRecipe.model_fields["max_variants"].default:
        told["max_variants"] = recipe.max_variants
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    return lines + yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=100)


def _section(section: BaseModel, files: tuple[str, ...] = ()) -> dict[str, Any]:
    """What is not as it is by default."""
    values = section.model_dump(mode="json", exclude_defaults=True)
    return {key: _absolute(one) if key in files else one for key, one in values.items()}


def _absolute(name: str) -> str:
    return name if name.startswith(BUILTIN) else str(Path(name).absolute())


def _line(rule: Kind) -> dict[str, Any]:
    own = {one.name: getattr(rule, one.name) for one in fields(rule)}
    defaults = {one.name: one.default for one in fields(rule) if one.name != "kind"}
    return {
        "kind": own.pop("kind"),
        **{
            key: _absolute(value) if key == "donor" else value
            for key, value in own.items()
            if value != defaults[key]
        },
    }
