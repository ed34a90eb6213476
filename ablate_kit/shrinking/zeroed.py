"""Which elements of a checkpoint an ablation makes zero, and which rows it takes away."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import check_region
from ablate_kit.ablations.attention import OFF_MAP, OFF_MAP_HALF, TensorLike
from ablate_kit.ablations.edits import Blocks, Edit, Random, Removed, Whole
from ablate_kit.errors import UserError, did_you_mean

Mask = npt.NDArray[np.bool_]


class StaysError(UserError):
    """An ablation does something else to a tensor than to make it zero: nothing is gone that a
    smaller model could be without.

    Args:
        ablation: its name.
        what: that it does, with "{}" where the tensor is named.
        tensor: its name, with the words around it.
    Attributes:
        reason: without names, so alike for all ablations that it is true of.
    """

    def __init__(self, ablation: str, what: str, tensor: str) -> None:
        super().__init__(f'"{ablation}" {what.format(tensor)}')
        self.reason = f"it {what.format('')}"


@dataclass(frozen=True)
class Zeroed:
    """``masks`` are true where an element becomes zero, for each tensor that is touched; ``rows``
    are those of tables of queries that are taken away; ``biases`` are those that take up the mean
    of what becomes zero before them, with their elements."""

    masks: Mapping[str, Mask]
    rows: Mapping[str, tuple[int, ...]]
    biases: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def whole(self, *tensors: str) -> bool:
        """Whether every element of all these tensors becomes zero."""
        return all(name in self.masks and bool(self.masks[name].all()) for name in tensors)

    def along(self, tensor: str, axis: int) -> set[int]:
        """The indices on ``axis`` whose elements all become zero."""
        if tensor not in self.masks:
            return set()
        mask = self.masks[tensor]
        others = tuple(i for i in range(mask.ndim) if i != axis)
        return set(np.flatnonzero(mask.all(axis=others)).tolist())

    def inputs(self, weight: str) -> set[int]:
        """The columns of a layer's weight that become zero: what comes in there plays no part."""
        return self.along(weight, 1)

    def outputs(self, weight: str, bias: str | None) -> set[int]:
        """The rows of a layer that become zero with their bias: its output there is zero."""
        rows = self.along(weight, 0)
        return rows if bias is None else rows & self.along(bias, 0)


def zeroed(ablation: Ablation, tensors: Mapping[str, TensorLike]) -> Zeroed:
    """What an ablation of a checkpoint with these ``tensors`` makes zero.

    Raises ``StaysError`` where it does something else to a tensor.
    """
    masks: dict[str, Mask] = {}
    biases: dict[str, tuple[float, ...]] = {}
    for edit in ablation.edits:
        _check_there(edit.tensor, ablation.name, tensors)
        shape = tuple(tensors[edit.tensor].shape)
        if edit.values and _takes_up(edit) and shape == (len(edit.values),):
            biases[edit.tensor] = edit.values
            continue
        _check(edit, ablation.name, tensors)
        mask = masks.setdefault(edit.tensor, np.zeros(shape, dtype=bool))
        for block in edit.region.slices() if isinstance(edit.region, Blocks) else [...]:
            mask[block] = True
    return Zeroed(masks, dict(_rows(ablation, tensors)), biases)


def _takes_up(edit: Edit) -> bool:
    """Whether it is as a head at its mean makes the bias of the projection after it."""
    return edit.constant and edit.region == Whole() and edit.tensor.rpartition(".")[2] == "bias"


def _rows(
    ablation: Ablation, tensors: Mapping[str, TensorLike]
) -> Iterable[tuple[str, tuple[int, ...]]]:
    for one in ablation.live:
        if not isinstance(one, Removed):
            what = "takes what comes in{} from other images: there is nothing to remove"
            raise StaysError(ablation.name, what, f"to {one.tensor}")
        _check_there(one.tensor, ablation.name, tensors)
        count = tensors[one.tensor].shape[0]
        outside = [row for row in one.rows if not 0 <= row < count]
        if outside:
            raise UserError(f"{one.tensor} has no row {outside[0]}; it has {count}")
        yield one.tensor, tuple(sorted(set(one.rows)))


def _check(edit: Edit, name: str, tensors: Mapping[str, TensorLike]) -> None:
    if isinstance(edit.region, Random):
        what = "zeroes single elements{}, drawn at random: no unit, head or layer is gone that a "
        raise StaysError(name, f"{what}smaller model could be without", f" of {edit.tensor}")
    if edit.tensor.endswith("sampling_offsets.bias") and edit.value in (OFF_MAP, OFF_MAP_HALF):
        what = "moves the sampling points of heads off the map{}: they sample without a "
        why = "projection, so each owns channels of the map, and those stay"
        raise StaysError(name, what + why, f" ({edit.tensor})")
    if not edit.constant or edit.values is not None or edit.value != 0:
        become = "other values" if edit.constant else "scaled or noisy"
        what = f"makes elements{{}} {become}, not zero: a smaller model cannot be without them"
        raise StaysError(name, what, f" of {edit.tensor}")
    check_region(edit, tuple(tensors[edit.tensor].shape))


def _check_there(tensor: str, name: str, tensors: Mapping[str, TensorLike]) -> None:
    if tensor not in tensors:
        raise UserError(
            f'"{name}" is about a tensor "{tensor}", which the checkpoint does not have'
            f"{did_you_mean(tensor, tensors)}"
        )
