"""The unmodified model and all its variants on one batch after the other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from ablate_kit.checkpoints.elements import flat_bytes
from ablate_kit.models.adapter import (
    Adapter,
    Group,
    ImageDetections,
    Prepared,
    groups,
    inference,
)
from ablate_kit.sweeps.plan import BASELINE, Changes, Part, Plan, Step, plan
from ablate_kit.sweeps.replay import CannotTraceError, Replay
from ablate_kit.sweeps.trace import PLAIN, Trace
from ablate_kit.sweeps.variant import Variant

MEMORY = 2 << 30  # bytes of recorded outputs, unless told otherwise

Run = Callable[[], Any]
Advance = Callable[[str, int], None]


class Passes:
    """Runs batches within a ``with`` block: the unmodified model first, then every variant.

    On the first batch every variant also runs in full, and one whose replay differs in any bit is
    run in full from then on. ``notes`` says so.
    """

    def __init__(
        self,
        adapter: Adapter,
        variants: Sequence[Variant],
        *,
        replay: bool = True,
        memory: float = MEMORY,
        verify: bool = True,
    ) -> None:
        self.notes: list[str] = []
        self.trace: Trace | None = None  # of the unmodified pass over the first images
        self.plan: Plan | None = None
        self._adapter = adapter
        self._variants = variants
        self._state = adapter.module.state_dict(keep_vars=True)
        self._changes = [variant.changes(self._state) for variant in variants]
        self._replay = Replay(adapter.module) if replay and variants else None
        self._memory = memory
        self._verify = verify
        self._planned = 0  # elements of the largest input that the plan was made for
        self._full: set[int] = set()  # variants that replay cannot do
        self._stack = ExitStack()

    def __enter__(self) -> "Passes":
        self._stack.enter_context(inference())
        if self._replay:
            try:
                self._stack.enter_context(self._replay)
            except CannotTraceError as reason:
                self._give_up(str(reason))
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.close()

    def run(
        self, prepared: Sequence[Prepared], advance: Advance = lambda _, __: None
    ) -> list[list[ImageDetections]]:
        """Detections of the unmodified model, then of each variant, for each image."""
        found: list[dict[int, ImageDetections]] = [{} for _ in range(len(self._variants) + 1)]
        names = ["unmodified", *(variant.name for variant in self._variants)]
        for group in groups(prepared):
            for number, outputs in self._outputs(group):
                results = self._adapter.decode(outputs, group.origins)
                found[number + 1] |= zip(group.positions, results, strict=True)
                advance(names[number + 1], len(group.positions))
        self._verify = False
        return [[one[i] for i in range(len(prepared))] for one in found]

    @property
    def full(self) -> bool:
        """Whether nothing is replayed."""
        return self._replay is None

    def look(self, prepared: Sequence[Prepared]) -> None:
        """Makes ``trace`` and ``plan`` on the first of these images and those of its shape, and
        runs no variant."""
        group = groups(prepared)[0]
        if self._replay:
            self._make_plan(lambda: self._adapter.forward(group.inputs), self._replay)
            self._planned = _elements(group)

    def _outputs(self, group: Group) -> Iterator[tuple[int, Any]]:
        """The number of each variant, BASELINE first, and what the model returns."""

        def run() -> Any:
            return self._adapter.forward(group.inputs)

        if self._replay and _elements(group) > self._planned:
            self._make_plan(run, self._replay)
            self._planned = _elements(group)
        done: set[int] = set()
        known = len(self._full)
        if self._replay and self.plan:
            for part in self.plan.parts:
                for number, outputs in self._part(run, self._replay, part):
                    if number not in done:
                        yield number, outputs
                    done.add(number)
        if BASELINE not in done:
            yield BASELINE, run()
        for number, variant in enumerate(self._variants):
            if number not in done:
                with variant.applied(self._state):
                    outputs = run()
                yield number, outputs
        if len(self._full) > known:
            self._planned = 0  # without them, others may find a better base

    def _make_plan(self, run: Run, replay: Replay) -> None:
        reference = run()  # which raises what is wrong with the images, or with the model
        try:
            outputs, trace = replay.trace(run)
            watched = identical(outputs, reference)
            # Run again only where it matters whose doing it is.
            repeated = watched or identical(run(), reference)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a model's own code may raise when it is watched
            self._give_up(_told(error))
            return
        if not watched:
            what = "while its operations are watched" if repeated else "every time it runs"
            self._give_up(f"it computes something else {what}")
            return
        self.trace = self.trace or trace
        changes = {i: one for i, one in enumerate(self._changes) if i not in self._full}
        self.plan = plan(trace, changes, self._memory)
        if self.plan.full:
            self._note(
                f"{len(self.plan.full)} variants run in full: what they would replay takes more "
                f"than {self._memory / 2**20:.0f} MiB"
            )

    def _part(self, run: Run, replay: Replay, part: Part) -> Iterator[tuple[int, Any]]:
        """What of ``part`` replay can do; all else is left to run in full."""
        try:
            outputs, trace = replay.record(run, part.keep)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._give_up(_told(error))
            return
        yield BASELINE, outputs
        traces = {BASELINE: trace}
        for step in part.steps:
            base = traces.get(step.base)
            if base is not None:
                with self._variants[step.variant].applied(self._state):
                    outputs = self._replayed(run, replay, step, base, traces)
                if outputs is not None:
                    yield step.variant, outputs[0]
            for done in step.releases:
                traces.pop(done, None)

    def _replayed(
        self, run: Run, replay: Replay, step: Step, base: Trace, traces: dict[int, Trace]
    ) -> tuple[Any] | None:
        """The outputs of one variant, and its trace where others build on it; None where replay
        cannot do it."""
        name = self._variants[step.variant].name
        changed = self._changed(step.base, step.variant)
        try:
            if step.keep:
                outputs, traces[step.variant] = replay.record(run, step.keep, base, changed)
            else:
                outputs = replay.replay(run, base, changed)
            differs = self._verify and not identical(outputs, full := run())
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # if the variant itself raises it, it does so again in full
            self._full.add(step.variant)
            self._note(f"{name} runs in full: it cannot be replayed ({_told(error)})")
            return None
        if differs:
            self._full.add(step.variant)
            self._note(f"{name} runs in full: its replay differs from the full run")
            return (full,)
        return (outputs,)

    def _changed(self, one: int, other: int) -> list[Any]:
        a: Changes = self._changes[one] if one != BASELINE else {}
        b: Changes = self._changes[other]
        return [key for key in {**a, **b} if a.get(key) != b.get(key)]

    def _give_up(self, reason: str) -> None:
        self._replay = None
        self.plan = None
        self._note(f"every variant runs in full: the model cannot be replayed ({reason})")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _elements(group: Group) -> int:
    return sum(tensor.numel() for tensor in group.inputs.values())


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def identical(one: Any, other: Any) -> bool:
    """Whether two outputs have the same values, tensors bit for bit; NaN equals itself.

    Raises ``TypeError`` for outputs that hold what cannot be compared.
    """
    (a, like), (b, same) = (pytree.tree_flatten(value) for value in (one, other))
    return like == same and all(_same(x, y) for x, y in zip(a, b, strict=True))


def _same(x: Any, y: Any) -> bool:
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
        return (
            x.shape == y.shape and x.dtype == y.dtype and torch.equal(flat_bytes(x), flat_bytes(y))
        )
    if type(x) is not type(y):
        return False
    if isinstance(x, np.ndarray):
        return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()
    if not isinstance(x, PLAIN):
        raise TypeError(f"its outputs hold a {type(x).__name__}, which cannot be compared")
    return x == y or (x != x and y != y)  # NaN
