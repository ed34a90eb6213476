"""What a recipe says of its model."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ablate_kit.checkpoints import Checkpoint, open_checkpoint
from ablate_kit.checkpoints.naming import name_of
from ablate_kit.models.labels.classes import read_class_names
from detector.training.recipes.recipe_file import Section

if TYPE_CHECKING:
    from ablate_kit.models.adapter import Adapter


class ModelSection(Section):
    checkpoint: str
    framework: str | None = None  # hybrid, transformers[:FOLDER], mmdet[:CONFIG.py]
    weights: str | None = None  # which of the file's, if it holds several
    class_names: Path | None = None  # a file of names for its classes, one to a line

    def opened(self) -> AbstractContextManager[Checkpoint]:
        return open_checkpoint(Path(self.checkpoint), self.weights)

    def adapter(
        self, checkpoint: Checkpoint, *, trust_remote_code: bool, device: str = "cpu"
    ) -> "Adapter":
        """The detector of ``checkpoint``: this one, or another that is opened like it."""
        from ablate_kit.models.opening.open import open_adapter  # which needs torch

        return open_adapter(
            checkpoint,
            self.framework,
            trust_remote_code=trust_remote_code,
            device=device,
            class_names=self.class_names,
        )

    @contextmanager
    def runnable(self, beside: Path | None, *, trusted: bool) -> Iterator["ModelSection"]:
        """The same, of a file that has to be converted the folder: one that stays beside the run's
        folder, for later runs as well, or where that is None one that is gone afterwards. Where
        the block fails before there is a run, it is gone as well, if it was made here."""
        from ablate_kit.models.opening.runnable import runnable
        from ablate_kit.sweeps.run_folder.ledger import Ledger

        path = Path(self.checkpoint)
        names = read_class_names(self.class_names) if self.class_names else None
        folder = beside.parent / f"{name_of(path)}-transformers" if beside else None

        def needed() -> bool:
            return beside is not None and Ledger.begun_in(beside)

        with (
            self.opened() as given,
            runnable(
                given, self.framework, trusted=trusted, classes=names, folder=folder, needed=needed
            ) as runs,
        ):
            if runs is given:
                yield self
            else:
                yield self.model_copy(update={"checkpoint": str(runs.path), "weights": None})
