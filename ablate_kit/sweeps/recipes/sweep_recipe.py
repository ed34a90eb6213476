"""The YAML file that a sweep is made from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.kinds.combination import Combination
from ablate_kit.ablations.kinds.donor_modules import Patch
from ablate_kit.ablations.kinds.greedy_heads import HeadsGreedy
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext, Natural
from ablate_kit.ablations.kinds.kind_registry import KINDS
from ablate_kit.ablations.kinds.ranked import Ranked
from ablate_kit.ablations.kinds.shapley import Shapley
from ablate_kit.ablations.random_controls import random_controls
from ablate_kit.checkpoints.hub import with_commit
from ablate_kit.errors import CheckpointError, UserError
from ablate_kit.metrics.result import BASELINE
from ablate_kit.models.frameworks import own_code
from ablate_kit.shipped import recipe_file
from ablate_kit.sweeps.recipes.evaluation_settings import USUAL, EvaluationSettings
from ablate_kit.sweeps.recipes.model_section import ModelSection
from ablate_kit.sweeps.recipes.named_files import find_from
from detector.data.dataset import Dataset, shuffled
from detector.training.recipes.data_sections import ImagesSection, OneSet
from detector.training.recipes.recipe_file import (
    Given,
    Override,
    Section,
    WholeRecipe,
    given_recipe,
    read_recipe,
    validated,
)

if TYPE_CHECKING:
    Line = Kind
else:
    Line = Annotated[reduce(or_, KINDS.values()), Field(discriminator="kind")]


class RaceSection(Section):
    first: Annotated[int, Field(ge=20)] = 100  # images before the first look
    growth: Annotated[float, Field(gt=1, le=10)] = 1.5  # of the images from look to look
    # The chance of a verdict by the last image below which a variant is given up.
    futility: Annotated[float, Field(ge=0, lt=1)] = 0.2
    seed: Natural = 0  # of the order of the images


class ScreenSection(Section):
    keep: Count = 20  # with the largest estimates, which are evaluated
    sample: Natural = 20  # drawn from all and evaluated, to check estimates
    images: Count = 64  # that estimates are means over
    seed: Natural = 0  # of these images, and of the sample


class SweepRecipe(WholeRecipe):
    """A whole sweep."""

    # Rules are dataclasses, of which Pydantic in strictness takes JSON alone; a file is read so.
    model_config = ConfigDict(strict=False, allow_inf_nan=False)

    model: ModelSection
    data: ImagesSection
    reference: ImagesSection | None = None  # for means; by default the images of data
    ablations: Annotated[list[Line], Field(min_length=1)]
    evaluation: EvaluationSettings = USUAL
    race: RaceSection | None = None  # variants stop when they are decided
    screen: ScreenSection | None = None  # only those are evaluated that may matter
    max_variants: Count = 100_000  # more are a mistake, such as a zero too many

    def dataset(self) -> Dataset:
        """Its images, in the order in which they are evaluated."""
        images = self.data.dataset()
        return shuffled(images, self.race.seed) if self.race else images

    @property
    def searches(self) -> list[HeadsGreedy]:
        """The lines whose every round depends on the numbers of the one before."""
        return [line for line in self.ablations if isinstance(line, HeadsGreedy)]

    @property
    def rankings(self) -> list[Ranked]:
        """The lines that depend on the numbers of all others."""
        return [line for line in self.ablations if isinstance(line, Ranked)]

    @property
    def patch(self) -> Patch | None:
        """The line whose variants hold another checkpoint's tensors."""
        return next((line for line in self.ablations if isinstance(line, Patch)), None)

    def with_commits(self) -> "SweepRecipe":
        """The same with the commits that names of the hub stand for now."""
        named = self.model.checkpoint
        lines = [
            replace(line, donor=with_commit(line.donor)) if isinstance(line, Patch) else line
            for line in self.ablations
        ]
        model = self.model.model_copy(update={"checkpoint": with_commit(named)})
        return self.model_copy(update={"model": model, "ablations": lines})

    def make(self, source: KindContext) -> list[Ablation]:
        """All ablations, each once; refuses two of one name that differ, and the baseline's name.

        One that two lines make has the factors of both.
        """
        if self.screen:
            self._check_screen()
        for single, of in ((Patch, "donor"), (Shapley, "set of parts")):
            if sum(isinstance(line, single) for line in self.ablations) > 1:
                raise UserError(
                    f"two lines are of kind {single.kind}; give each {of} a recipe of its own"
                )
        found: dict[str, Ablation] = {}
        for ablation in self._all(source):
            if ablation.name == BASELINE:
                raise UserError(
                    f'an ablation is named "{BASELINE}", as the model that all are compared with; '
                    "give it another name"
                )
            known = found.setdefault(ablation.name, ablation)
            if known.digest != ablation.digest:
                raise UserError(
                    f'two ablations that differ are named "{ablation.name}"; give other patterns'
                )
            if known is not ablation:
                both = {**ablation.factors, **known.factors}
                # What is cut on the way of a random order may be asked for by itself, too.
                kind = ablation.kind if known.kind == Shapley.kind else known.kind
                found[known.name] = replace(known, kind=kind, factors=both)
        if self.screen and not any(one.edits and not one.live for one in found.values()):
            raise UserError(
                f"none of the {len(found)} ablations changes a weight, by which screen estimates "
                "them; leave screen out"
            )
        return list(found.values())

    def _check_screen(self) -> None:
        if self.race:
            raise UserError("screen and race do not go together; leave one of them out")
        for line in self.ablations:
            if isinstance(line, Combination | HeadsGreedy | Ranked):
                raise UserError(
                    f"screen chooses among single ablations, which {getattr(line, 'kind', '')} "
                    "joins; give those that a screened run has found to a recipe of their own"
                )

    def _all(self, source: KindContext) -> Iterable[Ablation]:
        shapes = source.checkpoint.shapes
        known: dict[str, Ablation] = {}
        total = 0
        for number, (line, first) in enumerate(self._counted(source)):
            with self._line(number):
                made = line.make(source) if first is None else first
            for ablation in made:
                known.setdefault(ablation.name, ablation)
                total += 1 + line.null_cuts
                yield ablation
                yield from random_controls(ablation, shapes, line.null_cuts)
        for number, line in enumerate(self.ablations):
            if not isinstance(line, Combination | Ranked):
                continue
            with self._line(number, f"ablations.{number}"):
                total += line.count(known) * (1 + line.null_cuts)
            self._check(number, total)
            if isinstance(line, Ranked):
                continue
            with self._line(number, f"ablations.{number}"):
                joined = line.combine(known)
            for joint in joined:
                known.setdefault(joint.name, joint)  # which a later line may join
                yield joint
                yield from random_controls(joint, shapes, line.null_cuts)

    def _counted(self, source: KindContext) -> list[tuple[Kind, list[Ablation] | None]]:
        """Each line with what it makes; of one that repeats that, a repeat was counted.

        A few digits of a recipe stand for more ablations than any memory holds.
        """
        found: list[tuple[Kind, list[Ablation] | None]] = []
        total = 0
        for number, line in enumerate(self.ablations):
            repeats = getattr(line, "repeats", 1)
            own = repeats * (1 + line.null_cuts)
            once = replace(line, repeats=1) if repeats > 1 else line  # type: ignore[call-arg]
            with self._line(number):
                made = once.make(source)
                total += len(made) * own
                if isinstance(line, HeadsGreedy):
                    steps, tries = line.size(source)
                    total += tries + steps * own
            self._check(number, total)
            found.append((line, made if once is line else None))
        return found

    def _check(self, number: int, total: int) -> None:
        if total > self.max_variants:
            where = self.place(("ablations", number)) or f"ablations.{number}"
            raise UserError(
                f"{where}: with this line the recipe makes {total:,} variants, more "
                f"than max_variants, {self.max_variants:,}; --set max_variants={total} allows them"
            )

    @contextmanager
    def _line(self, number: int, otherwise: str = "") -> Iterator[None]:
        """Says of a mistake in a line of ``ablations`` where that stands; ``otherwise`` of one that
        speaks of the other lines, which no file holds."""
        try:
            yield
        except CheckpointError:  # the file's own
            raise
        except UserError as error:
            where = self.place(("ablations", number)) or otherwise
            raise UserError(f"{where}: {error}" if where else str(error)) from None


