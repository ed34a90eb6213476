"""Which stored recordings may be used: no one is trusted that was not compared with a full pass.

What a call leaves on its module must not matter. That is found out with other images between, also
with images of another size where such come, by this process or by an earlier one, which has written
a certificate. With that, one full pass of a
drawn variant is all that is run in full before recordings are used.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from ablate_kit.models.adapter import Adapter
from ablate_kit.models.inference.batches import Group
from ablate_kit.sweeps.execution.certificate import entrances, replaced
from ablate_kit.sweeps.execution.identical import identical
from ablate_kit.sweeps.execution.identities import CallId, Key
from ablate_kit.sweeps.execution.model_recordings import ModelRecordings, images_digest
from ablate_kit.sweeps.execution.recorded_output import Outputs
from ablate_kit.sweeps.execution.replay import Replay, Run
from ablate_kit.sweeps.execution.stored_recording import StoredRecording
from ablate_kit.sweeps.execution.trace import NEVER, Trace

CUTS = 24  # places where variants begin, the last ones of a pass, that are certified


@dataclass
class Once:
    """One group of images, which all passes share."""

    run: Run  # the model as it is, in full
    group: Group
    again: str  # the digest of the variant that runs in full, too, whatever was checked before
    reference: tuple[Any] | None = None  # what the model gives in full, where it just did

    @cached_property
    def images(self) -> str:
        return images_digest(self.group.inputs)

    @property
    def sizes(self) -> dict[str, int]:
        """Of each axis."""
        inputs = self.group.inputs.items()
        return {f"{name} {i}": n for name, one in inputs for i, n in enumerate(one.shape)}


@dataclass(frozen=True)
class Cuts:
    """What is asked of a recording: these outputs, for variants that change these tensors."""

    keep: Collection[CallId]
    changes: Sequence[Sequence[Key]]

    def ticks(self, trace: Trace, until: float = NEVER) -> list[float]:
        """Where passes go on that follow ``trace`` up to ``until`` at most, the last first."""
        return sorted({min(trace.restart(one), until) for one in self.changes}, reverse=True)


@dataclass
class Drawn:
    """One full pass of this process: of a variant, or of the model as it is.

    Attributes:
        changed: what differs from the unmodified model.
        applied: makes the variant of the model, for a while.
        gave: what came out, once it has run.
        on_the_way: what calls gave that came before anything of it; of the model as it is.
    """

    changed: Sequence[Key]
    applied: Callable[[], AbstractContextManager[None]]
    gave: tuple[Any] | None = None
    on_the_way: Outputs = field(default_factory=dict)

    def trace(self, once: Once, replay: Replay, keep: Collection[CallId]) -> Trace:
        with self.applied():
            gave, trace = replay.record(once.run, keep)
        self.gave = (gave,)
        known = {one.id for one in trace.root.all() if one.end < trace.restart(self.changed)}
        self.on_the_way = {one: kept for one, kept in trace.outputs.items() if one in known}
        return trace

    def differs_from(self, stored: Trace, until: float) -> bool:
        """Whether a call gave something else on the way than is stored of it, before ``until``:
        the variant itself may hide that."""
        known = (one.id for one in stored.root.all() if one.end < until)
        outputs, others = stored.outputs, self.on_the_way
        both = (one for one in known if one in outputs and one in others)
        return not all(identical(outputs[one].leaves, others[one].leaves) for one in both)


@dataclass(frozen=True)
class _First:
    """The first batch, whose recording is to be compared with what it gave."""

    run: Run
    images: str
    cuts: Cuts
    seen: set[str] = field(default_factory=set)  # images that the model has run on since


class RecordingChecks:
    """Of the recordings of one model, in one process."""

    def __init__(self, adapter: Adapter, recordings: ModelRecordings) -> None:
        self._adapter = adapter
        self._certificate = recordings.certificate
        self._drawn = False  # whether a drawn variant was the same in full
        self._held = False  # whether other images between made no difference
        self._first: _First | None = None
        self._done = False  # whether there is nothing more to certify
        self._sizes: dict[str, int] = {}  # of the images before these
        self._resized: set[str] = set()  # axes along which they made no difference

    def after_others(self, once: Once) -> set[str]:
        """The axes along which the images before had another size, but for those that are checked:
        a size that is left on a module does not show among images that have it in common."""
        before, self._sizes = self._sizes, once.sizes
        axes = {*before, *once.sizes} if before else ()
        return {one for one in axes if before.get(one) != once.sizes.get(one)} - self._resized

    def may_use(
        self,
        once: Once,
        replay: Replay,
        stored: StoredRecording,
        changed: Sequence[Key],
        cuts: Cuts,
        drawn: Drawn,
        *,
        after_others: Collection[str],
    ) -> bool:
        """Whether passes that go on from ``stored`` give what full ones give.

        Args:
            changed: tensors that have changed since it was made.
            after_others: what the method of that name has found.
        """
        if self._held and not after_others:
            return True
        until = min(begins(stored, cuts.keep), stored.trace.restart(changed))
        ticks = cuts.ticks(stored.trace, until)
        sets = {replaced(stored.trace, one) for one in ticks} - {""}
        if after_others and sets and not once.reference:  # else the model runs on these, or has
            told = {f"{one} {axis}" for one in sets for axis in after_others}
            if not told <= self._certificate.held:
                found = [replay.replay(once.run, stored.trace, changed, until=one) for one in ticks]
                once.reference = (once.run(),)
                if not all(identical(one, once.reference[0]) for one in found):
                    self._certificate.withdraw()
                    return False
                self._certificate.add(told)
            self._resized |= set(after_others)
        if self._held:
            return True
        if drawn.gave and sets <= self._certificate.held:
            with drawn.applied():
                again = replay.replay(once.run, stored.trace, [*changed, *drawn.changed])
            self._drawn = (
                identical(again, drawn.gave[0])
                and not drawn.differs_from(stored.trace, stored.trace.restart(changed))
                and _gives(once.run, replay, stored, changed, ticks[-1:], stored.result)
            )
            once.again = ""
        if self._drawn and sets <= self._certificate.held:
            return True
        # In between the model sees other images, so that what a pass leaves on modules, beside
        # what they return, is not that of these. What one pass runs, no later one skips.
        reference = once.reference or (once.run(),)
        self._adapter.forward(_others(once.group.inputs))
        self._held = _gives(once.run, replay, stored, changed, ticks, reference)
        if not self._held:
            self._certificate.withdraw()
        elif sets:
            self._certificate.add(sets)
        return self._held

    def certify(
        self,
        once: Once,
        replay: Replay,
        cuts: Cuts,
        load: Callable[[str], tuple[StoredRecording, list[Key]] | None],
    ) -> None:
        """For later sweeps: before the third batch runs, the first is compared with its own
        recording, as they will find it. What modules keep is of the second."""
        if self._done:
            return
        first = self._first = self._first or _First(once.run, once.images, cuts)
        if once.images == first.images or cuts.keep != first.cuts.keep:
            return
        if first.seen <= {once.images}:
            first.seen.add(once.images)
            return
        self._first, self._done = None, True
        found = load(first.images)
        if found is None or found[1] or not found[0].result:
            return
        trace = found[0].trace
        ticks = set(first.cuts.ticks(trace))
        # A later sweep may begin elsewhere: where a call began that was kept, or was under way.
        ticks |= {begun for one in ticks for begun in entrances(trace.root, one)}
        ticks |= {one.start for one in trace.root.all() if trace.outputs.get(one.id)}
        sets: set[str] = set()
        for tick in sorted(ticks, reverse=True)[:CUTS]:
            new = replaced(trace, tick)
            if new and new not in self._certificate.held | sets:
                if not _gives(first.run, replay, found[0], (), [tick], found[0].result):
                    return
                sets.add(new)
        if sets:
            self._certificate.add(sets)


def begins(stored: StoredRecording, keep: Collection[CallId]) -> float:
    """When the first call began whose output is to be kept, and is not there."""
    missing = set(keep) - stored.held
    calls = {call.id: call for call in stored.trace.root.all()}
    return min((calls[one].start if one in calls else 0 for one in missing), default=NEVER)


def _gives(
    run: Run,
    replay: Replay,
    stored: StoredRecording,
    changed: Sequence[Key],
    ticks: Sequence[float],
    reference: tuple[Any] | None,
) -> bool:
    """Whether the unmodified model gives ``reference``, wherever a pass goes on from ``stored``;
    so does the result that was stored, where it counts."""
    if reference is None:
        return True
    if not changed and stored.result and not identical(stored.result, reference):
        return False
    return all(
        identical(replay.replay(run, stored.trace, changed, until=tick), reference[0])
        for tick in ticks
    )


def _others(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same images, mirrored."""
    return {
        name: tensor.flip(-1) if tensor.is_floating_point() and tensor.dim() == 4 else tensor
        for name, tensor in inputs.items()
    }
