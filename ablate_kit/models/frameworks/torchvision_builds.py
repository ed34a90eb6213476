"""Which of torchvision's detection models a file's tensors are of: by names and shapes, tried."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ablate_kit.errors import UserError
from ablate_kit.models.frameworks import misfit
from ablate_kit.models.frameworks.misfit import Shapes
from detector.extras import missing

_COCO = 91  # COCO's ids, gaps included, as the published weights have them
_KEYPOINTS = "roi_heads.keypoint_predictor.kps_score_lowres.weight"  # (channels, points, 4, 4)
_HEADS = (
    ("rpn.head.cls_logits.weight", "roi_heads.box_predictor.cls_score.weight"),
    ("head.classification_head.cls_logits.weight", "head.regression_head.bbox_reg.weight"),
    ("head.classification_head.module_list.0.weight",),
    ("head.classification_head.module_list.0.1.weight",),
)


class MisfitError(Exception):
    """Tensors are not those of a model; ``problems`` counts what does not fit."""

    def __init__(self, text: str, problems: int) -> None:
        super().__init__(text)
        self.problems = problems


@dataclass(frozen=True)
class Build:
    """A model of torchvision that takes a file's tensors.

    Attributes:
        name: as torchvision's ``get_model`` takes it.
        classes: of the outputs; of two stages and SSD, the first is the background.
        live: by the file's name of a tensor the model's, which newer releases have changed.
    """

    name: str
    classes: int
    keypoints: int | None
    live: Mapping[str, str]

    def module(self) -> nn.Module:
        """With random weights."""
        return _made(self.name, self.classes, self.keypoints, self.live)


def looks_like_one(names: Iterable[str]) -> bool:
    """Whether a file has the heads of one of torchvision's detectors; torchvision is not needed."""
    known = set(names)
    return any(known.issuperset(head) for head in _HEADS)


def known_models() -> Sequence[str]:
    """The names of all detection models; raises ``UserError`` without torchvision."""
    try:
        from torchvision.models import detection, list_models
    except ImportError:
        raise missing("a model of torchvision", "torchvision") from None
    except RuntimeError as error:  # built for another torch
        said = next(iter(str(error).splitlines()), "RuntimeError")
        raise UserError(f"torchvision cannot be imported: {said}") from None
    found: Sequence[str] = list_models(module=detection)
    return found


def fitted(name: str, shapes: Shapes) -> Build:
    """The model of this name for as many classes as tensors of these ``shapes`` are of.

    Raises ``MisfitError`` where they are of another model.
    """
    held = shapes.get(_KEYPOINTS, ())
    keypoints = held[1] if len(held) == 4 else None
    with torch.device("meta"):
        net = _made(name, _COCO, keypoints, shapes)
        classes = _classes(net.state_dict(), shapes)
        if classes != _COCO:
            net = _made(name, classes, keypoints, shapes)
    keys = list(shapes)
    # A number each, however large they are: it tells later where a tensor went.
    numbers = {
        key: torch.tensor(float(i)).expand(shape) for i, (key, shape) in enumerate(shapes.items())
    }
    expected = misfit.shapes_of(net)
    apart = len(expected.keys() ^ shapes.keys())
    try:
        report = net.load_state_dict(numbers, strict=False, assign=True)
    except RuntimeError as error:
        # Of tensors that have other names there, as the library says it.
        said = misfit.of_shapes(shapes, expected) or " ".join(str(error).split())
        raise MisfitError(said, apart + len(str(error).splitlines())) from None
    if said := misfit.of_names(report.missing_keys, report.unexpected_keys):
        raise MisfitError(said, apart)
    live = {keys[int(one.flatten()[0])]: to for to, one in net.state_dict().items() if one.numel()}
    return Build(name, classes, keypoints, live)


def _classes(state: Mapping[str, torch.Tensor], shapes: Shapes) -> int:
    """By the first tensor whose rows are another number than of COCO's classes."""
    for key, tensor in state.items():
        stored = shapes.get(key, ())
        if not stored or stored == tuple(tensor.shape) or stored[1:] != tuple(tensor.shape[1:]):
            continue
        rows = tensor.shape[0]
        if rows % _COCO == 0 and stored[0] and stored[0] * _COCO % rows == 0:
            return stored[0] * _COCO // rows
    return _COCO


def _made(name: str, classes: int, keypoints: int | None, stored: Iterable[str]) -> nn.Module:
    """With batch normalization frozen where the file's is: it counts no batches."""
    from torchvision.models import get_model

    arguments: dict[str, Any] = {"num_classes": classes}
    if keypoints is not None and name.startswith("keypoint"):
        arguments["num_keypoints"] = keypoints
    net: nn.Module = get_model(name, weights=None, weights_backbone=None, **arguments)
    _freeze(net, set(stored))
    return net


def _freeze(net: nn.Module, stored: set[str]) -> None:
    from torchvision.ops import FrozenBatchNorm2d

    for name, module in list(net.named_modules()):
        if isinstance(module, nn.BatchNorm2d) and f"{name}.num_batches_tracked" not in stored:
            above, _, last = name.rpartition(".")
            frozen = FrozenBatchNorm2d(module.num_features, eps=module.eps)
            setattr(net.get_submodule(above), last, frozen)
