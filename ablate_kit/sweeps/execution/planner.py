"""Plans for one model: traced on its images, made anew where images or variants are others."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

from ablate_kit.models.adapter import Adapter
from ablate_kit.models.inference.batches import Group
from ablate_kit.sweeps.execution.identical import identical
from ablate_kit.sweeps.execution.identities import Key
from ablate_kit.sweeps.execution.live_variant import delta_of
from ablate_kit.sweeps.execution.plan import BASELINE, Delta, Plan, plan
from ablate_kit.sweeps.execution.replay import CannotTraceError, Replay, Run
from ablate_kit.sweeps.execution.shared_passes import SharedPasses, State
from ablate_kit.sweeps.execution.trace import Trace
from ablate_kit.sweeps.variants.variant import Variant

UNSTEADY = "it computes something else every time it runs"
REMEMBERS = "a module leaves something on itself, beside its output, that the model reads later"


class Planner:
    """What was learned of a model serves all variants that come later, those of the next round of
    a search included.

    Attributes:
        replay: None where nothing is replayed, or no longer.
        trace: of the unmodified pass over the first images.
        latest: of that over the largest images so far.
        full: digests of variants that replay cannot do.
        notes: what cannot be replayed, and why.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        replay: bool,
        memory: float,
        shared: SharedPasses | None,
        state: Callable[[], State],
    ) -> None:
        self.replay = Replay(adapter.module) if replay else None
        self.trace: Trace | None = None
        self.latest: Trace | None = None
        self.full: set[str] = set()
        self.notes: list[str] = []
        self._adapter = adapter
        self._live_names = adapter.live_names()
        self._memory = memory
        self._shared = shared
        self._state = state
        self._stack = ExitStack()
        self._watched = False  # whether the model's calls go through the replay
        self._reference: tuple[Group, Any] | None = None  # what the images traced last gave
        self._elements = 0  # of the input that was traced last
        self._plans: dict[tuple[str, ...], tuple[int, Plan]] = {}
        self._deltas: dict[str, Delta] = {}

    def begin(self, stack: ExitStack) -> None:
        """The model's calls go through the replay until ``stack`` is closed."""
        self._stack, self._watched = stack, False

    def plan(
        self,
        group: Group,
        variants: Sequence[Variant],
        recorded: Callable[[], Trace | None] = lambda: None,
    ) -> Plan | None:
        """How these variants run; made anew for images larger than those it was made for, and
        where a variant has turned out to need full passes: others may find a better base.

        ``recorded``: asks for a trace of an earlier process, which saves that of this one.
        """
        if not self.replay or not variants:
            return None
        if not self._watched:
            try:
                self._stack.enter_context(self.replay)
            except CannotTraceError as reason:
                self.give_up(str(reason))
                return None
            self._watched = True
        elements = sum(tensor.numel() for tensor in group.inputs.values())
        if self.latest is None or elements > self._elements:
            self._reference, trace = None, recorded()
            if trace is None:
                made_trace = self._made_trace(
                    lambda: self._adapter.forward(group.inputs), self.replay
                )
                if made_trace is None:
                    return None
                reference, trace = made_trace
                self._reference = group, reference
            self.latest = trace
            self._elements = elements
            self.trace = self.trace or self.latest
        key = tuple(variant.digest for variant in variants if variant.digest not in self.full)
        known = self._plans.get(key)
        if known and known[0] == self._elements:
            return known[1]
        made = self._made_plan(self.latest, group, variants)
        self._plans[key] = self._elements, made
        return made

    def _made_plan(self, trace: Trace, group: Group, variants: Sequence[Variant]) -> Plan:
        chosen = {i: self.delta(v) for i, v in enumerate(variants) if v.digest not in self.full}
        groups: list[tuple[int, ...]] = []
        if self._shared is not None:
            groups = self._shared.groups(
                trace, chosen, variants, group.inputs, self._state(), self._memory
            )
        for i, members in enumerate(groups):
            keys = {key for number in members for key in chosen.pop(number)}
            chosen[len(variants) + i] = dict.fromkeys(keys, ("side by side", i))
        made = replace(plan(trace, chosen, self._memory), groups=groups)
        if made.full:
            self.note(
                f"{len(made.full)} variants run in full: what they would replay takes more "
                f"than {self._memory / 2**20:.0f} MiB"
            )
        return made

    def delta(self, variant: Variant) -> Delta:
        """What differs from the unmodified model, and how."""
        if variant.digest not in self._deltas:
            assert self.replay  # noqa: S101 - what is not replayed is not planned
            identities = self.replay.identities
            self._deltas[variant.digest] = delta_of(
                variant, self._adapter.module, identities, self._live_names
            )
        return self._deltas[variant.digest]

    def between(self, variants: Sequence[Variant], one: int, other: int) -> list[Key]:
        """What differs between two of them; ``one`` may be BASELINE."""
        a: Mapping[Key, Any] = self.delta(variants[one]) if one != BASELINE else {}
        b = self.delta(variants[other])
        return [key for key in {**a, **b} if a.get(key) != b.get(key)]

    def reference(self, group: Group) -> tuple[Any] | None:
        """What the unmodified model gives for these images, where they were just traced; once."""
        traced, self._reference = self._reference, None
        return (traced[1],) if traced and traced[0] is group else None

    def forget(self) -> None:
        """Plans are made anew."""
        self._plans.clear()

    def give_up(self, reason: str) -> None:
        """Nothing is replayed from here on."""
        self.replay = None
        self.note(f"every variant runs in full: the model cannot be replayed ({reason})")

    def note(self, text: str) -> None:
        """Once, however often it is said."""
        if text not in self.notes:
            self.notes.append(text)

    def _made_trace(self, run: Run, replay: Replay) -> tuple[Any, Trace] | None:
        """What the model gives, and a trace of it."""
        reference = run()  # which raises what is wrong with the images, or with the model
        try:
            outputs, trace = replay.trace(run)
            watched = identical(outputs, reference)
            # Run again only where it matters whose doing it is.
            repeated = watched or identical(run(), reference)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a model's own code may raise when it is watched
            self.give_up(told(error))
            return None
        if not watched:
            watching = "it computes something else while its operations are watched"
            self.give_up(watching if repeated else UNSTEADY)
            return None
        return reference, trace


def told(error: Exception) -> str:
    """An error of a model's own code, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
