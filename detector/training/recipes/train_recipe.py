"""The YAML file that a training run is made from."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import Field

from detector.config import HybridConfig, preset
from detector.errors import UserError
from detector.settings import STRIDES
from detector.training.loss_settings import SHARES, LossSettings
from detector.training.recipes.data_sections import CocoData, ShapesData, VocData, YoloData
from detector.training.recipes.loop_recipe import LoopOptions
from detector.training.recipes.recipe_file import (
    Given,
    Natural,
    Override,
    Probability,
    WholeRecipe,
    WrongValueError,
    of_model,
    read_recipe,
    refuse_unknown,
    validated,
)

# Learning rate of each kind of parameter over the base rate, as the thesis sets it. Kinds go by
# what a parameter is, not by what its name contains, and weight decay by tensor.
MULTIPLIERS: dict[str, float] = {
    "backbone": 0.5,
    "neck": 1.0,
    "transformer": 2.0,
    "dcn_offsets": 1.5,  # offsets and masks of DCNv4
    "sampling_bias": 1.5,  # biases of the sampling offsets of deformable attention
    "position_bias": 5.0,  # relative position biases of neighborhood attention
    "embeddings": 1.5,  # queries and levels
    "layer_scale": 0.3,
    "scalars": 1.0,  # single learned numbers: temperatures, shares
}

INIT = "init"
"""The preset that is the network of the checkpoint that training starts from."""


class Training(LoopOptions):
    """The loop's settings, and what a detector's training has beside them."""

    activation_checkpointing: bool = False  # slower, less memory, the same bits
    flip: Probability = 0.5
    color: Annotated[float, Field(ge=0, le=1)] = 0.0  # strength of the change of colors
    crop: Probability = 0.0  # of a random window that holds every box
    mosaic: Probability = 0.0  # of four images as one
    multi_scale: list[int] = []  # smallest and largest input size, drawn for each batch
    evaluate_train: Natural = 0  # training images to evaluate as well, without augmentation
    losses: dict[str, float | str] = {}  # changes to the loss settings
    denoising_warmup_epochs: Natural = 0  # in which its losses grow from a third to all

    def sizes(self) -> tuple[int, ...]:
        """The input sizes of ``multi_scale``: all multiples of 32 in it, or none."""
        given, step = self.multi_scale, STRIDES[-1]
        if not given:
            return ()
        if len(given) != 2 or not 0 < given[0] < given[1] or any(size % step for size in given):
            raise WrongValueError(
                ("training", "multi_scale"),
                f"training.multi_scale is {given}; expected the smallest and the largest input "
                f"size, multiples of {step}, such as [320, 640]",
            )
        return tuple(range(given[0], given[1] + 1, step))


class TrainRecipe(WholeRecipe):
    """A whole run. ``model`` holds ``preset`` and any setting of ``HybridConfig``.

    The preset ``INIT`` is filled in before: with the network of a checkpoint.
    """

    model: dict[str, Any]
    data: Annotated[VocData | CocoData | YoloData | ShapesData, Field(discriminator="kind")]
    training: Training = Training()

    def config(self, classes: Sequence[str]) -> HybridConfig:
        """The model's config for this number of classes."""
        with self.placed():
            config = self._config({"num_classes": len(classes)} | self.model)
            if config.num_classes != len(classes):
                raise WrongValueError(
                    ("model", "num_classes"),
                    f"model.num_classes is {config.num_classes}; the data has {len(classes)} "
                    "classes",
                )
        return config

    def check_model(self) -> None:
        """Raises ``UserError`` for what ``config`` refuses whatever the classes are."""
        with self.placed():
            self._config(dict(self.model))

    def _config(self, changes: dict[str, Any]) -> HybridConfig:
        if changes.get("preset") == INIT:
            raise WrongValueError(
                ("model", "preset"),
                f'model.preset "{INIT}" is the network of the checkpoint that ablate train --init '
                "starts from; give --init",
            )
        with of_model(self.model):
            config = preset(changes.pop("preset", "thesis")).replace(**changes)
        self._check_parts(config)
        for size in self.training.multi_scale:
            try:
                config.replace(image_size=size)
            except UserError as error:
                raise WrongValueError(
                    ("training", "multi_scale"), f"training.multi_scale: {error}"
                ) from None
        return config

    def _check_parts(self, config: HybridConfig) -> None:
        """Refuses settings of losses for parts that the model lacks."""
        parts = {
            "iou": ("iou_head", config.iou_head),
            "quality_predicted": ("iou_head", config.iou_head),
            "objectness": ("query_objectness", config.query_objectness),
            "aux": ("aux_loss", config.aux_loss),
            "dense": ("aux_loss", config.aux_loss),
        }
        denoising = ("denoising", config.denoising != "none")
        for name in self.training.losses:
            switch, there = denoising if name.startswith("denoising_") else parts.get(name, ("", 1))
            if not there:
                raise WrongValueError(
                    ("training", "losses", name),
                    f"training.losses.{name} has no effect without model.{switch}",
                )
        if self.training.denoising_warmup_epochs and not denoising[1]:
            raise WrongValueError(
                ("training", "denoising_warmup_epochs"),
                "training.denoising_warmup_epochs has no effect without model.denoising",
            )

    def loss_settings(self) -> LossSettings:
        names = list(LossSettings.__dataclass_fields__)
        refuse_unknown(("training", "losses"), self.training.losses, names)
        for name, kind in get_type_hints(LossSettings).items():
            value, options = self.training.losses.get(name), get_args(kind)
            if value is None:
                continue
            told = f"training.losses.{name} is {value!r}; expected"
            if options and value not in options:
                expected = " or ".join(options)
                raise WrongValueError(("training", "losses", name), f"{told} {expected}")
            most = 1.0 if name in SHARES else sys.float_info.max
            if not options and not (isinstance(value, float) and 0 <= value <= most):
                expected = f"a number from 0 {'to 1' if name in SHARES else 'on'}"
                raise WrongValueError(("training", "losses", name), f"{told} {expected}")
        return LossSettings(**self.training.losses)  # type: ignore[arg-type]

    def resolved(self) -> dict[str, Any]:
        """Everything filled in, as a recipe that says the same."""
        return self.model_dump(mode="json")

    def multipliers(self) -> dict[str, float]:
        refuse_unknown(("training", "multipliers"), self.training.multipliers, list(MULTIPLIERS))
        return MULTIPLIERS | self.training.multipliers


def load_recipe(path: Path, overrides: Sequence[str | Override] = ()) -> TrainRecipe:
    """The recipe in a YAML file, changed by ``key.key=value`` overrides (values are YAML)."""
    return _checked(read_recipe(path, overrides, "model, data, training"))


def parse_recipe(values: dict[str, Any], where: str) -> TrainRecipe:
    return _checked(Given(values, where, {}))


def _checked(given: Given) -> TrainRecipe:
    recipe = validated(TrainRecipe, given)
    with recipe.placed():
        recipe.loss_settings()
        recipe.multipliers()
        recipe.training.sizes()
    return recipe
