"""The YAML file that a sweep is made from."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import Attention, select_attentions
from ablate_kit.ablations.components import component
from ablate_kit.ablations.heads import heads_chosen, heads_drawn, heads_each
from ablate_kit.ablations.layers import layers
from ablate_kit.ablations.null import matched
from ablate_kit.ablations.retain import cumulative, retained
from ablate_kit.ablations.scale import noisy, scaled
from ablate_kit.ablations.select import select
from ablate_kit.ablations.skip import skips
from ablate_kit.ablations.units import units
from ablate_kit.ablations.write import file_name
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError, did_you_mean
from detector.data.coco import Coco
from detector.data.dataset import Dataset, limit
from detector.data.shapes import Shapes
from detector.data.voc import Voc
from detector.training.recipe_file import read_recipe

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Percents = Annotated[list[float], Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Section):
    """Annotated images: of COCO files, of PASCAL VOC, or the built-in shapes."""

    kind: Literal["coco", "voc", "shapes"]
    annotations: str | None = None  # coco
    images: str | None = None
    root: str | None = None  # voc
    split: str = "2007:test"
    difficult: Literal["ignore", "keep", "drop"] = "ignore"
    limit: Count | None = None

    def dataset(self) -> Dataset:
        found: Dataset
        if self.kind == "coco":
            found = Coco(self._path("annotations"), self._path("images"))
        elif self.kind == "voc":
            found = Voc(self._path("root"), self.split, difficult=self.difficult)
        else:
            found = Shapes(200, seed=1, split=1)
        return limit(found, self.limit) if self.limit else found

    def _path(self, name: str) -> Path:
        value = getattr(self, name)
        if value is None:
            raise UserError(f"data.{name} is not set: give --set data.{name}=PATH")
        return Path(value)


class _Rule(_Section):
    null_cuts: Natural = 0  # random cuts of the same size, for each ablation, to read it against

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        raise NotImplementedError


class _OfHeads(_Rule):
    pattern: str
    num_heads: Count | None = None  # where the checkpoint's config does not tell

    def modules(self, checkpoint: Checkpoint) -> list[Attention]:
        return select_attentions(
            self.pattern,
            checkpoint.tensors,
            str(checkpoint),
            config=checkpoint.config,
            heads=self.num_heads,
        )


class HeadsEach(_OfHeads):
    """Every head of the modules, one by one."""

    kind: Literal["heads"]

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        return heads_each(self.modules(checkpoint))


class HeadsChosen(_OfHeads):
    """The same heads of all modules at once."""

    kind: Literal["heads-chosen"]
    heads: Annotated[list[Natural], Field(min_length=1)]

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        modules = self.modules(checkpoint)
        return [heads_chosen(modules, self.heads, file_name(self.pattern))]


class HeadsDrawn(_OfHeads):
    """A random share of each module's heads."""

    kind: Literal["heads-random"]
    percent: Percents
    repeats: Count = 1
    seed: int = 42

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        return heads_drawn(
            self.modules(checkpoint),
            self.percent,
            file_name(self.pattern),
            repeats=self.repeats,
            seed=self.seed,
        )


class HeadsRetained(_OfHeads):
    """All heads of a module but one, for each of its heads."""

    kind: Literal["heads-retained"]

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        return retained(self.modules(checkpoint))


class HeadsCumulative(_OfHeads):
    """More and more heads over all modules, in a random order per repeat."""

    kind: Literal["heads-cumulative"]
    steps: Count = 8
    repeats: Count = 1
    seed: int = 42

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        return cumulative(
            self.modules(checkpoint),
            file_name(self.pattern),
            steps=self.steps,
            repeats=self.repeats,
            seed=self.seed,
        )


class Units(_Rule):
    """A random share of each tensor's elements."""

    kind: Literal["units"]
    pattern: str
    percent: Percents
    repeats: Count = 1
    seed: int = 42

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        shapes = {
            name: checkpoint.tensors[name].shape for name in _floating(checkpoint, self.pattern)
        }
        return units(
            shapes,
            self.percent,
            repeats=self.repeats,
            seed=self.seed,
            label=file_name(self.pattern),
        )


class Component(_Rule):
    """Whole tensors, all at once."""

    kind: Literal["component"]
    patterns: Annotated[list[str], Field(min_length=1)]
    name: str | None = None

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        names = dict.fromkeys(
            name for pattern in self.patterns for name in _floating(checkpoint, pattern)
        )
        return [component(names, self.name or file_name("+".join(self.patterns)))]


class Modules(_Rule):
    """Each module that a pattern names, one by one."""

    kind: Literal["modules"]
    patterns: Annotated[list[str], Field(min_length=1)]

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        found = _modules(checkpoint, self.patterns)
        return [component(names, module) for module, names in found.items()]


class Skip(_Rule):
    """Each residual branch that a pattern names, one by one: it adds nothing."""

    kind: Literal["skip"]
    patterns: Annotated[list[str], Field(min_length=1)]

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        return skips(_modules(checkpoint, self.patterns), checkpoint.tensors)


