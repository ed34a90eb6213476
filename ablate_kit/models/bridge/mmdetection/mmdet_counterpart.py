"""The Hugging Face model of a checkpoint of MMDetection, by the configuration in it."""

import torch

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.openmmlab import settings
from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.mmdetection.image_pipeline import Colors, pipeline_of
from ablate_kit.models.bridge.mmdetection.mmdet_architecture import architecture, kind_of
from ablate_kit.models.bridge.mmdetection.version_2 import co_detr_as_version_3
from ablate_kit.models.unsupported.known_elsewhere import refuse_known_elsewhere


def has_configuration(checkpoint: Checkpoint) -> bool:
    """Whether the file carries one of MMDetection that can be read."""
    return isinstance(settings(checkpoint.archive.metadata).get("model"), dict)


def mmdet_counterpart(checkpoint: Checkpoint) -> Counterpart:
    """Of a file that has a configuration; raises ``UserError`` where there is no exact
    counterpart."""
    whole = settings(checkpoint.archive.metadata)
    kind = kind_of(whole["model"])  # before what else such a file may lack
    if "data_preprocessor" not in whole["model"]:
        if kind != "CoDETR":  # whose tensors alone have the names that they have in version 3
            refuse_known_elsewhere(checkpoint)
            raise UserError(
                f"{checkpoint} carries a configuration of MMDetection 2 (it has no "
                "model.data_preprocessor); expected one of version 3"
            )
        whole = co_detr_as_version_3(whole)
    if checkpoint.classes is None:
        raise UserError(f"{checkpoint} carries no class names")
    found, colors = architecture(whole["model"], pipeline_of(whole), checkpoint.classes)
    _check_colors(checkpoint, colors)
    return found


def _check_colors(checkpoint: Checkpoint, colors: Colors) -> None:
    """The file may hold mean and deviation itself; they must be those of the configuration."""
    for key, values in (("mean", colors.mean), ("std", colors.std)):
        name = f"data_preprocessor.{key}"
        if name not in checkpoint.tensors:
            continue
        held = checkpoint.read(name).flatten()
        if not torch.allclose(held, torch.tensor(values), rtol=1e-5):
            raise UserError(f"{name} is {held.tolist()}, and the configuration says {values}")
