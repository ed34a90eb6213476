"""The unmodified model and all its variants on one batch after the other."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch

from ablate_kit.ablations.draws import Draws
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.adapter import Adapter, ImageDetections, Prepared
from ablate_kit.models.batches import Group, groups
from ablate_kit.models.detect import device_of, inference
from ablate_kit.sweeps.execution.identical import identical
from ablate_kit.sweeps.execution.plan import BASELINE, Delta, MemoryChunk, Plan, Step, plan
from ablate_kit.sweeps.execution.recording_cache import RecordingCache
from ablate_kit.sweeps.execution.replay import CannotTraceError, Replay, Run
from ablate_kit.sweeps.execution.trace import Key, Trace
from ablate_kit.sweeps.execution.unmodified import Once, UnmodifiedPasses
from ablate_kit.sweeps.variant import UNMODIFIED, Variant

MEMORY = 2 << 30  # bytes of recorded outputs, unless told otherwise
CHECKED = 16  # of so many forward passes of the unmodified model, a variant is checked again on one

UNSTEADY = "it computes something else every time it runs"

Advance = Callable[[str, int], None]


class VariantExecutor:
    """Runs batches within a ``with`` block: the unmodified model first, then variants.

    On its first batch every variant also runs in full, and one whose replay differs in any bit is
    run in full from then on. ``notes`` says so. Later on one of them, drawn, runs in full now and
    then, since libraries may choose another kernel for a batch than for the last. What was learned
    of the model serves all variants that come later, those of the next round of a search included.
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
    ) -> None:
        self.notes: list[str] = []
        self.trace: Trace | None = None  # of the unmodified pass over the first images
        self._adapter = adapter
        self._live_names = adapter.live_names()
        self._replay = Replay(adapter.module) if replay else None
        self._memory = memory
        self._verify = verify
        self._limit = max_detections
        self._deterministic = deterministic
        self._draws = Draws()
        self._state: Mapping[str, torch.Tensor] | None = None
        self._unmodified = UnmodifiedPasses(adapter, cache, deterministic=deterministic)
        self._watched = False  # whether the model's calls go through the replay
        self._traced: tuple[int, Trace] | None = None  # with the elements of its input
        self._plans: dict[tuple[str, ...], tuple[int, Plan]] = {}
        self._deltas: dict[str, Delta] = {}
        self._verified: set[str] = set()
        self._count = 0  # of forward passes of the unmodified model
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
            for number, outputs in self._outputs(group, variants):
                results = self._adapter.decode(outputs, group.origins, self._limit)
                found[number + 1] |= zip(group.positions, results, strict=True)
                advance(names[number + 1], len(group.positions))
        self._verified |= {variant.digest for variant in variants}
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
        return [group.on(device) for group in groups(prepared)]

    def _outputs(self, group: Group, variants: Sequence[Variant]) -> Iterator[tuple[int, Any]]:
        """The number of each variant, BASELINE first, and what the model returns."""

        def run() -> Any:
            return self._adapter.forward(group.inputs)

        made = self._plan(group, variants)
        once = Once(run, group, self._drawn(variants))
        done: set[int] = set()
        if self._replay and made:
            for part in made.parts:
                for number, outputs in self._part(once, self._replay, part, variants):
                    if number not in done:
                        yield number, outputs
                    done.add(number)
        if BASELINE not in done:
            yield BASELINE, run()
        for number, variant in enumerate(variants):
            if number not in done:
                with self._applied(variant):
                    outputs = run()
                yield number, outputs

    def _applied(self, variant: Variant) -> AbstractContextManager[None]:
        module = self._adapter.module
        if self._state is None:
            self._state = module.state_dict(keep_vars=True)
        return variant.applied_to(module, self._live_names, self._draws, self._state)

    def _drawn(self, variants: Sequence[Variant]) -> str:
        """The digest of the variant that is to be checked again in this pass; empty: none."""
        self._count += 1
        # Where recordings are kept, full runs may begin with one: but for this variant's.
        due = self._count % CHECKED == 0 or (self._unmodified.kept and self._count == 1)
        if not self._verify or not due or not variants:
            return ""
        return random.Random(str(self._count)).choice(variants).digest

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
            trace = self._made_trace(lambda: self._adapter.forward(group.inputs), self._replay)
            if trace is None:
                return None
            self._traced = elements, trace
            self.trace = self.trace or trace
        key = tuple(variant.digest for variant in variants if variant.digest not in self._full)
        elements, trace = self._traced
        known = self._plans.get(key)
        if known and known[0] == elements:
            return known[1]
        chosen = {i: self._delta(v) for i, v in enumerate(variants) if v.digest not in self._full}
        made = plan(trace, chosen, self._memory)
        self._plans[key] = elements, made
        if made.full:
            self._note(
                f"{len(made.full)} variants run in full: what they would replay takes more "
                f"than {self._memory / 2**20:.0f} MiB"
            )
        return made

    def _delta(self, variant: Variant) -> Delta:
        if variant.digest not in self._deltas:
            assert self._replay  # noqa: S101 - what is not replayed is not planned
            identities = self._replay.identities
            self._deltas[variant.digest] = variant.delta(
                self._adapter.module, identities, self._live_names
            )
        return self._deltas[variant.digest]

    def _made_trace(self, run: Run, replay: Replay) -> Trace | None:
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
        return trace

    def _part(
        self, once: "Once", replay: Replay, part: MemoryChunk, variants: Sequence[Variant]
    ) -> Iterator[tuple[int, Any]]:
        """What of ``part`` replay can do; all else is left to run in full."""
        try:
            every = [key for step in part.steps for key in self._delta(variants[step.variant])]
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
        yield BASELINE, outputs
        traces = {BASELINE: trace}

        def from_there() -> Any:
            return replay.replay(once.run, trace, every)

        whole = from_there if stored else once.run
        for step in part.steps:
            base = traces.get(step.base)
            if base is not None:
                variant = variants[step.variant]
                changed = self._changed(variants, step.base, step.variant)
                with self._applied(variant):
                    outputs = self._replayed(
                        once, whole, replay, step, variant, base, changed, traces
                    )
                if outputs is not None:
                    yield step.variant, outputs[0]
            for done in step.releases:
                traces.pop(done, None)

    def _replayed(
        self,
        once: "Once",
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

        ``whole``: a pass to hold a replay against, on the variant's first batch.
        """
        first = self._verify and variant.digest not in self._verified
        run = once.run
        if variant.digest == once.again:
            whole = run
        try:
            if step.keep:
                outputs, traces[step.variant] = replay.record(run, step.keep, base, changed)
            else:
                outputs = replay.replay(run, base, changed)
            checked = first or variant.digest == once.again
            differs = checked and not identical(outputs, full := whole())
            # Run once more only where it matters whose doing it is.
            repeats = not differs or identical(whole(), full)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # if the variant itself raises it, it does so again in full
            self._full.add(variant.digest)
            self._note(f"{variant.name} runs in full: it cannot be replayed ({_told(error)})")
            return None
        if differs:
            self._full.add(variant.digest)
            what = "its replay differs from the full run"
            self._note(f"{variant.name} runs in full: {what if repeats else UNSTEADY}")
            if not first:
                self._note(
                    f"{variant.name} was replayed like the full run on its first batch, and not on "
                    "a later one: what lies between was not checked; compare with --no-replay"
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
