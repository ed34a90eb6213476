"""torchvision's detection models, told by their tensors or by ``--model torchvision:NAME``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.models.framework import Framework, Request
from ablate_kit.models.frameworks.torchvision_builds import (
    Build,
    MisfitError,
    fitted,
    known_models,
    looks_like_one,
)
from ablate_kit.models.frameworks.torchvision_training import TorchvisionTraining
from ablate_kit.models.frameworks.wrap import Size, wrap
from ablate_kit.models.labels.classes import NO_CLASS

if TYPE_CHECKING:
    from ablate_kit.models.adapter import Adapter
    from detector.data.image_files import Pixels

_BACKGROUND = ("__background__", "no person")  # as it is called among classes
# Of their first COCO weights, torchvision computes frozen batch normalization without an epsilon.
_WITHOUT_EPSILON = (
    "fasterrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
)


def _open(checkpoint: Checkpoint, request: Request) -> "Adapter":
    build = _named(checkpoint, request.place) if request.place else _told(checkpoint)
    net = build.module()
    net.load_state_dict({build.live[key]: one for key, one in checkpoint.state_dict().items()
                         if key in build.live})  # fmt: skip
    if build.name in _WITHOUT_EPSILON and _began_with_coco(checkpoint.settings):
        _leave_out_epsilon(net)
    _leave_out_masks(net)
    return wrap(
        net,
        classes=_class_names(build, checkpoint.classes),
        prepare=_prepare,
        decode=_decode,
        names=build.live,
        device=request.device,
    )


def _named(checkpoint: Checkpoint, name: str) -> Build:
    models = known_models()
    if name not in models:
        raise UserError(
            f'torchvision has no detection model "{name}"; expected --model torchvision:NAME of '
            f"{', '.join(sorted(models))}{did_you_mean(name, models)}"
        )
    try:
        return fitted(name, checkpoint.shapes)
    except MisfitError as error:
        raise UserError(f"{checkpoint.path} does not fit torchvision's {name}: {error}") from None


def _told(checkpoint: Checkpoint) -> Build:
    """The one model that takes the tensors, or of several the one that the file names."""
    found: dict[str, Build] = {}
    misfits: list[tuple[int, str, MisfitError]] = []
    for name in known_models():
        try:
            found[name] = fitted(name, checkpoint.shapes)
        except MisfitError as error:
            misfits.append((error.problems, name, error))
    said = checkpoint.settings.get("model")
    if isinstance(said, str) and said in found:
        return found[said]
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise UserError(
            f"{checkpoint.path} may be of torchvision's {' or '.join(found)}, whose tensors are "
            f"alike, and not how they prepare images: add --model torchvision:NAME"
        )
    _, name, reason = min(misfits, key=lambda one: one[:2])
    raise UserError(
        f"{checkpoint.path} has heads of torchvision's, but is of none of its models: {name} is "
        f"the nearest, and {reason}; build it yourself: --model python:FILE.py:NAME (docs/zoo.md)"
    )


def _prepare(image: "Pixels") -> torch.Tensor:
    """The models resize and normalize by themselves."""
    return torch.tensor(image).permute(2, 0, 1).float() / 255


def _decode(outputs: Any, sizes: Sequence[Size]) -> Any:
    return [(one["boxes"], one["scores"], one["labels"]) for one in outputs]


def _leave_out_masks(net: nn.Module) -> None:
    """Nor key points: they come after the boxes and change none, so that what only they need would
    cost time and look as if it did nothing. The weights stay."""
    heads = getattr(net, "roi_heads", None)
    for pool in ("mask_roi_pool", "keypoint_roi_pool"):
        if getattr(heads, pool, None) is not None:
            setattr(heads, pool, None)  # without it the branch does not run


def _began_with_coco(arguments: Mapping[str, Any]) -> bool:
    """Whether training began with torchvision's COCO weights, by the arguments of its training
    script; so do they themselves, and most that do not tell."""
    told = [arguments[key] for key in ("weights", "pretrained") if key in arguments]
    return any(told) or not told


def _leave_out_epsilon(net: nn.Module) -> None:
    from torchvision.ops import FrozenBatchNorm2d

    frozen = [one for one in net.modules() if isinstance(one, FrozenBatchNorm2d)]
    if all(bool((one.running_var > 0).all()) for one in frozen):  # it divides by these
        for one in frozen:
            one.eps = 0.0


def _class_names(build: Build, held: Sequence[str] | None) -> Sequence[str]:
    """Those of the file, where it has them, or else of torchvision's weights."""
    from torchvision.models import get_model_weights

    if held and len(held) in (build.classes, build.classes - 1):
        return [*([NO_CLASS] * (build.classes - len(held))), *held]
    known = next(iter(get_model_weights(build.name))).meta["categories"]
    if len(known) == build.classes:  # of COCO; of key points, persons alone
        return [NO_CLASS if one in _BACKGROUND else one for one in known]
    names = [f"class_{number}" for number in range(build.classes)]
    return names if build.name.startswith(("fcos", "retinanet")) else [NO_CLASS, *names[1:]]


FRAMEWORK = Framework(
    open=_open,
    takes="[:NAME]",
    recognizes=lambda checkpoint: looks_like_one(checkpoint.tensors),
    packages=("torchvision",),
    training=TorchvisionTraining,
)
