"""Which variants of a model share passes, and what has come of that so far."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from ablate_kit.models.adapter import Adapter
from ablate_kit.plural import first_few
from ablate_kit.sweeps.execution.disagreement import TOLERANCE
from ablate_kit.sweeps.execution.identities import CallId, Key
from ablate_kit.sweeps.execution.plan import Delta
from ablate_kit.sweeps.execution.recording_checks import Once
from ablate_kit.sweeps.execution.replay import Repeated, Replay
from ablate_kit.sweeps.execution.side_by_side import (
    CannotRunTogetherError,
    silenced,
    silences,
    together,
)
from ablate_kit.sweeps.execution.trace import Trace
from ablate_kit.sweeps.variants.variant import Variant

State = Mapping[str, Tensor]  # the model's ``state_dict(keep_vars=True)``


class SharedPasses:
    """Variants share a pass as long as none of them was found to differ from its replay."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._live_names = adapter.live_names()
        self._accepted: set[str] = set()
        self._refused: set[str] = set()
        self._of_images: dict[CallId, Collection[int]] = {}

    def groups(
        self,
        trace: Trace,
        deltas: Mapping[int, Delta],
        variants: Sequence[Variant],
        inputs: Mapping[str, Tensor],
        state: State,
        memory: float,
    ) -> list[tuple[int, ...]]:
        """The numbers of those that share a pass."""
        module = self._adapter.module
        able = {
            number: delta
            for number, delta in deltas.items()
            if variants[number].digest not in self._refused
            and silences(variants[number], module, state, self._live_names)
        }
        return together(trace, able, inputs, memory)

    def run(
        self,
        once: Once,
        replay: Replay,
        chosen: Sequence[Variant],
        trace: Trace,
        keys: Collection[Key],
        state: State,
    ) -> Any:
        """What the model returns for the images of the first variant, then of the second ...

        Args:
            trace: of the unmodified model on these images, once.
            keys: all that the variants change.
        """
        module, count = self._adapter.module, len(once.group.origins)
        parts = [silences(one, module, state, self._live_names) or () for one in chosen]
        self._learn(once, replay, trace)
        inputs = _times(once.group.inputs, len(chosen))
        repeated = Repeated(len(chosen), self._of_images)
        with silenced(module, parts, count):
            return replay.replay(lambda: self._adapter.forward(inputs), trace, keys, repeated)

    def _learn(self, once: Once, replay: Replay, trace: Trace) -> None:
        """What of the recorded outputs has the images as its first axis: what is as long in a pass
        over another number of them. A table of six queries is as long as a batch of six images.
        """
        new = trace.outputs.keys() - self._of_images.keys()
        if not new:
            return
        count, inputs = len(once.group.origins), once.group.inputs
        others = {name: one[:1] for name, one in inputs.items()} if count > 1 else _times(inputs, 2)
        other = 1 if count > 1 else 2
        _, seen = replay.record(lambda: self._adapter.forward(others), keep=new)
        for call in new:
            here, there = trace.outputs[call], seen.outputs.get(call)
            if there is None or here.structure != there.structure:
                raise CannotRunTogetherError("it runs otherwise for another number of images")
            self._of_images[call] = {
                i
                for i, (one, two) in enumerate(zip(here.leaves, there.leaves, strict=True))
                if _length(one) == count and _length(two) == other
            }

    def checked(self, chosen: Sequence[Variant], again: str) -> bool:
        """Whether all were compared with their replay, and none is due again."""
        digests = {one.digest for one in chosen}
        return digests <= self._accepted and again not in digests

    def accept(self, chosen: Sequence[Variant]) -> str:
        """From now on they share passes; returns what is to be told."""
        self._accepted |= {one.digest for one in chosen}
        return (
            "variants that silence heads or channels of one place ran side by side: on their first "
            f"batch within {TOLERANCE:g} of their replay, not bit for bit"
        )

    def refuse(self, chosen: Sequence[Variant], reason: str) -> str:
        """From now on they run alone."""
        self._refused |= {one.digest for one in chosen}
        return f"{first_few([one.name for one in chosen], 1)} are not run side by side: {reason}"


def _times(inputs: Mapping[str, Tensor], times: int) -> dict[str, Tensor]:
    return {name: one.repeat(times, *[1] * (one.dim() - 1)) for name, one in inputs.items()}


def _length(leaf: Any) -> int | None:
    return len(leaf) if isinstance(leaf, Tensor) and leaf.dim() else None
