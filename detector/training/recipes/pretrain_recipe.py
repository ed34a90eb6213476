"""The YAML file that a pretraining run is made from."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field, model_validator

from detector.config import HybridConfig, preset
from detector.data.augmentation.rand_augment import STRONGEST
from detector.errors import UserError, did_you_mean
from detector.training.recipes.loop_recipe import LoopOptions
from detector.training.recipes.pretrain_data import FolderData, HuggingFaceData, ShapeCropsData
from detector.training.recipes.recipe_file import (
    Count,
    Nonnegative,
    Positive,
    Probability,
    Rate,
    Section,
    Share,
    WholeRecipe,
    WrongValueError,
    of_model,
    read_recipe,
    refuse_unknown,
    validated,
)

if TYPE_CHECKING:
    from detector.data.augmentation.image_transforms import Augment, CenterCrop

Begin = Annotated[float, Field(ge=0, lt=1)]

# Learning rate of each kind of parameter over the base rate, as the thesis pretrains.
MULTIPLIERS: dict[str, float] = {
    "backbone": 1.0,
    "neck": 1.0,
    "classifier": 1.5,
    "dcn_offsets": 2.0,
    "position_bias": 8.0,
    "layer_scale": 0.3,
    "scalars": 1.0,
}

# Settings of HybridConfig that build the backbone and the neck; the others are the transformer's.
OF_NECK = ("d_model", "neck_repeats")
OF_BACKBONE = (
    "widths", "depths", "norm", "layer_scale", "drop_path", "dcn_offset_scale", "dcn_grid",
    "attention_depth", "attention_heads", "attention_kernel", "stage2", "stage2_deform_norm",
    "stage2_dropout", "gate_kernels", "gate_spatial", "gate_deform_share", "mlp_ratio", "pgi",
    "pgi_in_evaluation", "csi",
)  # fmt: skip


class Heads(Section):
    neck: bool = True  # pretrain the neck, too
    multi_head: bool = True  # a head per level, or one on all


class Augmentation(Section):
    image_size: Annotated[int, Field(ge=64)] = 224  # side of the input; p6 is a 32nd of it
    val_resize: Count = 256  # shorter side, before the middle is cut out
    area: Annotated[list[Share], Field(min_length=2, max_length=2)] = [0.08, 1.0]  # of random crops
    flip: Probability = 0.5
    # Operations and their magnitude; null: none.
    randaugment: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = [2, 9]
    # Brightness, contrast, saturation, hue; null: none.
    color_jitter: Annotated[list[Probability], Field(min_length=4, max_length=4)] | None = [
        0.4, 0.4, 0.4, 0.1,
    ]  # fmt: skip
    erase: Probability = 0.2

    @model_validator(mode="after")
    def _possible(self) -> "Augmentation":
        if self.val_resize < self.image_size:
            raise ValueError(f"val_resize {self.val_resize} is below image_size {self.image_size}")
        if self.area[0] > self.area[1]:
            raise ValueError(f"area is {self.area}; expected the smaller share first")
        if self.randaugment and self.randaugment[1] > STRONGEST:
            raise ValueError(f"randaugment has magnitude {self.randaugment[1]}; at most 30 exist")
        if self.color_jitter and self.color_jitter[3] > 0.5:
            raise ValueError(f"color_jitter turns hues by {self.color_jitter[3]}; at most 0.5")
        return self

    def training(self) -> "Augment":
        from detector.data.augmentation.image_transforms import Augment  # which needs torch

        jitter, operations = self.color_jitter, self.randaugment
        return Augment(
            size=self.image_size,
            area=(self.area[0], self.area[1]),
            flip=self.flip,
            randaugment=(operations[0], operations[1]) if operations else None,
            jitter=(jitter[0], jitter[1], jitter[2], jitter[3]) if jitter else None,
            erase=self.erase,
        )

    def validation(self) -> "CenterCrop":
        from detector.data.augmentation.image_transforms import CenterCrop

        return CenterCrop(self.image_size, self.val_resize)


class Auxiliary(Section):
    """Weights of the losses of p3, p4, p5, p6 from a share of all epochs on."""

    begin: Begin
    weights: Annotated[list[Nonnegative], Field(min_length=4, max_length=4)]


class Mixing(Section):
    """How batches are mixed from a share of all epochs on; see ``mix``."""

    begin: Begin
    probability: Probability
    mixup: Nonnegative = 0.0
    cutmix: Nonnegative = 0.0

    @model_validator(mode="after")
    def _mixes(self) -> "Mixing":
        if (self.probability > 0) != (self.mixup > 0 or self.cutmix > 0):
            raise ValueError("a probability goes with mixup or cutmix above 0, and 0 with neither")
        return self


class Pretraining(LoopOptions):
    """The loop's settings, with the thesis' values, and what pretraining has beside them."""

    epochs: Count = 200
    batch_size: Count = 64
    lr: Rate = 2e-4
    warmup_epochs: Nonnegative = 1.0
    clip: Positive = 5.0
    clip_offsets: Positive = 0.12
    ema: Annotated[float, Field(ge=0, lt=1)] | None = 0.999
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    auxiliary: list[Auxiliary] = [
        Auxiliary(begin=0.0, weights=[0.3, 0.5, 0.5, 0.3]),
        Auxiliary(begin=0.3, weights=[0.2, 0.4, 0.4, 0.2]),
        Auxiliary(begin=0.7, weights=[0.1, 0.2, 0.2, 0.1]),
        Auxiliary(begin=0.9, weights=[0.05, 0.1, 0.1, 0.05]),
    ]
    mixing: list[Mixing] = [
        Mixing(begin=0.05, probability=0.3, mixup=0.3, cutmix=0.3),
        Mixing(begin=0.15, probability=0.9, mixup=0.5, cutmix=0.9),
        Mixing(begin=0.5, probability=0.9, mixup=0.6, cutmix=1.0),
        Mixing(begin=0.8, probability=0.9, mixup=0.6, cutmix=1.1),
    ]

    @model_validator(mode="after")
    def _ascending(self) -> "Pretraining":
        for name in ("auxiliary", "mixing"):
            begins = [entry.begin for entry in getattr(self, name)]
            if begins != sorted(set(begins)):
                raise ValueError(f"{name} begins at {begins}; expected growing shares of the run")
        return self


class PretrainRecipe(WholeRecipe):
    """A whole run. ``model`` holds ``preset`` and settings of the backbone and the neck."""

    model: dict[str, Any]
    classifier: Heads = Heads()
    data: Annotated[FolderData | HuggingFaceData | ShapeCropsData, Field(discriminator="kind")]
    augmentation: Augmentation = Augmentation()
    training: Pretraining = Pretraining()

    @model_validator(mode="after")
    def _levels(self) -> "PretrainRecipe":
        if not self.classifier.multi_head and "auxiliary" in self.training.model_fields_set:
            raise ValueError("training.auxiliary weighs heads that classifier.multi_head: false "
                             "does not have")  # fmt: skip
        return self

    def config(self, classes: Sequence[str]) -> HybridConfig:
        """The config of the detector whose backbone and neck are pretrained."""
        with self.placed():
            return self._config(len(classes))

    def _config(self, classes: int) -> HybridConfig:
        changes = dict(self.model)
        with of_model(self.model):
            base = preset(changes.pop("preset", "thesis"))
        known = OF_BACKBONE + (OF_NECK if self.classifier.neck else ())
        for name in changes:
            if name in known:
                continue
            if name in OF_NECK:
                problem = f"model.{name} has no effect without classifier.neck"
            elif name in {field.name for field in fields(HybridConfig)}:
                problem = f"model.{name} has no effect on the backbone or the neck"
            else:
                near = did_you_mean(name, ("preset", *known))
                problem = f'unknown key "model.{name}"{near}'
            raise WrongValueError(("model", name), problem)
        size = self.augmentation.image_size
        try:
            sized = base.replace(image_size=size)
        except UserError as error:
            raise WrongValueError(("augmentation", "image_size"), str(error)) from None
        with of_model(self.model):
            return sized.replace(num_classes=classes, **changes)

    def check_model(self) -> None:
        """Raises ``UserError`` for what ``config`` refuses whatever the classes are."""
        self.config([""])

    def multipliers(self) -> dict[str, float]:
        refuse_unknown(("training", "multipliers"), self.training.multipliers, list(MULTIPLIERS))
        return MULTIPLIERS | self.training.multipliers

    def resolved(self) -> dict[str, Any]:
        """Everything filled in, as a recipe that says the same."""
        values = self.model_dump(mode="json")
        if not self.classifier.multi_head:
            del values["training"]["auxiliary"]
        return values


Entry = TypeVar("Entry", Auxiliary, Mixing)


def current(schedule: Sequence[Entry], epoch: int, epochs: int) -> Entry | None:
    """The last entry that has begun in epoch ``epoch`` (from 0) of ``epochs``."""
    begun = [entry for entry in schedule if entry.begin <= epoch / epochs]
    return begun[-1] if begun else None


def load_pretrain_recipe(path: Path, overrides: Sequence[str] = ()) -> PretrainRecipe:
    """The recipe in a YAML file, changed by ``key.key=value`` overrides (values are YAML)."""
    keys = "model, classifier, data, augmentation, training"
    given = read_recipe(path, overrides, keys)
    recipe = validated(PretrainRecipe, given)
    with recipe.placed():
        recipe.multipliers()
    return recipe
