"""From a checkpoint to an adapter."""

from pathlib import Path
from typing import TYPE_CHECKING

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.classes import check_class_names, read_class_names
from ablate_kit.models.hybrid import HybridAdapter, is_hybrid

if TYPE_CHECKING:
    from ablate_kit.models.mmdet import MMDetAdapter
    from ablate_kit.models.transformers import TransformersAdapter

FRAMEWORKS = ("hybrid", "transformers", "mmdet")


def open_adapter(
    checkpoint: Checkpoint,
    model: str | None = None,
    *,
    trust_remote_code: bool = False,
    device: str = "cpu",
    class_names: Path | None = None,
) -> Adapter:
    """A detector with the weights of ``checkpoint``.

    Args:
        model: ``hybrid``, ``transformers`` or ``transformers:FOLDER``, ``mmdet:CONFIG.py`` or
            ``mmdet`` for the configuration in the file; by default a folder is a Hugging Face one,
            and a file is recognized by its tensors.
        trust_remote_code: may a Hugging Face folder run code of its own, or MMDetection the
            configuration?
        class_names: a file of names for its classes, where those it has are none or others than
            the data's.

    Raises:
        UserError: the framework is unknown or cannot be told, or the weights do not fit.
    """
    names = read_class_names(class_names) if class_names else None
    adapter = _opened(checkpoint, model, trust_remote_code, device)
    if names:
        check_class_names(names, adapter.classes, str(checkpoint.path))
        adapter.classes = names
    return adapter


def _opened(
    checkpoint: Checkpoint, model: str | None, trust_remote_code: bool, device: str
) -> "HybridAdapter | TransformersAdapter | MMDetAdapter":
    framework, _, place = framework_of(checkpoint, model).partition(":")
    if framework == "hybrid" and not place:
        return HybridAdapter.open(checkpoint, device)
    if framework == "transformers":
        folder = Path(place) if place else checkpoint.folder
        if folder is None:
            raise UserError(
                f"{checkpoint.path} is a file; give --model transformers:FOLDER with its config"
            )
        # Here, so that hybrid models need no transformers.
        from ablate_kit.models.transformers import TransformersAdapter

        return TransformersAdapter.open(
            checkpoint, folder, trust_remote_code=trust_remote_code, device=device
        )
    if framework == "mmdet":
        from ablate_kit.models.mmdet import MMDetAdapter

        return MMDetAdapter.open(
            checkpoint,
            Path(place) if place else None,
            trust_remote_code=trust_remote_code,
            device=device,
        )
    expected = "hybrid, transformers[:FOLDER] or mmdet[:CONFIG.py]"
    raise UserError(
        f'unknown model "{model}"; expected {expected}{did_you_mean(framework, FRAMEWORKS)}'
    )


def framework_of(checkpoint: Checkpoint, model: str | None = None) -> str:
    """What ``--model`` says, or what the checkpoint is by itself.

    Raises:
        UserError: it cannot be told.
    """
    if model:
        return model
    if checkpoint.folder:
        return "transformers"
    if is_hybrid(checkpoint):
        return "hybrid"
    if checkpoint.config and {"type", "backbone"} <= checkpoint.config.keys():
        raise UserError(
            f"{checkpoint.path} is of MMDetection; give --model mmdet:CONFIG.py, or --model mmdet "
            "for the configuration in the file (ablate convert --to transformers needs neither)"
        )
    raise UserError(
        f"{checkpoint.path} is not a hybrid detector; if it belongs to a Hugging Face model, give "
        "--model transformers:FOLDER with the folder of its config"
    )
