"""The options that say what the model of a checkpoint is."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from typer import Option

from ablate_kit.cli.common_options import Download, Weights
from ablate_kit.cli.early import check_files
from ablate_kit.models.frameworks import own_code
from ablate_kit.models.opening.framework_registry import USAGE, check_model
from ablate_kit.models.unsupported.known_elsewhere import OWN

if TYPE_CHECKING:
    from ablate_kit.checkpoints import Checkpoint
    from ablate_kit.models.adapter import Adapter
    from ablate_kit.sweeps.recipes.model_section import ModelSection

Model = Annotated[
    str | None,
    Option("--model", help=f"What runs the checkpoint: {USAGE} or {OWN}; recognized by default."),
]
Trust = Annotated[
    bool, Option("--trust-remote-code", help="Let a folder or configuration run its own code.")
]
ClassNames = Annotated[
    Path | None,
    Option(
        "--class-names",
        help="Names of the model's classes, one to a line in the order of its outputs; or COCO "
        "annotations, of a model that numbers its outputs by category id.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a checkpoint becomes a detector."""

    PANEL: ClassVar[str] = "Model"

    model: Model = None
    class_names: ClassNames = None
    trust_remote_code: Trust = False
    weights: Weights = None
    allow_download: Download = False

    def __post_init__(self) -> None:
        """What takes no time to find is told before anything is imported."""
        check_files(self.class_names)
        check_model(self.model)

    def any(self) -> bool:
        """Whether any of the options is given."""
        return any(getattr(self, one.name) != one.default for one in fields(self))

    def open(self, checkpoint: "Checkpoint", device: str = "cpu") -> "Adapter":
        """The detector of a checkpoint."""
        from ablate_kit.models.opening.open import open_adapter

        return open_adapter(
            checkpoint,
            self.model,
            trust_remote_code=self.trust_remote_code,
            device=device,
            class_names=self.class_names,
        )

    @contextmanager
    def runnable(self, path: Path) -> "Iterator[tuple[Checkpoint, Checkpoint]]":
        """The checkpoint at ``path``, and what of it is opened (``models.opening.runnable``)."""
        from ablate_kit.checkpoints import open_checkpoint
        from ablate_kit.models.labels.classes import read_class_names
        from ablate_kit.models.opening.runnable import runnable

        names = read_class_names(self.class_names) if self.class_names else None
        with (
            open_checkpoint(path, self.weights) as given,
            runnable(given, self.model, trusted=self.trust_remote_code, classes=names) as runs,
        ):
            yield given, runs

    def beside_recipe(self) -> str:
        """What a command takes beside the recipe of a run: code that no recipe can name."""
        own = self.model if (self.model or "").startswith(f"{own_code.NAME}:") else None
        trust = " --trust-remote-code" * self.trust_remote_code
        return (f" --model {shlex.quote(own)}" if own else "") + trust

    def section(self, checkpoint: Path) -> "ModelSection":
        """The same in a recipe."""
        from ablate_kit.sweeps.recipes.model_section import ModelSection

        return ModelSection(
            checkpoint=str(checkpoint),
            framework=self.model,
            weights=self.weights,
            class_names=self.class_names,
        )
