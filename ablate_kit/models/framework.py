"""All that is known of one framework's detectors, as one value in the file that knows it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate_kit.anatomy.anatomy import USUAL, Anatomy
from ablate_kit.checkpoints import Checkpoint

if TYPE_CHECKING:
    from ablate_kit.models.adapter import Adapter
    from ablate_kit.models.model_knobs import Knobs
    from ablate_kit.models.training import Training
    from detector.data.dataset import Dataset

    Train = Callable[[Any, Dataset, Mapping[str, Any], str], Training]


@dataclass(frozen=True)
class Request:
    """How a checkpoint is to be opened.

    Attributes:
        place: what ``--model`` says after the framework's name and a colon.
        trust_remote_code: may code run that comes with the checkpoint, or that ``place`` names?
        class_names: that are given for its classes, which a detector that finds what a text names
            is asked for; others are named by them when they are open.
    """

    place: str = ""
    device: str = "cpu"
    trust_remote_code: bool = False
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Framework:
    """How detectors of one kind are told, opened, identified and trained.

    Attributes:
        open: the detector with a checkpoint's weights; raises ``UserError`` where they do not fit.
        takes: what may follow the name in ``--model``, such as ``[:FOLDER]``.
        recognizes: whether a checkpoint that nobody says anything about is of this kind.
        files: beside the checkpoint, by the place: what the model depends on, for fingerprints.
            They are read, and not run.
        packages: whose versions change bits of what its models give, for fingerprints.
        training: of an adapter that ``open`` gave, on a data set, by options (``batch_size``,
            ``lr``, ``seed``) and a device; None where no training is known.
        knobs: of an adapter that ``open`` gave; None where none are known.
        anatomy: where its models keep their parts, for the kinds of ablations.
    """

    open: "Callable[[Checkpoint, Request], Adapter]"
    takes: str = ""
    recognizes: Callable[[Checkpoint], bool] = lambda checkpoint: False
    files: Callable[[str], list[Path]] = lambda place: []
    packages: tuple[str, ...] = ()
    training: "Train | None" = None
    knobs: "Callable[[Any], Knobs] | None" = None
    anatomy: Anatomy = USUAL
