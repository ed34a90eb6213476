"""An ablation on a live model, reversibly, and on the file of a checkpoint."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Blocks, Edit, Random, Removed, Whole
from ablate_kit.ablations.kept_values import forget_kept
from ablate_kit.ablations.name_patterns import to_model_keys
from ablate_kit.ablations.turns import cut
from ablate_kit.checkpoints import Checkpoint, TensorInfo
from ablate_kit.checkpoints.edit.elements import ElementPatch
from ablate_kit.checkpoints.quantized import not_cut
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    import torch

    from ablate_kit.ablations.draws import Draws


@contextmanager
def applied(
    module: "torch.nn.Module",
    ablation: Ablation,
    live_names: Mapping[str, Sequence[str]] | None = None,
    draws: "Draws | None" = None,
    state: "Mapping[str, torch.Tensor] | None" = None,
) -> Iterator[None]:
    """``module`` with an ablation, and after the block with its exact bytes of before.

    They also come back after an exception. A tensor that several modules share is one tensor: an
    edit reaches all of them.

    Args:
        module: any model.
        ablation: its tensors are named as in the checkpoint.
        live_names: for each of these names, those in ``module.state_dict()``; by default the
            names are the same.
        draws: keeps what is drawn, for another time.
        state: ``module.state_dict(keep_vars=True)``, which takes longer than many a pass.

    Raises:
        UserError: an edit names no tensor of the model, or elements that it does not have; or the
            model is used in a way that ``turns`` refuses.
    """
    from ablate_kit.ablations.hooks import with_hooks  # which needs torch

    state = module.state_dict(keep_vars=True) if state is None else state
    with cut(module, ablation) as stack:
        stack.callback(forget_kept, module)  # once the weights are back
        stack.enter_context(edited(state, ablation, live_names, draws))
        forget_kept(module)
        stack.enter_context(with_hooks(module, ablation, live_names, state))
        yield


@contextmanager
def edited(
    tensors: Mapping[str, "torch.Tensor"],
    ablation: Ablation,
    live_names: Mapping[str, Sequence[str]] | None = None,
    draws: "Draws | None" = None,
) -> Iterator[None]:
    """The edits of ``applied``, to the tensors of a model's ``state_dict()``."""
    import torch

    from ablate_kit.ablations.draws import Draws

    draws = draws or Draws()
    targets = [
        (tensor, edit)
        for edit in ablation.edits
        for tensor in _distinct(
            tensors, to_model_keys(edit.tensor, tensors, live_names, whole=edit.alike)
        )
    ]
    undo: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        with torch.no_grad():
            for tensor, edit in targets:
                for entry in _set(tensor.detach(), edit, draws):
                    # Before the tensor changes, for it might not come to the next.
                    undo.append(entry)
        yield
    finally:
        with torch.no_grad():
            for view, before in reversed(undo):
                view.copy_(before)


def check_fits(checkpoint: Checkpoint, ablation: Ablation) -> None:
    """Raises ``UserError`` like ``applied`` where an edit does not fit the checkpoint."""
    if ablation.live:
        raise UserError(
            f"{ablation.name} is for live models, in a sweep: {_why_live(ablation)}; no changed "
            "copy of a checkpoint can hold it"
        )
    for edit in ablation.edits:
        info = checkpoint.tensor(edit.tensor)
        check_region(edit, info.shape)
        _check_quantized(checkpoint, edit)
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


def _check_quantized(checkpoint: Checkpoint, edit: Edit) -> None:
    """Zero is 0.0 in an 8-bit float, whatever it is scaled by; all else depends on the scale."""
    reason = checkpoint.quantized.get(edit.tensor)
    scaled_float = checkpoint.tensor(edit.tensor).dtype.startswith("float8")
    is_zero = edit.constant and edit.values is None and edit.value == 0
    if reason and not (scaled_float and is_zero):
        raise not_cut(edit.tensor, reason)


def _why_live(ablation: Ablation) -> str:
    if any(isinstance(one, Removed) for one in ablation.live):
        return "it takes rows away, and a copy's tensors keep their shapes"
    return "it takes what runs through the model from other images"


