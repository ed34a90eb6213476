"""Passes of the unmodified model: computed, or taken from recordings of earlier sweeps."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ablate_kit.models.adapter import Adapter
from ablate_kit.sweeps.execution.identities import CallId, Key
from ablate_kit.sweeps.execution.model_recordings import ModelRecordings
from ablate_kit.sweeps.execution.recording_cache import RecordingCache
from ablate_kit.sweeps.execution.recording_checks import Cuts, Drawn, Once, RecordingChecks, begins
from ablate_kit.sweeps.execution.replay import Replay, Run
from ablate_kit.sweeps.execution.stored_recording import StoredRecording
from ablate_kit.sweeps.execution.trace import NEVER, Call, Trace

BESIDE = 0.5  # times what a sweep records: what is kept besides, for sweeps of other parts


class UnmodifiedPasses:
    """Of one model, which is unmodified at each call; ``notes`` tells where recordings of earlier
    sweeps are not used, or none are kept.

    ``memory``: bytes that the outputs of a batch may take.
    """

    def __init__(
        self, adapter: Adapter, cache: RecordingCache | None, memory: float = NEVER
    ) -> None:
        self._memory = memory
        self.notes: list[str] = []
        self._adapter = adapter
        self._cache = cache
        self._opened: tuple[ModelRecordings, RecordingChecks] | None = None
        self._structures: dict[CallId, Any] = {}  # of this process

    @property
    def kept(self) -> bool:
        """Whether recordings are kept for later sweeps."""
        return self._cache is not None

    def known(self, once: Once) -> Trace | None:
        """What happens in a pass over these images, where an earlier process has certified that
        recordings of it may be used."""
        if self._cache is None:
            return None
        recordings, _ = self._open(self._cache)
        return recordings.trace(once.images) if recordings.certificate.held else None

    def record(
        self, once: Once, replay: Replay, cuts: Cuts, like: Trace, drawn: Drawn
    ) -> tuple[Any, Trace, bool]:
        """What the model gives, its trace with the outputs that are to be kept, and whether a
        stored recording is part of it.

        Args:
            like: the trace of another pass of this model.
            drawn: what runs in full where no pass of this process is known.
        """
        keep = cuts.keep
        if self._cache is None:
            return *replay.record(once.run, keep), False
        recordings, checks = self._open(self._cache)
        if not self._structures:
            seen = like if like.root.structure is not None else drawn.trace(once, replay, keep)
            self._structures = {
                one.id: one.structure for one in seen.root.all() if one.structure is not None
            }

        def load(images: str) -> tuple[StoredRecording, list[Key]] | None:
            return recordings.load(images, keep, self._structures)

        after_others = checks.after_others(once)
        found = load(once.images)
        if found is None or not after_others:
            checks.certify(once, replay, cuts, load)
        if found and not checks.may_use(
            once, replay, *found, cuts, drawn, after_others=after_others
        ):
            self._cache = None
            self.notes.append(
                "recordings of earlier sweeps are not used: the model does not give what it gave "
                "then"
            )
            return *replay.record(once.run, keep), False
        if found is None:
            keep = {*keep, *for_others(like, cuts, self._memory)}
            outputs, trace = replay.record(once.run, keep)
        else:
            stored, changed = found
            if not changed and stored.held >= set(keep) and stored.result:
                return stored.result[0], stored.trace, True
            outputs, trace = _completed(once.run, replay, keep, stored, changed)
        recordings.save(once.images, trace, outputs, keep)
        self.notes += [note for note in recordings.notes if note not in self.notes]
        return outputs, trace, found is not None

    def _open(self, cache: RecordingCache) -> tuple[ModelRecordings, RecordingChecks]:
        if self._opened is None:
            module = self._adapter.module
            recordings = ModelRecordings(cache, module)
            self._opened = recordings, RecordingChecks(self._adapter, recordings)
        return self._opened


def for_others(trace: Trace, cuts: Cuts, memory: float) -> list[CallId]:
    """Outputs that sweeps of later parts need, as far as there is room: first those of the modules
    that this one keeps in other layers, then the largest parts of a pass, and of these the last.
    What holds the last use of a tensor is of no use."""
    first = min(cuts.ticks(trace), default=NEVER)
    last = max((tick for (kind, _), tick in trace.first_use.items() if kind != "output"), default=0)
    calls = list(_with_depth(trace.root))
    kept = sum(one.nbytes for one, _ in calls if one.id in cuts.keep)
    room = min(BESIDE * kept, memory - kept)
    alike = {_in_any_layer(one) for one in cuts.keep}
    found = []
    for one, _ in sorted(
        calls, key=lambda of: (_in_any_layer(of[0].id) not in alike, of[1], -of[0].end)
    ):
        new = one.is_pure and one.id not in cuts.keep
        if new and first < one.end < last and one.nbytes <= room:
            room -= one.nbytes
            found.append(one.id)
    return found


def _with_depth(call: Call, depth: int = 0) -> Iterator[tuple[Call, int]]:
    """All calls within this one."""
    for child in call.children:
        yield child, depth
        yield from _with_depth(child, depth + 1)


def _in_any_layer(call: CallId) -> str:
    return re.sub("[0-9]+", "*", call.module)


def _completed(
    run: Run,
    replay: Replay,
    keep: Collection[CallId],
    stored: StoredRecording,
    changed: Sequence[Key],
) -> tuple[Any, Trace]:
    """A pass that goes on from a recording where it lacks something or the model has changed."""
    until = begins(stored, keep)
    outputs, trace = replay.record(run, keep, stored.trace, changed, until)
    # Of a call that is part of one which was replayed, the pass saw nothing.
    calls = {call.id: call for call in stored.trace.root.all()}
    until = min(until, stored.trace.restart(changed))
    for one in stored.held:
        output = stored.trace.outputs.get(one)
        if output and calls[one].end < until and one not in trace.outputs:
            trace.outputs[one] = output
    return outputs, trace
