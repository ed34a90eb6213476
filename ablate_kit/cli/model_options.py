"""The options that say what the model of a checkpoint is."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.cli.download_option import Download
from ablate_kit.cli.early import check_files
from ablate_kit.cli.naming import name_of
from ablate_kit.models.framework_registry import OWN, USAGE, check_model

if TYPE_CHECKING:
    from ablate_kit.checkpoints import Checkpoint
    from ablate_kit.models.adapter import Adapter
    from ablate_kit.sweeps.recipes.sweep_recipe import ModelSection

Model = Annotated[
    str | None,
    typer.Option("--model", help=f"{USAGE} or {OWN}; told from the checkpoint by default."),
]
Trust = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let a folder or config run its code.")
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a checkpoint becomes a detector."""

    model: Model = None
    class_names: Annotated[
        Path | None,
        typer.Option(
            help="Names of the model's classes, one to a line, in its outputs' order; or COCO "
            "annotations, where category ids number the outputs."
        ),
    ] = None
    trust_remote_code: Trust = False
    weights: Annotated[
        str | None, typer.Option(help="Which weights of a file that holds several.")
    ] = None
    allow_download: Download = False

    def __post_init__(self) -> None:
        """What takes no time to find is told before anything is imported."""
        check_files(self.class_names)
        check_model(self.model)

    def open(self, checkpoint: "Checkpoint", device: str = "cpu") -> "Adapter":
        """The detector of a checkpoint."""
        from ablate_kit.models.open import open_adapter

        return open_adapter(
            checkpoint,
            self.model,
            trust_remote_code=self.trust_remote_code,
            device=device,
            class_names=self.class_names,
        )

    @contextmanager
    def runnable(self, path: Path) -> "Iterator[tuple[Checkpoint, Checkpoint]]":
        """The checkpoint at ``path``, and what of it is to be opened (``models.runnable``)."""
        from ablate_kit.checkpoints import open_checkpoint
        from ablate_kit.models.classes import read_class_names
        from ablate_kit.models.runnable import runnable

        names = read_class_names(self.class_names) if self.class_names else None
        with (
            open_checkpoint(path, self.weights) as given,
            runnable(given, self.model, trusted=self.trust_remote_code, classes=names) as runs,
        ):
            yield given, runs

    def section(self, checkpoint: Path) -> "ModelSection":
        """The same in a recipe."""
        from ablate_kit.sweeps.recipes.sweep_recipe import ModelSection

        return ModelSection(
            checkpoint=str(checkpoint),
            framework=self.model,
            weights=self.weights,
            class_names=self.class_names,
        )


@contextmanager
def runnable_section(
    section: "ModelSection", beside: Path | None, *, trusted: bool
) -> "Iterator[ModelSection]":
    """A section of a recipe, of a file that has to be converted the folder: one that stays beside
    the run's folder, for later runs as well, or where that is None one that is gone afterwards."""
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.models.classes import read_class_names
    from ablate_kit.models.runnable import runnable

    path = Path(section.checkpoint)
    names = read_class_names(section.class_names) if section.class_names else None
    folder = beside.parent / f"{name_of(path)}-transformers" if beside else None
    with ExitStack() as stack:
        given = stack.enter_context(open_checkpoint(path, section.weights))
        runs = stack.enter_context(
            runnable(given, section.framework, trusted=trusted, classes=names, folder=folder)
        )
        if runs is given:
            yield section
        else:
            yield section.model_copy(update={"checkpoint": str(runs.path), "weights": None})
