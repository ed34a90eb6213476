"""Who decides what runs next: a list of variants, or lists of which each depends on the last.

A scheduler hands out work and is shown every result. It may answer "nothing now" while results are
outstanding; when it does so and none is, the run has ended.
"""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.evaluate import Evaluation
from ablate_kit.sweeps.variants.variant import Variant

MAX_BATCHES = 4  # of a piece of work that goes to another process: what a lost worker costs

Variants = tuple[Variant, ...]
Lacking = Mapping[Variants, Sequence[int]]  # batches
# Yields the variants of a round, and is sent their numbers by digest.
Evaluating = Generator[Sequence[Variant], Mapping[str, Evaluation], None]


@dataclass(frozen=True)
class Work:
    """Some batches of images, some variants; the unmodified model is one of them, or not."""

    batches: tuple[int, ...]
    variants: Variants


@dataclass(frozen=True)
class Batches:
    """The images of a data set in their order, so many at a time."""

    images: int
    size: int

    def __len__(self) -> int:
        return -(-self.images // self.size)

    def span(self, batch: int) -> range:
        return range(batch * self.size, min((batch + 1) * self.size, self.images))

    def passes(self, works: Sequence[Work]) -> int:
        """How often a variant meets an image; the unmodified model is part of every work."""
        return sum(
            sum(len(self.span(batch)) for batch in work.batches)
            * (1 + sum(1 for one in work.variants if one.digest))
            for work in works
        )


@dataclass(frozen=True)
class BatchResult:
    """What variants detect in one batch.

    Attributes:
        found: by the variants' digests.
        notes: what did not go as planned so far.
        unmodified: what the unmodified model detects, whether that was asked for or not.
    """

    batch: int
    found: Mapping[str, Detections]
    notes: Sequence[str] = field(default=())
    unmodified: Detections | None = None


def lacking(
    batches: int, pending: Mapping[str, Variant], done: Mapping[int, Collection[str]]
) -> Lacking:
    """The batches, of so many, that are to be done, by the variants that they lack.

    ``done``: by batch, the keys of those of which it has the detections.
    """
    found: dict[Variants, list[int]] = {}
    for batch in range(batches):
        there = done.get(batch, ())
        lacks = tuple(one for key, one in pending.items() if key not in there)
        if lacks:
            found.setdefault(lacks, []).append(batch)
    return found


class Stretches:
    """A scheduler of one stretch of work after the other.

    Args:
        stretches: what each lacks; the next is asked for when all results of the last are there.
        workers: how many there are; a stretch is split among them.
        begin: told what a stretch will run.
    """

    def __init__(
        self,
        stretches: Iterator[Lacking],
        *,
        workers: int = 1,
        begin: Callable[[Sequence[Work]], None] = lambda _: None,
    ) -> None:
        self._stretches = stretches
        self._workers = workers
        self._begin = begin
        self._waiting: deque[Work] = deque()
        self._outstanding = 0  # results that this stretch still has to show

    def next(self) -> Work | None:
        """What a worker is to do; None where nothing can be told before more is observed."""
        while not self._waiting and not self._outstanding:
            lacking = next(self._stretches, None)
            if lacking is None:
                return None
            self._waiting.extend(split(lacking, self._workers))
            self._outstanding = sum(len(one.batches) for one in self._waiting)
            self._begin(tuple(self._waiting))
        return self._waiting.popleft() if self._waiting else None

    def observe(self, result: BatchResult) -> None:
        """Called once for every batch of every work, in any order."""
        self._outstanding -= 1


def rounds_of(
    evaluating: Evaluating,
    lacking: Callable[[Sequence[Variant]], Lacking],
    scored: Callable[[Sequence[Variant]], Mapping[str, Evaluation]],
) -> Iterator[Lacking]:
    """The stretches of rounds of variants.

    Args:
        evaluating: the rounds.
        lacking: which batches of which of some variants are still to be done.
        scored: the numbers of variants of which every batch is done.
    """
    with suppress(StopIteration):  # of the last round
        chosen = next(evaluating)
        while True:
            yield lacking(chosen)
            chosen = evaluating.send(scored(chosen))


def split(lacking: Lacking, workers: int) -> list[Work]:
    """All that is to be done, for so many workers.

    One worker gets all batches at once, so that it prepares images ahead; several get them in small
    groups, and where there are fewer groups than workers the variants in groups as well.
    """
    found = []
    for variants, batches in lacking.items():
        if workers == 1:
            found.append(Work(tuple(batches), variants))
            continue
        size = max(1, min(MAX_BATCHES, len(batches) // (4 * workers)))
        groups = min(len(variants), max(1, -(-workers // len(batches))))
        bounds = [len(variants) * i // groups for i in range(groups + 1)]
        found += [
            Work(tuple(batches[start : start + size]), variants[first:last])
            for start in range(0, len(batches), size)
            for first, last in pairwise(bounds)
        ]
    return found