def load_sweep(path: Path, overrides: Iterable[str | Override] = ()) -> SweepRecipe:
    """The recipe in a YAML file, changed by ``key.key=value`` overrides.

    ``builtin:NAME`` is one that is shipped. Files that a recipe names are found from its folder;
    those that an override names, from where we are.

    A recipe cannot name code that is run; whoever runs it can.
    """
    path = recipe_file(path, "sweep")
    given = read_recipe(path, list(overrides), "model, data, ablations")
    if path.is_file():  # and no pipe, which has no folder
        find_from(path, given)
    recipe = validated(SweepRecipe, given)
    where = given.where(("model", "framework"))
    own = (recipe.model.framework or "").partition(":")[0] == own_code.NAME
    if own and where.startswith(f"{path}:"):
        raise UserError(
            f"{where}: a recipe cannot name code to run; whoever runs it can, with --model "
            f"{recipe.model.framework}"
        )
    return recipe


def recipe_of(
    model: ModelSection,
    data: OneSet,
    lines: Sequence[Mapping[str, Any]],
    evaluation: EvaluationSettings = USUAL,
    *,
    said_by: str,
    overrides: Sequence[str | Override] = (),
) -> SweepRecipe:
    """The recipe of these lines; errors say that it is ``said_by`` whom it came from."""
    values = {
        "model": model.model_dump(mode="json", exclude_defaults=True),
        "data": {"kind": data.kind, **data.model_dump(mode="json", exclude_defaults=True)},
        "ablations": list(lines),
        "evaluation": evaluation.model_dump(mode="json", exclude_defaults=True),
    }
    return validated(SweepRecipe, given_recipe(values, said_by, overrides))


class _OneLine(Section):
    model_config = SweepRecipe.model_config

    ablation: Line


def parse_kind(settings: Mapping[str, Any]) -> Kind:
    """A line of ``ablations``, given as its keys; raises ``UserError`` as a recipe does."""
    return validated(_OneLine, Given({"ablation": dict(settings)}, "ablations", {})).ablation
