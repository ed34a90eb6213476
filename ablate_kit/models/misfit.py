"""Which tensors of a file do not fit a model, as an error says it."""

from collections.abc import Sequence


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
