"""Which tensors of a file do not fit a model, as an error says it."""

from collections.abc import Mapping, Sequence

from torch import nn

Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of the tensors of its state."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def of_shapes(there: Shapes, here: Shapes) -> str:
    """Of the first in a file that the model has in another shape; empty where there is none."""
    wrong = (name for name, shape in there.items() if shape != here.get(name, shape))
    return next((of_shape(name, there[name], here[name]) for name in wrong), "")


def of_shape(name: str, there: Sequence[int], here: Sequence[int]) -> str:
    return f'tensor "{name}" has shape {tuple(there)}, the model expects {tuple(here)}'


def of_names(missing: Sequence[str], unexpected: Sequence[str]) -> str:
    """Of the first, and how many there are; empty where there are none."""
    for names, what in (
        (missing, "of the model is missing in the file"),
        (unexpected, "has no place in the model"),
    ):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            return f'tensor "{names[0]}"{more} {what}'
    return ""
