"""The unmodified model and all its variants on one batch after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

import torch

from ablate_kit.ablations.draws import Draws
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.adapter import Adapter, ImageDetections, Prepared
from ablate_kit.models.batches import Group
from ablate_kit.models.batches import groups as groups_of
from ablate_kit.models.detect import device_of, inference
from ablate_kit.sweeps.execution.full_checks import FullChecks
from ablate_kit.sweeps.execution.identical import identical
from ablate_kit.sweeps.execution.plan import BASELINE, Delta, MemoryChunk, Plan, Step, plan
from ablate_kit.sweeps.execution.recording_cache import RecordingCache
from ablate_kit.sweeps.execution.replay import CannotTraceError, Replay, Run
from ablate_kit.sweeps.execution.shared_passes import SharedPasses
from ablate_kit.sweeps.execution.side_by_side import TOLERANCE, disagreement
from ablate_kit.sweeps.execution.trace import Key, Trace
from ablate_kit.sweeps.execution.unmodified import Once, UnmodifiedPasses
from ablate_kit.sweeps.variant import UNMODIFIED, Variant

MEMORY = 2 << 30  # bytes of recorded outputs, unless told otherwise

UNSTEADY = "it computes something else every time it runs"

Advance = Callable[[str, int], None]


class VariantExecutor:
    """Runs batches within a ``with`` block: the unmodified model first, then variants.

    Some variants also run in full (``FullChecks``), and one whose replay differs in any bit is run
    in full from then on. ``notes`` says so. One of all, drawn, does so now and then: libraries may
    choose another kernel for a batch than for the last. What was learned of the model serves all
    variants that come later, those of the next round of a search included.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        replay: bool = True,
        memory: float = MEMORY,
        verify: bool = True,
        max_detections: int = MAX_DETECTIONS,
        deterministic: bool = True,
        cache: RecordingCache | None = None,
        fuse: bool = False,
    ) -> None:
        self.notes: list[str] = []
        self.trace: Trace | None = None  # of the unmodified pass over the first images
        self._adapter = adapter
        self._live_names = adapter.live_names()
        self._replay = Replay(adapter.module) if replay else None
        self._memory = memory
        self._checks = FullChecks(enabled=verify)
        self._limit = max_detections
        self._deterministic = deterministic
        self._draws = Draws()
        self._shared = SharedPasses(adapter) if fuse else None
        self._state: Mapping[str, torch.Tensor] | None = None
        self._unmodified = UnmodifiedPasses(adapter, cache, deterministic=deterministic)
        self._watched = False  # whether the model's calls go through the replay
        self._reference: tuple[Group, Any] | None = None  # what the images traced last gave
        self._traced: tuple[int, Trace] | None = None  # with the elements of its input
        self._plans: dict[tuple[str, ...], tuple[int, Plan]] = {}
        self._deltas: dict[str, Delta] = {}
        self._full: set[str] = set()  # variants that replay cannot do
        self._stack = ExitStack()

    def __enter__(self) -> "VariantExecutor":
        self._stack.enter_context(
            inference(self._adapter.module, deterministic=self._deterministic)
        )
        self._watched = False
        self._state = None  # no tensor moves within the block
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.close()

    def run(
        self,
        prepared: Sequence[Prepared],
        variants: Sequence[Variant],
        advance: Advance = lambda _, __: None,
    ) -> list[list[ImageDetections]]:
        """Detections of the unmodified model, then of each variant, for each image."""
        found: list[dict[int, ImageDetections]] = [{} for _ in range(len(variants) + 1)]
        names = [UNMODIFIED.name, *(variant.name for variant in variants)]
        for group in self._groups(prepared):
            count = len(group.positions)
            for numbers, outputs in self._outputs(group, variants):
                origins = group.origins * len(numbers)
                results = self._adapter.decode(outputs, origins, self._limit)
                for k, number in enumerate(numbers):
                    own = results[k * count : (k + 1) * count]
                    found[number + 1] |= zip(group.positions, own, strict=True)
                    advance(names[number + 1], count)
        self._checks.done(variants)
        return [[one[i] for i in range(len(prepared))] for one in found]

    @property
    def full(self) -> bool:
        """Whether nothing is replayed."""
        return self._replay is None

    def look(self, prepared: Sequence[Prepared], variants: Sequence[Variant]) -> Plan | None:
        """How the first of these images and those of its shape would run; runs no variant.

        None where nothing can be replayed.
        """
        return self._plan(self._groups(prepared)[0], variants)

    def _groups(self, prepared: Sequence[Prepared]) -> list[Group]:
        device = device_of(self._adapter.module)
        return [group.on(device) for group in groups_of(prepared)]

    def _outputs(
        self, group: Group, variants: Sequence[Variant]
    ) -> Iterator[tuple[tuple[int, ...], Any]]:
        """Each variant, BASELINE first, and what the model returns; of several that share a pass,
        for all images of the first, then of the second ..."""

        def run() -> Any:
            return self._adapter.forward(group.inputs)

        made = self._plan(group, variants)
        traced, self._reference = self._reference, None
        reference = (traced[1],) if traced and traced[0] is group else None
        # Where recordings are kept, full runs may begin with one: but for this variant's.
        drawn = self._checks.drawn(variants, now=self._unmodified.kept)
        once = Once(run, group, drawn, reference)
        done: set[int] = set()
        if self._replay and made:
            for part in made.parts:
                for numbers, outputs in self._part(once, self._replay, part, variants, made.groups):
                    if not done.issuperset(numbers):
                        yield numbers, outputs
                    done.update(numbers)
        if BASELINE not in done:
            yield (BASELINE,), run()
        for number, variant in enumerate(variants):
            if number not in done:
                with self._applied(variant):
                    outputs = run()
                yield (number,), outputs

    def _applied(self, variant: Variant) -> AbstractContextManager[None]:
        return variant.applied_to(
            self._adapter.module, self._live_names, self._draws, self._tensors()
        )

    def _tensors(self) -> Mapping[str, torch.Tensor]:
        if self._state is None:
            self._state = self._adapter.module.state_dict(keep_vars=True)
        return self._state

    def _plan(self, group: Group, variants: Sequence[Variant]) -> Plan | None:
        """How these variants run; made anew for images larger than those it was made for, and
        where a variant has turned out to need full passes: others may find a better base."""
        if not self._replay or not variants:
            return None
        if not self._watched:
            try:
                self._stack.enter_context(self._replay)
            except CannotTraceError as reason:
                self._give_up(str(reason))
                return None
            self._watched = True
        elements = sum(tensor.numel() for tensor in group.inputs.values())
        if not self._traced or elements > self._traced[0]:
            made_trace = self._made_trace(lambda: self._adapter.forward(group.inputs), self._replay)
            if made_trace is None:
                return None
            reference, trace = made_trace
            self._traced = elements, trace
            self._reference = group, reference
            self.trace = self.trace or trace
        key = tuple(variant.digest for variant in variants if variant.digest not in self._full)
        elements, trace = self._traced
        known = self._plans.get(key)
        if known and known[0] == elements:
            return known[1]
        chosen = {i: self._delta(v) for i, v in enumerate(variants) if v.digest not in self._full}
        groups = self._groups_of(trace, chosen, variants, group)
        for i, members in enumerate(groups):
            keys = {key for number in members for key in chosen.pop(number)}
            chosen[len(variants) + i] = dict.fromkeys(keys, ("side by side", i))
        made = replace(plan(trace, chosen, self._memory), groups=groups)
        self._plans[key] = elements, made
        if made.full:
            self._note(
                f"{len(made.full)} variants run in full: what they would replay takes more "
                f"than {self._memory / 2**20:.0f} MiB"
            )
        return made

    def _groups_of(
        self,
        trace: Trace,
        deltas: Mapping[int, Delta],
        variants: Sequence[Variant],
        group: Group,
    ) -> list[tuple[int, ...]]:
        """Those that share a pass."""
        if self._shared is None:
            return []
        state = self._tensors()
        return self._shared.groups(trace, deltas, variants, group.inputs, state, self._memory)

    def _delta(self, variant: Variant) -> Delta:
        if variant.digest not in self._deltas:
            assert self._replay  # noqa: S101 - what is not replayed is not planned
            identities = self._replay.identities
            self._deltas[variant.digest] = variant.delta(
                self._adapter.module, identities, self._live_names
            )
        return self._deltas[variant.digest]

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
            self._give_up(_told(error))
            return None
        if not watched:
            watching = "it computes something else while its operations are watched"
            self._give_up(watching if repeated else UNSTEADY)
            return None
        return reference, trace

    def _part(
        self,
        once: Once,
        replay: Replay,
        part: MemoryChunk,
        variants: Sequence[Variant],
        groups: Sequence[tuple[int, ...]],
    ) -> Iterator[tuple[tuple[int, ...], Any]]:
        """What of ``part`` replay can do; all else is left to run in full."""
        members = {len(variants) + i: group for i, group in enumerate(groups)}
        try:
            every = [
                key
                for step in part.steps
                for number in members.get(step.variant, (step.variant,))
                for key in self._delta(variants[number])
            ]
            assert self._traced  # noqa: S101 - there is a plan
            outputs, trace, stored = self._unmodified.record(
                once, replay, part.keep, every, self._traced[1]
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._give_up(_told(error))
            return
        for note in self._unmodified.notes:
            self._note(note)
        yield (BASELINE,), outputs
        traces = {BASELINE: trace}

        def from_there() -> Any:
            return replay.replay(once.run, trace, every)

        whole = from_there if stored else once.run
        for step in part.steps:
            base = traces.get(step.base)
            if step.variant in members:
                yield from self._side_by_side(
                    once, whole, replay, members[step.variant], trace, variants
                )
            elif base is not None:
                variant = variants[step.variant]
                changed = self._changed(variants, step.base, step.variant)
                with self._applied(variant):
                    outputs = self._replayed(
                        once, whole, replay, step, variant, base, changed, traces
                    )
                if outputs is not None:
                    yield (step.variant,), outputs[0]
            for done in step.releases:
                traces.pop(done, None)

    def _side_by_side(
        self,
        once: Once,
        whole: Run,
        replay: Replay,
        members: tuple[int, ...],
        trace: Trace,
        variants: Sequence[Variant],
    ) -> Iterator[tuple[tuple[int, ...], Any]]:
        """Variants in one pass; one by one on their first batch, where they are held against it."""
        assert self._shared  # noqa: S101 - there are groups
        chosen = [variants[number] for number in members]
        keys = {key for one in chosen for key in self._delta(one)}
        try:
            outputs = self._shared.run(once, replay, chosen, trace, keys, self._tensors())
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._part_ways(chosen, _told(error))
            outputs = None
        if outputs is not None and self._shared.checked(chosen, once.again):
            yield members, outputs
            return
        origins = once.group.origins
        shared: list[ImageDetections] = []
        if outputs is not None:
            shared = self._adapter.decode(outputs, origins * len(members), self._limit)
        worst = 0.0
        for k, number in enumerate(members):
            step = Step(number, BASELINE, trace.restart(self._delta(variants[number])))
            changed = self._changed(variants, BASELINE, number)
            with self._applied(variants[number]):
                alone = self._replayed(
                    once, whole, replay, step, variants[number], trace, changed, {}
                )
            if alone is None:
                continue
            if outputs is not None:
                exact = self._adapter.decode(alone[0], origins, self._limit)
                own = shared[k * len(origins) : (k + 1) * len(origins)]
                worst = max(worst, disagreement(own, exact))
            yield (number,), alone[0]
        if outputs is None:
            return
        if worst > TOLERANCE:
            self._part_ways(chosen, f"scores or boxes differ by {worst:.1g}")
        else:
            self._note(self._shared.accept(chosen))

    def _part_ways(self, chosen: Sequence[Variant], reason: str) -> None:
        assert self._shared  # noqa: S101 - there are groups
        self._plans.clear()
        self._note(self._shared.refuse(chosen, reason))

    def _replayed(
        self,
        once: Once,
        whole: Run,
        replay: Replay,
        step: Step,
        variant: Variant,
        base: Trace,
        changed: Sequence[Key],
        traces: dict[int, Trace],
    ) -> tuple[Any] | None:
        """The outputs of one variant, and its trace where others build on it; None where replay
        cannot do it.

        ``whole``: a pass to hold a replay against, where nothing vouches for it yet.
        """
        keys = frozenset(self._delta(variant)), frozenset(changed)
        alike = (variant.kind, *keys, step.base == BASELINE, bool(step.keep))
        first = self._checks.unknown(variant)
        run = once.run
        if variant.digest == once.again:
            whole = run
        try:
            if step.keep:
                outputs, traces[step.variant] = replay.record(run, step.keep, base, changed)
            else:
                outputs = replay.replay(run, base, changed)
            checked = variant.digest == once.again or self._checks.first(variant, alike)
            differs = checked and not identical(outputs, full := whole())
            # Run once more only where it matters whose doing it is.
            repeats = not differs or identical(whole(), full)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # if the variant itself raises it, it does so again in full
            self._full.add(variant.digest)
            self._note(f"{variant.name} runs in full: it cannot be replayed ({_told(error)})")
            return None
        if checked:
            self._checks.note(variant, alike, equal=not differs)
        if differs:
            self._full.add(variant.digest)
            what = "its replay differs from the full run"
            self._note(f"{variant.name} runs in full: {what if repeats else UNSTEADY}")
            if not first:
                self._note(
                    f"{variant.name} was found to differ on a batch that is not its first: what "
                    "lies between was not checked; compare with --no-replay"
                )
            return (full,)
        return (outputs,)

    def _changed(self, variants: Sequence[Variant], one: int, other: int) -> list[Key]:
        a: Delta = self._delta(variants[one]) if one != BASELINE else {}
        b: Delta = self._delta(variants[other])
        return [key for key in {**a, **b} if a.get(key) != b.get(key)]

    def _give_up(self, reason: str) -> None:
        self._replay = None
        self._note(f"every variant runs in full: the model cannot be replayed ({reason})")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