def file_changes(checkpoint: Checkpoint, ablation: Ablation) -> Iterator[ElementPatch]:
    """What an ablation changes in the file of ``checkpoint``, for ``write_patched``.

    One at a time, because drawn elements are listed one by one. Raises ``UserError`` like
    ``applied``.
    """
    check_fits(checkpoint, ablation)
    for edit in ablation.edits:
        info = checkpoint.tensor(edit.tensor)
        if isinstance(edit.region, Random):
            for index in edit.region.parts(edit.tensor, info.shape):
                yield ElementPatch(info.name, encoded(edit.value, info), index)
            continue
        for block, values in zip(edit.region.slices(), parts(edit, info.shape), strict=True):
            yield ElementPatch(info.name, encoded(values, info), block or None)


def elements_changed(ablation: Ablation, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many elements the edits set, each edit counted by itself."""
    return sum(edit.region.count(shapes[edit.tensor]) for edit in ablation.edits)


def parts(edit: Edit, shape: tuple[int, ...]) -> Iterator[float | tuple[float, ...]]:
    """For each block of an edit, what its elements become: one value, or one each."""
    if not isinstance(edit.region, Blocks):
        yield edit.value if edit.values is None else edit.values
        return
    at = 0
    for start, stop in edit.region.ranges:
        if edit.values is None:
            yield edit.value
            continue
        count = Blocks(edit.region.axis, ((start, stop),)).count(shape)
        yield edit.values[at : at + count]
        at += count


def encoded(value: float | tuple[float, ...], info: TensorInfo) -> bytes:
    """One element of the tensor's type, or several, rounded as torch rounds them."""
    if value == 0:
        return bytes(info.itemsize)
    import numpy as np

    values = value if isinstance(value, tuple) else (value,)
    if info.dtype in ("float16", "float32", "float64"):
        with np.errstate(over="ignore"):
            exact = np.array(values, np.float64)
            # torch makes a half of a float, not of a double.
            rounded = exact if info.dtype == "float64" else exact.astype(np.float32)
            return rounded.astype(np.dtype(info.dtype).newbyteorder("<")).tobytes()
    import torch  # for the types that NumPy does not have

    elements = torch.tensor(values, dtype=getattr(torch, info.dtype))
    return elements.view(torch.uint8).numpy().tobytes()


def _distinct(
    tensors: Mapping[str, "torch.Tensor"], names: Iterable[str]
) -> "Iterable[torch.Tensor]":
    """Each tensor once: one that several modules share is also scaled once."""
    found = (tensors[name] for name in names)
    return {(one.data_ptr(), one.shape, one.stride()): one for one in found}.values()


def _set(
    tensor: "torch.Tensor", edit: Edit, draws: "Draws"
) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
    """Sets the elements, yielding each view that is about to change and its values of before."""
    check_region(edit, tuple(tensor.shape))
    if not tensor.is_floating_point():
        raise UserError(f"{edit.tensor} holds {tensor.dtype}; only floating tensors can be cut")
    if isinstance(edit.region, Random):
        drawn = draws.mask(edit.region, edit.tensor, tuple(tensor.shape), tensor.device)
        yield tensor, tensor.clone()
        if not edit.constant:
            raise UserError(f"{edit.tensor}: random units can only be set to a value")
        tensor.masked_fill_(drawn, edit.value)
        return
    for block, value in zip(edit.region.slices(), parts(edit, tuple(tensor.shape)), strict=True):
        view = tensor[block]
        yield view, view.clone()
        _become(view, edit, value, draws)


def _become(
    view: "torch.Tensor", edit: Edit, value: float | tuple[float, ...], draws: "Draws"
) -> None:
    import torch

    if isinstance(value, tuple):
        view.copy_(torch.tensor(value, dtype=torch.float64).view(view.shape))
        return
    if edit.constant:
        view.fill_(value)
        return
    before = in_float64(view)
    added = torch.full((), edit.value, dtype=torch.float64, device=before.device)
    if edit.noise:
        drawn = draws.noise(edit.noise, edit.tensor, tuple(view.shape), before.device)
        added = added + edit.noise.share * before.std(correction=0) * drawn
    view.copy_(edit.factor * before + added)


def in_float64(tensor: "torch.Tensor") -> "torch.Tensor":
    """Where it is, or here where its device has no such type."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def check_region(edit: Edit, shape: tuple[int, ...]) -> None:
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
    if edit.values is None:
        return
    if isinstance(edit.region, Random) or not edit.constant:
        raise UserError(f"{edit.tensor}: values are for elements that are not drawn or scaled")
    if len(edit.values) != edit.region.count(shape):
        raise UserError(
            f"{edit.tensor}: {len(edit.values)} values for {edit.region.count(shape)} elements"
        )
