"""The YAML file that a study of retrained arms is made from."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ablate_kit.checkpoints.digest import digest
from ablate_kit.errors import UserError
from ablate_kit.shipped import named_in, recipe_file
from detector.disk.lines import key_of
from detector.disk.links import beside
from detector.training.recipes.recipe_file import (
    Count,
    Given,
    Override,
    Section,
    read_recipe,
    validated,
)
from detector.training.recipes.train_recipe import TrainRecipe, load_recipe
from detector.training.seeds import Seed
from detector.zoo import BUILTIN


class Arm(Section):
    """Changes to the base recipe, and whether training starts from pretrained parts."""

    model_config = ConfigDict(populate_by_name=True)

    name: Annotated[str, Field(pattern=r"^[\w.+-]+$")]
    changes: Annotated[dict[str, Any], Field(alias="set")] = {}
    pretrained: str | None = None  # a file that `ablate graft --from` takes
    parts: Annotated[list[Literal["backbone", "neck"]], Field(min_length=1)] = ["backbone", "neck"]


class RetrainRecipe(Section):
    """A study: arms times seeds of one training recipe, compared with the first arm."""

    base: str  # a training recipe, found from this file's folder, or builtin:NAME
    set: dict[str, Any] = {}  # changes to it, for all arms
    seeds: Annotated[list[Seed], Field(min_length=1)] = [1, 2, 3]
    weights: Literal["last", "best"] = "last"
    arms: Annotated[list[Arm], Field(min_length=1)]
    max_runs: Count = 1000


@dataclass(frozen=True)
class Run:
    """One training run of a study."""

    arm: str
    seed: int
    recipe: TrainRecipe
    pretrained: Path | None
    parts: tuple[str, ...]
    weights: Literal["last", "best"]
    key: str  # digest of all that decides the result

    @property
    def name(self) -> str:
        return f"{self.arm}-seed{self.seed}"


def load_retraining(path: Path, overrides: Sequence[str] = ()) -> tuple[RetrainRecipe, list[Run]]:
    """The study in a YAML file and its runs, seed by seed.

    An override changes the study (``seeds=[1]``) or else the training recipe of all arms
    (``training.epochs=2``), where an arm's own changes come last.

    The first seed's arms come before the second's, so that an unfinished study compares all arms.
    Raises ``UserError`` for whatever cannot be trained, before anything is.
    """
    own = [one for one in overrides if re.split("[=.]", one)[0] in RetrainRecipe.model_fields]
    given = read_recipe(path, own, "base, seeds, arms")
    study = validated(RetrainRecipe, given)
    names = [arm.name for arm in study.arms]
    for what, those in (("arms", names), ("seeds", study.seeds)):
        if len(set(those)) < len(those):
            raise UserError(f"{path}: two of the {what} are the same: {those}")
    count = len(study.arms) * len(study.seeds)
    if count > study.max_runs:
        raise UserError(
            f"{path}: {len(study.arms):,} arms times {len(study.seeds):,} seeds are {count:,} "
            f"runs, more than max_runs, {study.max_runs:,}; --set max_runs={count} allows them"
        )
    others = [text for text in overrides if text not in own]
    runs = [
        _run(path, given, study, number, seed, others)
        for seed in study.seeds
        for number in range(len(study.arms))
    ]
    return study, runs


def _run(
    path: Path, given: Given, study: RetrainRecipe, number: int, seed: int, overrides: Sequence[str]
) -> Run:
    arm = study.arms[number]
    own = [
        Override(key, value, given.where(("arms", number, "set", key)))
        for key, value in arm.changes.items()
    ]
    chosen = [*(one.key for one in own), *(text.partition("=")[0] for text in overrides)]
    if "training.seed" in chosen:
        raise UserError(f"{path}: arm {arm.name} sets training.seed; give seeds instead")
    common = [Override(key, value, given.where(("set", key))) for key, value in study.set.items()]
    seeded = Override("training.seed", seed, given.where(("seeds",)))
    changes: list[str | Override] = [*common, *overrides, *own, seeded]
    try:
        base = Path(study.base) if study.base.startswith(BUILTIN) else beside(path, study.base)
        recipe = load_recipe(recipe_file(base, "train"), changes)
        recipe.check_model()
    except UserError as error:
        raise UserError(f"arm {arm.name}: {error}") from None
    pretrained = named_in(path, arm.pretrained) if arm.pretrained else None
    if pretrained is None and "parts" in arm.model_fields_set:
        raise UserError(f"arm {arm.name}: parts has no effect without pretrained")
    if pretrained is not None and not pretrained.is_file():
        raise UserError(f"arm {arm.name}: no file {pretrained}")
    # Neither says anything about the weights that come of it.
    settings = recipe.model_dump(mode="json", exclude={"training": {"workers", "log"}})
    # By its earlier name, so that the keys of finished runs stay the same.
    settings["training"]["recompute"] = settings["training"].pop("activation_checkpointing")
    parts = {
        "recipe": settings,
        "pretrained": digest([pretrained]) if pretrained else None,
        "parts": sorted(arm.parts) if pretrained else [],
        "weights": study.weights,
    }
    key = key_of(json.dumps(parts, sort_keys=True))
    return Run(arm.name, seed, recipe, pretrained, tuple(arm.parts), study.weights, key)
