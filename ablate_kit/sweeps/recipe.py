"""The YAML file that a sweep is made from."""

from collections.abc import Iterable
from dataclasses import fields
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.null import matched
from ablate_kit.ablations.rule import Count, Natural, Rule, Source
from ablate_kit.ablations.rules import RULES
from ablate_kit.errors import UserError, did_you_mean
from detector.data.coco import Coco
from detector.data.dataset import Dataset, limit
from detector.data.fields import Difficult
from detector.data.image_files import Exif
from detector.data.shapes import Shapes
from detector.data.voc import Voc, read_classes
from detector.training.recipe_file import read_recipe

if TYPE_CHECKING:
    Line = Rule
else:
    Line = Annotated[reduce(or_, RULES), Field(discriminator="kind")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Section):
    """Annotated images: of COCO files, of PASCAL VOC, or the built-in shapes."""

    kind: Literal["coco", "voc", "shapes"]
    annotations: str | None = None  # coco
    images: str | None = None
    root: str | None = None  # voc
    split: str = "2007:test"
    difficult: Difficult = "ignore"
    classes: str | None = None  # file of class names, of VOC data that has its own
    exif: Exif = "ignore"
    limit: Count | None = None

    def dataset(self) -> Dataset:
        found: Dataset
        if self.kind == "coco":
            found = Coco(
                self._path("annotations"),
                self._path("images"),
                difficult=self.difficult,
                exif=self.exif,
            )
        elif self.kind == "voc":
            found = Voc(
                self._path("root"),
                self.split,
                difficult=self.difficult,
                classes=read_classes(Path(self.classes)) if self.classes else None,
                exif=self.exif,
            )
        else:
            found = Shapes(200, seed=1, split=1)
        return limit(found, self.limit) if self.limit else found

    def _path(self, name: str) -> Path:
        value = getattr(self, name)
        if value is None:
            raise UserError(f"data.{name} is not set: give --set data.{name}=PATH")
        return Path(value)


class Model(_Section):
    checkpoint: str
    framework: str | None = None  # hybrid, transformers[:FOLDER], mmdet[:CONFIG.py]
    weights: str | None = None  # which of the file's, if it holds several
    class_names: Path | None = None  # a file of names for its classes, one to a line


class Evaluation(_Section):
    batch_size: Count = 8
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    resamples: Annotated[int, Field(ge=2)] = 2000
    seed: Natural = 0


class SweepRecipe(_Section):
    """A whole sweep."""

    model: Model
    data: Data
    reference: Data | None = None  # images that means are taken over; by default those of data
    ablations: Annotated[list[Line], Field(min_length=1)]
    evaluation: Evaluation = Evaluation()

    def make(self, source: Source) -> list[Ablation]:
        """All ablations, each once; refuses two of one name that differ."""
        found: dict[str, Ablation] = {}
        for ablation in self._all(source):
            known = found.setdefault(ablation.name, ablation)
            if known.digest != ablation.digest:
                raise UserError(
                    f'two ablations that differ are named "{ablation.name}"; give other patterns'
                )
        return list(found.values())

    def _all(self, source: Source) -> Iterable[Ablation]:
        shapes = {name: info.shape for name, info in source.checkpoint.tensors.items()}
        for rule in self.ablations:
            for ablation in rule.make(source):
                yield ablation
                yield from matched(ablation, shapes, rule.null_cuts)


def load_sweep(path: Path, overrides: Iterable[str] = ()) -> SweepRecipe:
    """The recipe in a YAML file, changed by ``key.key=value`` overrides."""
    values = read_recipe(path, list(overrides), "model, data, ablations")
    try:
        return SweepRecipe.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    unknown = ("extra_forbidden", "unexpected_keyword_argument")
    # A key that is missing may be one that is misspelled: that tells more.
    problem = next((one for one in problems if one["type"] in unknown), problems[0])
    kinds = {_kind(rule): [field.name for field in fields(rule)] for rule in RULES}
    steps = [step for step in problem["loc"] if step not in kinds]
    place = ".".join(map(str, steps))
    if problem["type"] in unknown:
        sections = {
            "model": list(Model.model_fields),
            "data": list(Data.model_fields),
            "reference": list(Data.model_fields),
            "evaluation": list(Evaluation.model_fields),
            **kinds,
        }
        inside = [sections[str(step)] for step in problem["loc"][:-1] if str(step) in sections]
        known = inside[-1] if inside else SweepRecipe.model_fields
        return f'unknown key "{place}"{did_you_mean(str(steps[-1]), known)}'
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        given = str(problem["input"].get("kind")) if isinstance(problem["input"], dict) else ""
        return (
            f'{place}: kind is "{given}"; expected {", ".join(kinds)}{did_you_mean(given, kinds)}'
        )
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{place}: {message}"


def _kind(rule: type[Rule]) -> str:
    return next(str(field.default) for field in fields(rule) if field.name == "kind")
