"""A detector that lies in a file under a prefix of its names."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.weight_sets import WeightSet, named_set
from ablate_kit.errors import UserError

_MOST_BEGINNINGS = 20  # of names, behind which a detector is looked for


def refuse_if_inside(
    checkpoint: Checkpoint, recognizes: Callable[[Checkpoint], bool], share: float = 0.0
) -> None:
    """Raises ``UserError``, which says what to give, where ``recognizes`` holds without the
    beginning of the names, such as each of a student and its teacher.

    Args:
        share: of the tensors, which at least have a beginning that is looked behind.
    """
    found = {
        one.place: beginning
        for beginning, one in _inside(checkpoint, share)
        if recognizes(replace(checkpoint, place=one.place, tensors=one.tensors))
    }
    if found:
        names = " or ".join(f'"{one}."' for one in found.values())
        places = " or ".join(f'"{one}"' for one in found)
        raise UserError(
            f"{checkpoint} holds a detector under names that begin with {names}; give "
            f"--weights {places}"
        )


def _inside(checkpoint: Checkpoint, share: float) -> Iterator[tuple[str, WeightSet]]:
    """The sets of weights that ``--weights`` can name below the one that is taken."""
    least = share * len(checkpoint.tensors)
    beginnings = dict.fromkeys(name.partition(".")[0] for name in checkpoint.tensors)
    start = f"{checkpoint.place}." if checkpoint.place else ""
    whole = WeightSet(checkpoint.place, checkpoint.tensors)
    for beginning in list(beginnings)[:_MOST_BEGINNINGS]:
        one = named_set([whole], f"{start}{beginning}")
        if one and len(one.tensors) >= least:
            yield beginning, one
