"""Passes of the unmodified model: computed, or taken from recordings of earlier sweeps."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from ablate_kit.models.adapter import Adapter
from ablate_kit.models.batches import Group
from ablate_kit.sweeps.execution.identical import identical
from ablate_kit.sweeps.execution.recording_cache import (
    ModelRecordings,
    RecordingCache,
    images_digest,
)
from ablate_kit.sweeps.execution.replay import Replay, Run
from ablate_kit.sweeps.execution.stored_recording import StoredRecording
from ablate_kit.sweeps.execution.trace import NEVER, CallId, Key, Trace


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


class UnmodifiedPasses:
    """Of one model, which is unmodified at each call.

    Before the first stored recording is used, a pass that goes on from it is held against a full
    one, bit for bit; ``notes`` tells when it is not the same.
    """

    def __init__(
        self, adapter: Adapter, cache: RecordingCache | None, *, deterministic: bool
    ) -> None:
        self.notes: list[str] = []
        self._adapter = adapter
        self._cache = cache
        self._deterministic = deterministic
        self._recordings: ModelRecordings | None = None
        self._held = False

    @property
    def kept(self) -> bool:
        """Whether recordings are kept for later sweeps."""
        return self._cache is not None

    def record(
        self,
        once: Once,
        replay: Replay,
        keep: Collection[CallId],
        every: Sequence[Key],
        like: Trace,
    ) -> tuple[Any, Trace, bool]:
        """What the model gives, its trace with the outputs of ``keep``, and whether a stored
        recording is part of it.

        Args:
            every: all that some variant changes.
            like: the trace of another pass of this model.
        """
        if self._cache is None:
            return *replay.record(once.run, keep), False
        if self._recordings is None:
            self._recordings = ModelRecordings(
                self._cache, self._adapter.module, deterministic=self._deterministic
            )
        structures = {one.id: one.structure for one in like.root.all() if one.structure is not None}
        found = self._recordings.load(once.images, keep, structures)
        if found and not self._held:
            self._held = self._holds(once, replay, *found, every)
            if not self._held:
                self._cache = None
                self.notes.append(
                    "recordings of earlier sweeps are not used: the model does not give what it "
                    "gave then"
                )
                return *replay.record(once.run, keep), False
        if found is None:
            outputs, trace = replay.record(once.run, keep)
        else:
            stored, changed = found
            missing = set(keep) - stored.held
            if not changed and not missing and stored.result:
                return stored.result[0], stored.trace, True
            outputs, trace = _completed(once.run, replay, keep, stored, changed, missing)
        self._recordings.save(once.images, trace, outputs, keep)
        self.notes += [note for note in self._recordings.notes if note not in self.notes]
        return outputs, trace, found is not None

    def _holds(
        self,
        once: Once,
        replay: Replay,
        stored: StoredRecording,
        changed: Sequence[Key],
        every: Sequence[Key],
    ) -> bool:
        """Whether a pass that goes on from a recording gives what a full one gives.

        In between the model sees other images, so that what a pass leaves on modules, beside what
        they return, is not that of these.
        """
        (reference,) = once.reference or (once.run(),)
        self._adapter.forward(_others(once.group.inputs))
        found = replay.replay(once.run, stored.trace, [*changed, *every])
        if not identical(found, reference):
            return False
        return bool(changed) or not stored.result or identical(stored.result[0], reference)


def _completed(
    run: Run,
    replay: Replay,
    keep: Collection[CallId],
    stored: StoredRecording,
    changed: Sequence[Key],
    missing: Collection[CallId],
) -> tuple[Any, Trace]:
    """A pass that goes on from a recording where it lacks something or the model has changed."""
    calls = {call.id: call for call in stored.trace.root.all()}
    until = min((calls[one].start if one in calls else 0 for one in missing), default=NEVER)
    outputs, trace = replay.record(run, keep, stored.trace, changed, until)
    # Of a call that is part of one which was replayed, the pass saw nothing.
    until = min(until, stored.trace.restart(changed))
    for one in stored.held:
        output = stored.trace.outputs.get(one)
        if output and calls[one].end < until and trace.outputs.get(one) is None:
            trace.outputs.put(one, output)
    return outputs, trace


def _others(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same images, mirrored."""
    return {
        name: tensor.flip(-1) if tensor.is_floating_point() and tensor.dim() == 4 else tensor
        for name, tensor in inputs.items()
    }
