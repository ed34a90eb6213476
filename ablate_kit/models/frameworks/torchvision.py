"""torchvision's detection models: ``--model torchvision:fasterrcnn_resnet50_fpn_v2``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.models.framework import Framework, Request
from ablate_kit.models.frameworks.wrap import Size, wrap
from detector.extras import missing

if TYPE_CHECKING:
    from ablate_kit.models.adapter import Adapter
    from detector.data.image_files import Pixels

_COCO = 91  # COCO's ids, gaps included, as the published weights have them


def _open(checkpoint: Checkpoint, request: Request) -> "Adapter":
    models = _detection_models()
    name = request.place
    if name not in models:
        known = ", ".join(sorted(models))
        raise UserError(
            f'torchvision has no detection model "{name}"{did_you_mean(name, models)}; expected '
            f"--model torchvision:NAME of {known}"
        )
    state = checkpoint.state_dict()
    net, classes = _built(name, state, str(checkpoint.path))
    try:
        net.load_state_dict(dict(state))
    except RuntimeError as error:
        raise UserError(
            f"{checkpoint.path} does not fit torchvision's {name}: {_said(error)}"
        ) from None
    names = _class_names(name, classes)
    first = classes - len(names)  # 1 of two stages and SSD, whose 0 is no class

    def decode(outputs: Any, sizes: Sequence[Size]) -> Any:
        return [(one["boxes"], one["scores"], one["labels"] - first) for one in outputs]

    return wrap(net, classes=names, prepare=_prepare, decode=decode, device=request.device)


def _prepare(image: "Pixels") -> torch.Tensor:
    """The models resize and normalize by themselves."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def _detection_models() -> Mapping[str, Any]:
    try:
        from torchvision.models import detection, list_models
    except ImportError:
        raise missing("a model of torchvision", "torchvision") from None
    except RuntimeError as error:  # built for another torch
        raise UserError(f"torchvision cannot be imported: {_said(error)}") from None
    return dict.fromkeys(list_models(module=detection))


def _built(name: str, state: Mapping[str, torch.Tensor], path: str) -> tuple[nn.Module, int]:
    """The model for as many classes as the weights are of, and how many these are."""
    classes = _COCO
    net = _make(name, classes)
    for key, tensor in net.state_dict().items():
        stored = state.get(key)
        if stored is None or stored.shape == tensor.shape or not tensor.ndim:
            continue
        rows, wanted = tensor.shape[0], stored.shape[0]
        if rows % _COCO or wanted * _COCO % rows:
            raise UserError(
                f"{path} does not fit torchvision's {name}: {key} is {tuple(stored.shape)}; "
                f"expected {tuple(tensor.shape)}"
            )
        classes = wanted * _COCO // rows
        return _make(name, classes), classes
    return net, classes


def _make(name: str, classes: int) -> nn.Module:
    from torchvision.models import get_model

    found: nn.Module = get_model(name, weights=None, weights_backbone=None, num_classes=classes)
    return found


def _class_names(name: str, classes: int) -> Sequence[str]:
    """Without the background, where the model has one."""
    from torchvision.models import get_model_weights

    known = next(iter(get_model_weights(name))).meta["categories"]
    if len(known) != classes:  # of COCO; of key points, persons alone
        known = [f"class_{number}" for number in range(classes)]
    if name.startswith(("fcos", "retinanet")):
        return ["N/A" if one == "__background__" else one for one in known]
    return list(known[1:])


def _said(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


FRAMEWORK = Framework(open=_open, takes=":NAME")
