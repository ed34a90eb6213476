"""Any network as a detector that can be ablated and evaluated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.adapter import Prepared
from ablate_kit.models.frameworks.misfit import shapes_of
from ablate_kit.models.frameworks.own_code import user_code_errors
from ablate_kit.models.image_detections import ImageDetections
from detector.data.dataset import Pixels

Size = tuple[int, int]  # height and width of the original image, in pixels
Prepare = Callable[[Pixels], torch.Tensor | Mapping[str, torch.Tensor]]
Decode = Callable[[Any, Sequence[Size]], Sequence[Sequence[Any]]]

_ONLY = ""  # the name of the input of a network that has one
_COLUMNS = "boxes (k, 4), scores (k,) and labels (k,)"


def wrap(
    net: nn.Module,
    *,
    classes: Sequence[str],
    prepare: Prepare,
    decode: Decode,
    names: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> "Wrapped":
    """A detector from a network, and from what comes before and after it.

    Args:
        net: with the checkpoint's weights. It is moved to ``device`` and set to evaluation mode; of
            ``torch.compile`` and data parallelism the network within is taken.
        classes: their names, in the order of ``labels``.
        prepare: from an image, a (height, width, 3) array of uint8 in RGB, the (3, h, w) or
            (1, 3, h, w) tensor that the network takes, on the CPU. It is called from several
            threads. Images of one shape run as one batch: ``net(tensor)`` with a (n, 3, h, w)
            tensor. Of a network with several inputs, all of them by name, each with a first axis
            of 1: ``net(**inputs)``.
        decode: from what the network returns for n images, and the n images' original (height,
            width), for each image its boxes (k, 4), scores (k,) and labels (k,), as tensors or
            arrays; k may differ. Boxes are x0, y0, x1, y1 in pixels of the original image, scores
            from 0 to 1 and not thresholded, labels integers that count ``classes`` from 0. A
            fourth column (k,), where there is one, tells the object query of each detection.
        names: for each tensor of the checkpoint its name in ``net.state_dict()``; by default they
            are the same.

    Shapes and labels of every batch are checked, and the units of the first one's boxes and scores;
    what is refused, is refused with what came instead.
    """
    if not isinstance(net, nn.Module):
        raise UserError(f"wrap: net is a {type(net).__name__}; expected a torch.nn.Module")
    if isinstance(classes, str) or not all(isinstance(one, str) for one in classes):
        raise UserError("wrap: classes are not a list of names")
    module = _within(net).to(device).eval()
    state = module.state_dict()
    for name in (names or {}).values():
        if name not in state:
            raise UserError(f'wrap: names has "{name}", which is no tensor of the network')
    live = {
        stored: (name,)
        for stored, name in (names or {name: name for name in state}).items()
        if state[name].is_floating_point()
    }
    return Wrapped(module, tuple(classes), device, prepare, decode, live)


@dataclass(eq=False, repr=False)
class Wrapped:
    """As ``Adapter``; made by ``wrap``."""

    module: nn.Module
    classes: tuple[str, ...]
    device: str
    _prepare: Prepare
    _decode: Decode
    _live: Mapping[str, tuple[str, ...]]
    _seen: bool = False  # whether a batch with detections was checked

    def live_names(self) -> Mapping[str, tuple[str, ...]]:
        return self._live

    def same_model(self, other: object) -> bool:
        return (
            isinstance(other, Wrapped)
            and (self._prepare, self._decode) == (other._prepare, other._decode)
            and self.classes == other.classes
            and repr(self.module) == repr(other.module)
            and shapes_of(self.module) == shapes_of(other.module)
        )

    def prepare(self, image: Pixels) -> Prepared:
        with user_code_errors("prepare", _file(self._prepare)):
            found = self._prepare(image)
        if isinstance(found, torch.Tensor):
            one = found[None] if found.ndim == 3 else found
            if one.ndim != 4 or one.shape[0] != 1:
                raise UserError(
                    f"prepare returned {_what(found)}; expected (3, h, w) or (1, 3, h, w)"
                )
            inputs = {_ONLY: one}
        elif isinstance(found, Mapping) and found:
            inputs = dict(found)
            for name, one in inputs.items():
                if not isinstance(one, torch.Tensor) or one.shape[:1] != (1,):
                    raise UserError(
                        f'prepare returned {_what(one)} as "{name}"; expected a tensor with a '
                        "first axis of 1"
                    )
        else:
            raise UserError(
                f"prepare returned {_what(found)}; expected a (3, h, w) tensor, or tensors by name"
            )
        return Prepared(inputs, (int(image.shape[0]), int(image.shape[1])))

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        placed = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        return self.module(placed[_ONLY]) if _ONLY in placed else self.module(**placed)

    def decode(
        self, outputs: Any, origins: Sequence[Size], limit: int = MAX_DETECTIONS
    ) -> list[ImageDetections]:
        with user_code_errors("decode", _file(self._decode)):
            found = self._decode(outputs, list(origins))
        if not isinstance(found, Sequence) or len(found) != len(origins):
            count = f" of {len(found)}" if isinstance(found, Sequence) else ""
            raise UserError(
                f"decode returned {_what(found)}{count} for {len(origins)} images; expected a list "
                f"with {_COLUMNS} of each"
            )
        detections = [self._checked(one) for one in found]
        if not self._seen:
            for one, size in zip(detections, origins, strict=True):
                _check_units(one, size)
            self._seen = any(len(one.scores) for one in detections)
        return [one.best_first() for one in detections]

    def _checked(self, one: Sequence[Any]) -> ImageDetections:
        if not isinstance(one, Sequence) or not 3 <= len(one) <= 4:
            raise UserError(f"decode returned {_what(one)} for an image; expected {_COLUMNS}")
        boxes, scores, labels = (_array(column) for column in one[:3])
        queries = _array(one[3]) if len(one) == 4 else None
        count = len(boxes) if boxes.ndim else 0
        shapes = [boxes.shape, scores.shape, labels.shape]
        if shapes != [(count, 4), (count,), (count,)]:
            came = ", ".join(map(str, shapes))
            raise UserError(
                f"decode returned boxes, scores and labels of shapes {came}; expected {_COLUMNS}"
            )
        if queries is not None and queries.shape != (count,):
            raise UserError(
                f"decode returned queries of shape {queries.shape}; expected ({count},)"
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise UserError(f"decode returned labels of {labels.dtype}; expected integers")
        wrong = labels[(labels < 0) | (labels >= len(self.classes))]
        if len(wrong):
            raise UserError(
                f"decode returned label {wrong[0]}; expected 0 to {len(self.classes) - 1}, the "
                "places in classes"
            )
        return ImageDetections(
            boxes.astype(np.float64),
            scores.astype(np.float64),
            labels.astype(np.int64),
            None if queries is None else queries.astype(np.int64),
        )


def _within(net: nn.Module) -> nn.Module:
    """The network itself, whose modules are called one by one, and named as in a checkpoint."""
    parallel: Any = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        # Of torch.compile by its attribute: the class costs seconds to import.
        inner = net.module if isinstance(net, parallel) else getattr(net, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return net
        net = inner


def _check_units(found: ImageDetections, size: Size) -> None:
    """Refuses boxes and scores in other units than pixels of the image and probabilities."""
    if not len(found.scores):
        return
    low, high = found.scores.min(), found.scores.max()
    if low < 0 or high > 1:
        raise UserError(
            f"decode returned scores from {low:.4g} to {high:.4g}; expected probabilities, "
            "from 0 to 1"
        )
    x0, y0, x1, y1 = found.boxes.T
    # By less than half a pixel, an untrained network's boxes may.
    inverted = int(((x1 < x0 - 0.5) | (y1 < y0 - 0.5)).sum())
    if inverted > len(found.boxes) / 2:
        first = ", ".join(f"{value:.4g}" for value in found.boxes[0])
        raise UserError(
            f"decode returned {inverted} of {len(found.boxes)} boxes that end before they begin "
            f"(the first is {first}); expected x0, y0, x1, y1, not centers or sizes"
        )
    largest = found.boxes.max()
    # Below that they are no shares either, but what an untrained network may give.
    if 1e-3 < largest <= 1.5 and found.boxes.min() > -0.5 and (x1 > x0).any() and min(size) > 8:
        raise UserError(
            f"decode returned boxes of coordinates up to {largest:.3g} for an image of "
            f"{size[1]}x{size[0]}; expected pixels of the original image, not shares of it"
        )


def _file(function: object) -> Path | None:
    code = getattr(function, "__code__", None)
    return Path(code.co_filename) if code else None


def _array(column: Any) -> npt.NDArray[Any]:
    if isinstance(column, torch.Tensor):
        column = column.detach().cpu()
        return (column.float() if column.dtype == torch.bfloat16 else column).numpy()
    return np.asarray(column)


def _what(found: Any) -> str:
    if isinstance(found, torch.Tensor):
        return f"a {tuple(found.shape)} tensor"
    return f"a {type(found).__name__}"
