"""A checkpoint as what can be run: of a file that needs it, the Hugging Face folder."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ablate_kit.ablations.receipt import read_receipt
from ablate_kit.checkpoints import Checkpoint, open_checkpoint
from ablate_kit.checkpoints.digest import digest_of_archive
from ablate_kit.checkpoints.told import tell
from ablate_kit.errors import UserError
from ablate_kit.models.bridge.mmdetection.mmdet_counterpart import has_configuration
from ablate_kit.models.bridge.official.families import family_of
from ablate_kit.models.bridge.to_transformers import Bridge, to_transformers
from ablate_kit.models.labels.classes import ClassNames
from ablate_kit.models.opening.framework_registry import recognized
from ablate_kit.models.rewriting.conversions import write_bridge
from detector.disk import lock
from detector.disk.atomic import parents_made


@contextmanager
def runnable(
    checkpoint: Checkpoint,
    model: str | None = None,
    *,
    trusted: bool = False,
    classes: ClassNames | None = None,
    folder: Path | None = None,
    needed: Callable[[], bool] = lambda: False,
) -> Iterator[Checkpoint]:
    """``checkpoint``, or, of a file whose model transformers computes under other names, what
    ``ablate convert --to transformers`` makes of it.

    These are files of official repositories, and of MMDetection where it computes the same.

    Args:
        model: what ``--model`` says; with ``transformers`` a file that cannot be converted is
            refused, with another name it is left as it is.
        trusted: may the configuration of an MMDetection file run? Then MMDetection itself runs it.
        classes: of the outputs, where an official file does not tell.
        folder: to make, or made by an earlier call; by default one that is gone afterwards.
        needed: whether a ``folder`` that is made here stays when the block fails.

    Raises:
        UserError: the model has no exact counterpart, or ``folder`` was made of something else.
    """
    conversion = _conversion(checkpoint, model, trusted, classes)
    if conversion is None:
        yield checkpoint
        return
    with ExitStack() as stack:
        if folder is None:
            temporary = stack.enter_context(TemporaryDirectory(prefix="ablate-"))
            made = Path(temporary, checkpoint.path.stem)
        else:
            made = folder
        kept = made.exists()
        if kept:
            _check_made_of(checkpoint, made)
            stack.enter_context(lock.shared(made))
        else:
            left = partial(_tell_left, checkpoint, folder)
            make = partial(write_bridge, conversion, made)
            stack.enter_context(_made(made, make, needed, left))
        _tell(conversion, made if kept else None)
        yield stack.enter_context(open_checkpoint(made))


@contextmanager
def _made(
    folder: Path, make: Callable[[], object], needed: Callable[[], bool], left: Callable[[], None]
) -> Iterator[None]:
    """Made, and gone again when the block fails, unless it is needed or another process uses it.

    ``left`` is called where it is not: nobody knows before the end."""
    with parents_made(folder):
        make()
        with lock.shared(folder) as alone:
            try:
                yield
            except BaseException:
                if not needed() and alone():
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    left()
                raise
            left()


def _conversion(
    checkpoint: Checkpoint, model: str | None, trusted: bool, classes: ClassNames | None
) -> Bridge | None:
    if checkpoint.has_config_file or model not in (None, "transformers"):
        return None
    if model is None and (chosen := recognized(checkpoint)):
        if chosen.model != "mmdet" or trusted:
            return None
    elif family_of(checkpoint):
        return to_transformers(checkpoint, classes=classes)
    if not has_configuration(checkpoint):
        return None
    try:
        return to_transformers(checkpoint)
    except UserError:
        if model:
            raise
        return None  # the framework says itself what it needs


def _tell_left(checkpoint: Checkpoint, folder: Path | None) -> None:
    if folder:
        tell(f"{folder} is what {checkpoint} was converted to; later runs use it")


def _tell(conversion: Bridge, there: Path | None) -> None:
    kind = conversion.model.config["architectures"][0]
    where = f"as {there}, which was made of it" if there else "converted"
    tell(f"{conversion.checkpoint} runs {where} ({kind} of transformers)")
    if not family_of(conversion.checkpoint):
        tell(
            "images are resized by Pillow, where MMDetection has OpenCV: detections differ a "
            "little; --model mmdet --trust-remote-code: MMDetection itself"
        )
    if conversion.model.assumed:
        said = "; ".join(conversion.model.assumed)
        tell(f"assumed, as the file does not tell (ablate convert can be told): {said}")


def _check_made_of(checkpoint: Checkpoint, folder: Path) -> None:
    """Names of classes may differ: those that are told now are put in place of the folder's."""
    receipt = read_receipt(folder)
    found = receipt.base, receipt.weights, receipt.operation
    if found != (digest_of_archive(checkpoint.archive), checkpoint.place, "convert"):
        raise UserError(
            f"{folder} was not made of {checkpoint}; move it away, or convert the file (ablate "
            "convert --to transformers) and give that folder"
        )
