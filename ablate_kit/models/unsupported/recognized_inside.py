"""A detector that lies in a file under a prefix of its names."""

from collections.abc import Callable
from dataclasses import replace

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.inner_sets import below
from ablate_kit.errors import UserError

_MOST_BEGINNINGS = 20  # of names, behind which a detector is looked for


def refuse_if_inside(checkpoint: Checkpoint, recognizes: Callable[[Checkpoint], bool]) -> None:
    """Raises ``UserError``, which says what to give, where ``recognizes`` holds without the
    beginning of the names."""
    beginnings = dict.fromkeys(name.partition(".")[0] for name in checkpoint.tensors)
    for beginning in list(beginnings)[:_MOST_BEGINNINGS]:
        if recognizes(replace(checkpoint, tensors=below(checkpoint.tensors, beginning))):
            place = f"{checkpoint.place}.{beginning}" if checkpoint.place else beginning
            raise UserError(
                f'{checkpoint} holds a detector under names that begin with "{beginning}."; give '
                f'--weights "{place}"'
            )
