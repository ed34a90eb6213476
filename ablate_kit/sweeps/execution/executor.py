"""The unmodified model and all its variants on one batch after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from ablate_kit.ablations.draws import Draws
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.adapter import Adapter, Prepared
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.models.inference.batches import Group
from ablate_kit.models.inference.batches import groups as groups_of
from ablate_kit.models.inference.detect import device_of, inference
from ablate_kit.sweeps.execution.disagreement import TOLERANCE, disagreement
from ablate_kit.sweeps.execution.full_checks import FullChecks
from ablate_kit.sweeps.execution.identical import identical
from ablate_kit.sweeps.execution.left_behind import left_as_it_is
from ablate_kit.sweeps.execution.live_variant import applied_variant
from ablate_kit.sweeps.execution.plan import BASELINE, MemoryChunk, Plan, Step
from ablate_kit.sweeps.execution.planner import REMEMBERS, UNSTEADY, Planner, told
from ablate_kit.sweeps.execution.recording_cache import RecordingCache
from ablate_kit.sweeps.execution.recording_checks import Cuts, Drawn, Once
from ablate_kit.sweeps.execution.replay import Replay, Run
from ablate_kit.sweeps.execution.shared_passes import SharedPasses
from ablate_kit.sweeps.execution.trace import Trace
from ablate_kit.sweeps.execution.unchanged import UnchangedLayers
from ablate_kit.sweeps.execution.unmodified import UnmodifiedPasses
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant

MEMORY = 2 << 30  # bytes of recorded outputs, unless told otherwise

Advance = Callable[[str, int], None]


@dataclass(frozen=True)
class _Recorded:
    """The unmodified pass over one group of images, from which a part's variants are replayed.

    Attributes:
        whole: a pass to compare a replay with, where nothing vouches for it yet.
        traces: of the unmodified model, and of the variants that others build on.
    """

    once: Once
    replay: Replay
    whole: Run
    variants: Sequence[Variant]
    traces: dict[int, Trace]


class VariantExecutor:
    """Runs batches within a ``with`` block: the unmodified model first, then variants.

    Some variants also run in full (``FullChecks``), and one whose replay differs in any bit is run
    in full from then on; all are where it differs for what a pass leaves on modules. ``notes`` says
    so. One of all, drawn, is checked now and then: libraries may choose another kernel for a batch
    than for the last.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        replay: bool = True,
        memory: float = MEMORY,
        verify: bool = True,
        max_detections: int = MAX_DETECTIONS,
        cache: RecordingCache | None = None,
        fuse: bool = False,
    ) -> None:
        self._adapter = adapter
        self._live_names = adapter.live_names()
        self._checks = FullChecks(enabled=verify)
        self._limit = max_detections
        self._draws = Draws()
        self._shared = SharedPasses(adapter) if fuse else None
        self._state: Mapping[str, torch.Tensor] | None = None
        self._unmodified = UnmodifiedPasses(adapter, cache, memory)
        self._planner = Planner(
            adapter, replay=replay, memory=memory, shared=self._shared, state=self._tensors
        )
        self._stack = ExitStack()

    def __enter__(self) -> "VariantExecutor":
        self._stack.enter_context(inference(self._adapter.module))
        self._planner.begin(self._stack)
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
        return self._planner.replay is None

    @property
    def trace(self) -> Trace | None:
        """Of the unmodified pass over the first images."""
        return self._planner.trace

    @property
    def notes(self) -> list[str]:
        """What cannot be replayed, and why."""
        return self._planner.notes

    def look(self, prepared: Sequence[Prepared], variants: Sequence[Variant]) -> Plan | None:
        """How the first of these images and those of its shape would run; runs no variant.

        None where nothing can be replayed.
        """
        return self._planner.plan(self._groups(prepared)[0], variants)

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

        # Where recordings are kept, full runs may begin with one: but for this variant's.
        once = Once(run, group, self._checks.drawn(variants, now=self._unmodified.kept))
        made = self._planner.plan(group, variants, lambda: self._unmodified.known(once))
        once.reference = self._planner.reference(group)
        done: set[int] = set()
        replay = self._planner.replay
        if replay and made:
            for part in made.parts:
                if not self._planner.replay:
                    break
                for numbers, outputs in self._part(once, replay, part, variants, made.groups):
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

    def _drawn(self, once: Once, variants: Sequence[Variant]) -> Drawn:
        """The variant that runs in full on these images, or the unmodified model."""
        chosen = [one for one in variants if one.digest == once.again]
        if chosen and once.again not in self._planner.full:
            variant = chosen[0]
            return Drawn(list(self._planner.delta(variant)), lambda: self._applied(variant))
        return Drawn([], nullcontext)

    def _applied(self, variant: Variant) -> AbstractContextManager[None]:
        return applied_variant(
            variant, self._adapter.module, self._live_names, self._draws, self._tensors()
        )

    def _tensors(self) -> Mapping[str, torch.Tensor]:
        if self._state is None:
            self._state = self._adapter.module.state_dict(keep_vars=True)
        return self._state

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
            changes = [
                [
                    key
                    for number in members.get(step.variant, (step.variant,))
                    for key in self._planner.delta(variants[number])
                ]
                for step in part.steps
            ]
            every = [key for keys in changes for key in keys]
            assert self._planner.latest  # noqa: S101 - there is a plan
            outputs, trace, stored = self._unmodified.record(
                once,
                replay,
                Cuts(part.keep, changes),
                self._planner.latest,
                self._drawn(once, variants),
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._planner.give_up(told(error))
            return
        for note in self._unmodified.notes:
            self._planner.note(note)
        yield (BASELINE,), outputs
        layers = UnchangedLayers(part.unchanged, replay.identities)
        traces = {BASELINE: replace(trace, layers=layers, changed=frozenset())}

        def from_there() -> Any:
            return replay.replay(once.run, trace, every)

        whole = from_there if stored else once.run
        recorded = _Recorded(once, replay, whole, variants, traces)
        for step in part.steps:
            if not self._planner.replay:
                return
            if step.variant in members:
                yield from self._side_by_side(recorded, members[step.variant])
            elif step.base in traces:
                outputs = self._replayed(recorded, step)
                if outputs is not None:
                    yield (step.variant,), outputs[0]
            for done in step.releases:
                traces.pop(done, None)

    def _side_by_side(
        self, recorded: _Recorded, members: tuple[int, ...]
    ) -> Iterator[tuple[tuple[int, ...], Any]]:
        """Variants in one pass; on their first batch one by one, too, to compare them."""
        assert self._shared  # noqa: S101 - there are groups
        once, trace = recorded.once, recorded.traces[BASELINE]
        chosen = [recorded.variants[number] for number in members]
        keys = {key for one in chosen for key in self._planner.delta(one)}
        try:
            outputs = self._shared.run(once, recorded.replay, chosen, trace, keys, self._tensors())
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._part_ways(chosen, told(error))
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
            if not self._planner.replay:
                return
            restart = trace.restart(self._planner.delta(chosen[k]))
            alone = self._replayed(recorded, Step(number, BASELINE, restart, first=restart))
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
            self._planner.note(self._shared.accept(chosen))

    def _part_ways(self, chosen: Sequence[Variant], reason: str) -> None:
        assert self._shared  # noqa: S101 - there are groups
        self._planner.forget()
        self._planner.note(self._shared.refuse(chosen, reason))

    def _replayed(self, recorded: _Recorded, step: Step) -> tuple[Any] | None:
        """The outputs of one variant, whose trace is kept where others build on it; None where
        replay cannot do it."""
        once, replay, whole = recorded.once, recorded.replay, recorded.whole
        variant, base = recorded.variants[step.variant], recorded.traces[step.base]
        changed = self._planner.between(recorded.variants, step.base, step.variant)
        keys = frozenset(self._planner.delta(variant)), frozenset(changed)
        alike = (variant.kind, *keys, step.base == BASELINE, bool(step.keep))
        first = self._checks.unknown(variant)
        run = once.run
        if variant.digest == once.again:
            whole = run
        try:
            with self._applied(variant):
                if step.keep:
                    outputs, trace = replay.record(run, step.keep, base, changed)
                    recorded.traces[step.variant] = trace
                else:
                    outputs = replay.replay(run, base, changed)
                checked = variant.digest == once.again or self._checks.first(variant, alike)
                # The variants that follow find what they will find on batches without a check.
                with left_as_it_is(self._adapter.module) if checked else nullcontext():
                    differs = checked and not identical(outputs, full := whole())
                    # Run once more only where it matters whose doing it is.
                    repeats = not differs or identical(whole(), full)
                    # What it lacked, a full pass has left behind.
                    lacked = (
                        differs and repeats and identical(replay.replay(run, base, changed), full)
                    )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # if the variant itself raises it, it does so again in full
            self._planner.full.add(variant.digest)
            self._planner.note(
                f"{variant.name} runs in full: it cannot be replayed ({told(error)})"
            )
            return None
        if checked:
            self._checks.note(variant, alike, equal=not differs)
        if differs:
            self._planner.full.add(variant.digest)
            if lacked:
                self._planner.give_up(REMEMBERS)
            else:
                what = "its replay differs from the full run"
                self._planner.note(f"{variant.name} runs in full: {what if repeats else UNSTEADY}")
            if not first:
                self._planner.note(
                    f"{variant.name} was found to differ on a batch that is not its first: what "
                    "lies between was not checked; compare with --no-replay"
                )
            return (full,)
        return (outputs,)
