"""LibreYOLO's detectors, and official files of theirs: ``--model libreyolo[:FAMILY[:SIZE]]``.

A file that LibreYOLO has written says so, with family, size and class names. Of others, official
ones among them, which need ``--model``, names and shapes of the tensors tell family and size.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Any

import torch

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.framework import Framework, Request
from ablate_kit.models.frameworks.wrap import Size, wrap
from detector.tensor_bytes import tensor_digest

if TYPE_CHECKING:
    from ablate_kit.models.adapter import Adapter
    from detector.data.image_files import Pixels

State = Mapping[str, torch.Tensor]

# As its own validation has them.
_LEAST_SCORE = 0.001
_IOU_OF_SUPPRESSION = 0.6


def _open(checkpoint: Checkpoint, request: Request) -> "Adapter":
    registry = _registry()
    state = checkpoint.state_dict()
    family, _, size = request.place.partition(":")
    written = checkpoint.archive.metadata if _wrote(checkpoint) else {}
    if not family:
        family, size = (str(written.get(key, "")) for key in ("model_family", "size"))
    kind = _family(registry, family) if family else _recognized(registry, state, checkpoint)
    size = size or _told(kind, "detect_size", state) or ""
    if size not in kind.INPUT_SIZES:
        known = ", ".join(map(str, kind.INPUT_SIZES))
        said = f'"{size}"' if size else "not told by the file"
        raise UserError(
            f"{checkpoint.path}: the size is {said}; expected --model libreyolo:{kind.FAMILY}:SIZE "
            f"of {known}"
        )
    count = _told(kind, "detect_nb_classes", state) or 80
    try:
        # The tensors alone: what else lies in the file is not handed on.
        with redirect_stdout(StringIO()):
            made = kind(dict(state), size=size, nb_classes=int(count), device="cpu")
    except Exception as error:
        raise UserError(
            f"{checkpoint.path} does not fit LibreYOLO's {kind.FAMILY} of size {size}: "
            f"{type(error).__name__}: {_said(error)}"
        ) from error
    names = renamed(state, made.model.state_dict())
    if not names:
        raise UserError(f"{checkpoint.path}: LibreYOLO's {kind.FAMILY} took none of its tensors")
    ratios: dict[Size, float] = {}
    told = (kind.FAMILY, size, int(count))
    return wrap(
        made.model,
        classes=_class_names(made, written.get("names")),
        prepare=_Step((*told, "prepare"), partial(_prepare, made, ratios)),
        decode=_Step((*told, "decode"), partial(_decode, made, ratios)),
        names=names,
        device=request.device,
    )


@dataclass(frozen=True)
class _Step:
    """What comes before or after the network: of models that differ in their weights alone, the
    same."""

    told: tuple[Any, ...]  # family, size, number of classes, which step
    run: Callable[..., Any] = field(compare=False)

    def __call__(self, *given: Any) -> Any:
        return self.run(*given)


def _wrote(checkpoint: Checkpoint) -> bool:
    """Whether LibreYOLO has written the file."""
    known = checkpoint.archive.metadata
    return all(isinstance(known.get(key), str) for key in ("libreyolo_version", "model_family"))


def _class_names(made: Any, told: Any) -> list[str]:
    """Those that the file tells, where it does, or the package's own."""
    known = told if isinstance(told, Mapping) and len(told) == made.nb_classes else made.names
    by_number = {int(number): str(name) for number, name in known.items() if _is_number(number)}
    return [by_number.get(number, f"class_{number}") for number in range(made.nb_classes)]


def _is_number(key: Any) -> bool:
    return isinstance(key, int) or (isinstance(key, str) and key.isdecimal() and len(key) < 9)


def renamed(stored: State, live: State) -> dict[str, str]:
    """For each tensor of a file the name that a model which loaded it has for it: its own, or that
    of the one tensor that holds the same values."""
    names = {
        name: name
        for name, tensor in stored.items()
        if name in live and torch.equal(live[name].detach().cpu().to(tensor.dtype), tensor)
    }
    free: dict[str, list[str]] = {}
    for name in live.keys() - set(names.values()):
        free.setdefault(tensor_digest(live[name]), []).append(name)
    for name, tensor in stored.items():
        if name not in names:
            found = free.get(tensor_digest(tensor), [])
            if len(found) == 1:
                names[name] = found.pop()
    return names


def _prepare(made: Any, ratios: dict[Size, float], image: "Pixels") -> torch.Tensor:
    from PIL import Image

    tensor, _, _, ratio = made._preprocess(Image.fromarray(image), input_size=made.input_size)
    ratios[(int(image.shape[0]), int(image.shape[1]))] = ratio  # which the size alone decides
    found: torch.Tensor = tensor.cpu()
    return found


def _decode(
    made: Any, ratios: Mapping[Size, float], outputs: Any, sizes: Sequence[Size]
) -> list[tuple[Any, Any, Any]]:
    from libreyolo.models.base.inference import slice_batch_outputs

    found = []
    for index, (height, width) in enumerate(sizes):
        one = made._postprocess(
            slice_batch_outputs(outputs, index),
            _LEAST_SCORE,
            _IOU_OF_SUPPRESSION,
            (width, height),
            max_det=MAX_DETECTIONS,
            ratio=ratios[(height, width)],
            input_size=made.input_size,
        )
        boxes = torch.as_tensor(one["boxes"], dtype=torch.float64).reshape(-1, 4)
        scores = torch.as_tensor(one["scores"], dtype=torch.float64).reshape(-1)
        labels = torch.as_tensor(one["classes"]).reshape(-1).long()
        found.append((boxes, scores, labels))
    return found


def _registry() -> Sequence[Any]:
    try:
        import libreyolo.models
        from libreyolo.models.base import BaseModel
    except ImportError as error:
        raise UserError(
            f'libreyolo is not installed ({_said(error)}): pip install "ablate-kit[libreyolo]"'
        ) from None
    except RuntimeError as error:  # of a torchvision that is built for another torch
        raise UserError(f"libreyolo cannot be imported: {_said(error)}") from None
    with suppress(ImportError):
        libreyolo.models.try_ensure_rfdetr()  # needs transformers
    return [one for one in BaseModel._registry if "detect" in one._supported_tasks()]


def _family(registry: Sequence[Any], family: str) -> Any:
    known = {one.FAMILY: one for one in registry}
    if family not in known:
        near = did_you_mean(family, known)
        raise UserError(
            f'LibreYOLO has no family "{family}"{near}; it has {", ".join(sorted(known))}'
        )
    return known[family]


def _recognized(registry: Sequence[Any], state: State, checkpoint: Checkpoint) -> Any:
    kind = next((one for one in registry if one.can_load(dict(state))), None)
    if kind is None:
        raise UserError(
            f"{checkpoint.path} is of no family that LibreYOLO recognizes; expected --model "
            "libreyolo:FAMILY:SIZE"
        )
    return kind


def _told(kind: Any, method: str, state: State) -> Any:
    """What a family reads off the tensors, where it can."""
    ask = getattr(kind, method, None)
    return ask(dict(state)) if ask else None


def _said(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


FRAMEWORK = Framework(
    open=_open, takes="[:FAMILY[:SIZE]]", recognizes=_wrote, packages=("libreyolo",)
)