class Layers(_Rule):
    """The same part of more and more layers."""

    kind: Literal["layers"]
    base: str
    part: str
    mode: Literal["progressive", "each", "backward"] = "progressive"

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        return layers(checkpoint.tensors, self.base, self.part, self.mode, str(checkpoint))


class Scale(_Rule):
    """Tensors times a factor."""

    kind: Literal["scale"]
    pattern: str
    factors: Annotated[list[float], Field(min_length=1)]

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        names = _floating(checkpoint, self.pattern)
        return scaled(names, self.factors, file_name(self.pattern))


class Noise(_Rule):
    """Tensors with normal noise added, relative to their own standard deviation."""

    kind: Literal["noise"]
    pattern: str
    percent: Percents
    repeats: Count = 1
    seed: int = 42

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        return noisy(
            _floating(checkpoint, self.pattern),
            self.percent,
            file_name(self.pattern),
            repeats=self.repeats,
            seed=self.seed,
        )


RULES: tuple[type[_Rule], ...] = (
    HeadsEach, HeadsChosen, HeadsDrawn, HeadsRetained, HeadsCumulative, Units, Component, Modules,
    Skip, Layers, Scale, Noise,
)  # fmt: skip
Rule = Annotated[
    HeadsEach | HeadsChosen | HeadsDrawn | HeadsRetained | HeadsCumulative | Units | Component
    | Modules | Skip | Layers | Scale | Noise,
    Field(discriminator="kind"),
]  # fmt: skip


class Model(_Section):
    checkpoint: str
    framework: str | None = None  # hybrid or transformers[:FOLDER]; told from the file
    weights: str | None = None  # which of the file's, if it holds several


class Evaluation(_Section):
    batch_size: Count = 8
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    resamples: Annotated[int, Field(ge=2)] = 2000
    seed: Natural = 0


class SweepRecipe(_Section):
    """A whole sweep."""

    model: Model
    data: Data
    ablations: Annotated[list[Rule], Field(min_length=1)]
    evaluation: Evaluation = Evaluation()

    def make(self, checkpoint: Checkpoint) -> list[Ablation]:
        """All ablations, each once; refuses two of one name that differ."""
        found: dict[str, Ablation] = {}
        for ablation in self._all(checkpoint):
            known = found.setdefault(ablation.name, ablation)
            if known.digest != ablation.digest:
                raise UserError(
                    f'two ablations that differ are named "{ablation.name}"; give other patterns'
                )
        return list(found.values())

    def _all(self, checkpoint: Checkpoint) -> Iterable[Ablation]:
        shapes = {name: info.shape for name, info in checkpoint.tensors.items()}
        for rule in self.ablations:
            for ablation in rule.make(checkpoint):
                yield ablation
                yield from matched(ablation, shapes, rule.null_cuts)


def load_sweep(path: Path, overrides: Iterable[str] = ()) -> SweepRecipe:
    """The recipe in a YAML file, changed by ``key.key=value`` overrides."""
    values = read_recipe(path, list(overrides), "model, data, ablations")
    try:
        return SweepRecipe.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_problem(error)}") from None


def _floating(checkpoint: Checkpoint, pattern: str) -> list[str]:
    names = select(pattern, checkpoint.tensors, str(checkpoint))
    return [name for name in names if checkpoint.tensors[name].is_floating]


def _modules(checkpoint: Checkpoint, patterns: Iterable[str]) -> dict[str, list[str]]:
    """The floating tensors of each module that a pattern names."""
    found: dict[str, list[str]] = {}
    for pattern in patterns:
        if "**" in pattern:
            raise UserError(f'cannot tell which modules "{pattern}" names: use * for a level')
        levels = pattern.count(".") + 1
        for name in _floating(checkpoint, pattern):
            found.setdefault(".".join(name.split(".")[:levels]), []).append(name)
    return found


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    kinds: dict[Any, type[BaseModel]] = {
        rule.model_fields["kind"].annotation.__args__[0]: rule  # type: ignore[union-attr]
        for rule in RULES
    }
    steps = [step for step in problem["loc"] if step not in kinds]
    place = ".".join(map(str, steps))
    if problem["type"] == "extra_forbidden":
        sections: dict[Any, type[BaseModel]] = {
            "model": Model,
            "data": Data,
            "evaluation": Evaluation,
            **kinds,
        }
        inside = [sections[step] for step in problem["loc"][:-1] if step in sections]
        section: type[BaseModel] = inside[-1] if inside else SweepRecipe
        known = section.model_fields
        return f'unknown key "{place}"{did_you_mean(str(steps[-1]), known)}'
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        given = str(problem["input"].get("kind")) if isinstance(problem["input"], dict) else ""
        return (
            f'{place}: kind is "{given}"; expected {", ".join(kinds)}{did_you_mean(given, kinds)}'
        )
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{place}: {message}"
