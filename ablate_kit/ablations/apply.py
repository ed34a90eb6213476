"""An ablation on a live model, reversibly, and on the file of a checkpoint."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ablate_kit.ablations.ablation import Ablation, Blocks, Edit, Random, Whole
from ablate_kit.checkpoints import Checkpoint, TensorInfo
from ablate_kit.checkpoints.patch import Change
from ablate_kit.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch


@contextmanager
def applied(
    module: "torch.nn.Module",
    ablation: Ablation,
    live_names: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[None]:
    """``module`` with an ablation, and after the block with its exact bytes of before.

    They also come back after an exception. A tensor that several modules share is one tensor: an
    edit reaches all of them.

    Args:
        module: any model.
        ablation: its tensors are named as in the checkpoint.
        live_names: for each of these names, those in ``module.state_dict()``; by default the
            names are the same.

    Raises:
        UserError: an edit names no tensor of the model, or elements that it does not have.
    """
    with edited(module.state_dict(keep_vars=True), ablation, live_names):
        yield


@contextmanager
def edited(
    tensors: Mapping[str, "torch.Tensor"],
    ablation: Ablation,
    live_names: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[None]:
    """``applied``, to the tensors of a model's ``state_dict()``."""
    import torch

    targets = [
        (tensors[there], edit)
        for edit in ablation.edits
        for there in resolved(edit, tensors, live_names)
    ]
    undo: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        with torch.no_grad():
            for tensor, edit in targets:
                for entry in _set(tensor.detach(), edit):
                    undo.append(
                        entry
                    )  # before the tensor changes, for it might not come to the next
        yield
    finally:
        with torch.no_grad():
            for view, before in reversed(undo):
                view.copy_(before)


def check_fits(checkpoint: Checkpoint, ablation: Ablation) -> None:
    """Raises ``UserError`` like ``applied`` where an edit does not fit the checkpoint."""
    for edit in ablation.edits:
        info = checkpoint.tensor(edit.tensor)
        _check(edit, info.shape)
        if not info.is_floating:
            raise UserError(f"{edit.tensor} holds {info.dtype}; only floating tensors can be cut")
        if not edit.constant:
            raise UserError(
                f"{edit.tensor} would be scaled or made noisy, which is for live models: a changed "
                "copy of a checkpoint can only have elements set to a value"
            )
        if isinstance(edit.region, Random) and info.overlapping:
            raise UserError(
                f"elements of {edit.tensor} share bytes; none of them can be drawn alone"
            )


def file_changes(checkpoint: Checkpoint, ablation: Ablation) -> Iterator[Change]:
    """What an ablation changes in the file of ``checkpoint``, for ``write_patched``.

    One at a time, because drawn elements are listed one by one. Raises ``UserError`` like
    ``applied``.
    """
    check_fits(checkpoint, ablation)
    for edit in ablation.edits:
        info = checkpoint.tensor(edit.tensor)
        element = encoded(edit.value, info)
        match edit.region:
            case Whole():
                yield Change(info.name, element)
            case Blocks(axis, ranges):
                leading = (slice(None),) * axis
                for start, stop in ranges:
                    yield Change(info.name, element, (*leading, slice(start, stop)))
            case Random() as region:
                for index in region.parts(edit.tensor, info.shape):
                    yield Change(info.name, element, index)


def elements_changed(ablation: Ablation, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many elements the edits set, each edit counted by itself."""
    return sum(edit.region.count(shapes[edit.tensor]) for edit in ablation.edits)


def encoded(value: float, info: TensorInfo) -> bytes:
    """One element of the tensor's type."""
    if value == 0:
        return bytes(info.itemsize)
    import torch

    element = torch.tensor([value], dtype=getattr(torch, info.dtype))
    return element.view(torch.uint8).numpy().tobytes()


def resolved(
    edit: Edit,
    tensors: Mapping[str, "torch.Tensor"],
    live_names: Mapping[str, Sequence[str]] | None,
) -> Sequence[str]:
    known = {name: (name,) for name in tensors} if live_names is None else live_names
    if not known.get(edit.tensor):
        raise UserError(
            f'the model has no tensor "{edit.tensor}"{did_you_mean(edit.tensor, known)}'
        )
    return known[edit.tensor]


def _set(tensor: "torch.Tensor", edit: Edit) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
    """Sets the elements, yielding each view that is about to change and its values of before."""
    import numpy as np
    import torch

    _check(edit, tuple(tensor.shape))
    if not tensor.is_floating_point():
        raise UserError(f"{edit.tensor} holds {tensor.dtype}; only floating tensors can be cut")
    match edit.region:
        case Whole():
            yield tensor, tensor.clone()
            _become(tensor, edit)
        case Blocks(axis, ranges):
            for start, stop in ranges:
                view = tensor.narrow(axis, start, stop - start)
                yield view, view.clone()
                _become(view, edit)
        case Random() as region:
            index = region.indices(edit.tensor, tuple(tensor.shape))
            positions = np.unravel_index(index, tuple(tensor.shape) or (1,))
            where = tuple(torch.from_numpy(axis).to(tensor.device) for axis in positions)
            yield tensor, tensor.clone()
            if not edit.constant:
                raise UserError(f"{edit.tensor}: random units can only be set to a value")
            tensor.view(tensor.shape or (1,))[where] = edit.value


def _become(view: "torch.Tensor", edit: Edit) -> None:
    import torch

    if edit.constant:
        view.fill_(edit.value)
        return
    added = torch.full((), edit.value, dtype=torch.float64, device=view.device)
    if edit.noise:
        drawn = torch.from_numpy(edit.noise.values(edit.tensor, view.numel())).view(view.shape)
        deviation = view.double().std(correction=0)
        added = added + edit.noise.share * deviation * drawn.to(view.device)
    view.copy_(edit.factor * view.double() + added)


def _check(edit: Edit, shape: tuple[int, ...]) -> None:
    """An ablation may come from a file: its regions must lie in the tensor."""
    match edit.region:
        case Blocks(axis, ranges):
            inside = 0 <= axis < len(shape) and all(
                0 <= start < stop <= shape[axis] for start, stop in ranges
            )
        case Random(units):
            inside = 0 < units <= math.prod(shape)
        case Whole():
            inside = True
    if not inside:
        raise UserError(f"{edit.tensor} of shape {shape} has no {edit.region}")
