"""How far a sweep is, for who looks on."""

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from ablate_kit.errors import UserError
from ablate_kit.progress_bars import progress

if TYPE_CHECKING:
    from ablate_kit.sweeps.run import Progress
    from ablate_kit.sweeps.scheduling.race import Watch


@contextmanager
def watched(batches: Sized, look: "Watch" = lambda _: None) -> "Iterator[Progress]":
    """Shows how far image passes are, which run in one stretch or in several; ``look``: told what a
    look of a race has come to."""
    from ablate_kit.sweeps.run import Progress

    stretches = count(1)
    with progress() as bars:
        bar = bars.add_task("", total=None)

        def begin(total: int) -> None:
            number = next(stretches)
            part = f"round {number}" if number > 1 else ""
            bars.reset(bar, total=total, part=part, batches=len(batches))

        def advance(name: str, passes: int) -> None:
            bars.update(bar, advance=passes, description=name)

        def score(done: int, variants: int) -> None:
            if not done:
                bars.reset(bar, total=variants, part="", batches=0)
            bars.update(bar, completed=done, description="evaluating")

        yield Progress(begin, advance, look, score)


@contextmanager
def shown(asked: "Progress | bool", batches: Sized = ()) -> "Iterator[Progress]":
    """What is asked for: to be told oneself, a bar, or nothing."""
    from ablate_kit.sweeps.run import UNWATCHED, Progress

    if not isinstance(asked, Progress | bool):
        raise UserError(
            f"progress is of type {type(asked).__name__}; expected True, False or a Progress of "
            "ablate_kit.sweeps.run"
        )
    if asked is True:
        with watched(batches) as display:
            yield display
    else:
        yield asked or UNWATCHED
