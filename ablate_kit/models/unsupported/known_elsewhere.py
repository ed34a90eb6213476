"""Files of detectors that nothing here runs: what they are, and what can be done with them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.archive import weights_file
from ablate_kit.checkpoints.formats.folder_contents import MERGE
from ablate_kit.checkpoints.formats.shards import is_index
from ablate_kit.checkpoints.pickle.saved_modules import SavedModule
from ablate_kit.errors import CheckpointError, UserError
from detector.disk.bounded import SETTINGS, read_bounded

OWN = "python:FILE.py:NAME"
GUIDE = "docs/your-own-detector.md"
# Classes of modules that hold a model, and are none.
_WRAPPERS = {
    "DataParallel",
    "DistributedDataParallel",
    "FullyShardedDataParallel",
    "OptimizedModule",
    "AveragedModel",
}
_OWN_CODE = f"build it with its own code: --model {OWN} ({GUIDE})"


@dataclass(frozen=True)
class Elsewhere:
    """Detectors whose code is elsewhere.

    Attributes:
        signs: patterns of whole names of tensors, each of which one has.
        way: how they run.
    """

    what: str
    signs: tuple[str, ...]
    way: str = _OWN_CODE


ADAPTER = Elsewhere(
    "an adapter of PEFT, with the model or without it",
    # Names of what it adds, of what it wraps, and of what is around all.
    (r".*\.lora_[A-Z]\..+|.*\.base_layer\.(weight|bias)|base_model\.model\..+",),
    MERGE,
)
KNOWN = (
    ADAPTER,
    Elsewhere(
        "detrex, of which DINO alone is converted",
        (r"transformer\.encoder\.layers\.0\.attentions\.0\..+", r"backbone\..+"),
    ),
    Elsewhere(
        "Co-DETR in MMDetection, of which Co-DINO alone is converted, by the file's configuration",
        (r"query_head\.transformer\..+", r"(bbox|roi|rpn)_head\..+"),
        "give --model mmdet:CONFIG.py --trust-remote-code, with MMDetection and that project "
        "installed (docs/mmdetection.md)",
    ),
    Elsewhere(
        "Grounding DINO's repository",
        (r"bert\..+", r"transformer\.encoder\.fusion_layers\..+"),
        "take the same weights as a folder of transformers, such as "
        "hf:IDEA-Research/grounding-dino-tiny (docs/evaluate.md)",
    ),
    Elsewhere(
        "MMYOLO, as YOLO-World has them",
        (r"bbox_head\.head_module\..+",),
        "give --model mmdet:CONFIG.py --trust-remote-code, with MMDetection and MMYOLO installed "
        "(docs/mmdetection.md)",
    ),
    Elsewhere(
        "Relation DETR's or Salience DETR's repository",
        (r"denoising_generator\..+", r"transformer\.decoder\.class_head\..+"),
    ),
    Elsewhere(
        "MMDetection 2, whose tensors had other names than those of version 3",
        (r"bbox_head\.transformer\..+",),
    ),
    # Not by roi_heads, which torchvision's detectors have, too.
    Elsewhere("Detectron2", (r"(backbone\.bottom_up|proposal_generator)\..+",)),
    Elsewhere(
        "YOLOX",
        (r"backbone\.backbone\.dark2\..+", r"head\.cls_preds\.0\..+"),
        "give --model libreyolo:yolox (docs/zoo.md)",
    ),
    Elsewhere(
        "Ultralytics, YOLOv5 or YOLOv7, without the module that says how it is built",
        (
            r"(model\.)+[0-9]+\.(.+\.)?conv\.weight",
            r"(model\.)+[0-9]+\.(cv[23]\.0|m\.0|dfl|anchors|enc_score_head).*",
        ),
        f"give --model libreyolo, which knows some (docs/zoo.md), or {_OWN_CODE}",
    ),
)


def refuse_known_elsewhere(checkpoint: Checkpoint, also: str = "") -> None:
    """Raises ``UserError`` where it is known what the file holds; ``also`` ends the line.

    That is a whole module, the weights of a Hugging Face folder without the folder, or a file of a
    repository that is known by its names.
    """
    if checkpoint.tensors and (whole := checkpoint.modules_above(next(iter(checkpoint.tensors)))):
        raise _refusal_of_module(checkpoint.path, whole, also)
    folder = checkpoint.path.parent
    config = folder / "config.json"
    described = config.is_file() and b'"model_type"' in read_bounded(config, SETTINGS)
    if checkpoint.folder is None and described:
        stands = _stands_for(folder, checkpoint.path)
        raise UserError(
            f"{checkpoint.path} is the weights of a Hugging Face folder alone; give "
            f"{'the folder' if stands else '--model'}, whose config.json says what they are of: "
            f"{'' if stands else 'transformers:'}{folder}"
        )
    if one := next((one for one in KNOWN if _is(one, checkpoint)), None):
        raise UserError(
            f"{checkpoint.path} has the names of {one.what}; it is inspected and cut as it is; to "
            f"run it, {one.way}{also}"
        )


def refuse_adapter_in_file(checkpoint: Checkpoint) -> None:
    """Raises ``UserError`` where tensors are of an adapter, which no framework here adds."""
    if _is(ADAPTER, checkpoint):
        raise UserError(
            f"{checkpoint.path} has the names of {ADAPTER.what}; to run it, {ADAPTER.way}"
        )


def _refusal_of_module(path: Path, whole: Sequence[SavedModule], also: str) -> UserError:
    """Of a file that holds a module, of which ``whole`` lies above a tensor, outermost last."""
    names = [one.class_name for one in reversed(whole)]
    kind = next((one for one in names if one.rpartition(".")[2] not in _WRAPPERS), names[0])
    way = f"say how it is built and what its outputs mean: --model {OWN} ({GUIDE})"
    if kind.startswith("transformers."):
        way = "give --model transformers:FOLDER, the folder of its config.json"
    return UserError(
        f"{path} is a whole module of the class {kind}; no code of a file is run, so {way}{also}"
    )


def _stands_for(folder: Path, file: Path) -> bool:
    """Whether a folder's weights are those of the file, and not of another in it."""
    try:
        weights = weights_file(folder)
    except CheckpointError:
        return False
    return weights == file or is_index(weights)


def _is(one: Elsewhere, checkpoint: Checkpoint) -> bool:
    names = list(checkpoint.tensors)
    return all(any(re.fullmatch(sign, name) for name in names) for sign in one.signs)
