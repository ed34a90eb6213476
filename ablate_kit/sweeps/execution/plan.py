"""In which order variants run, and which outputs are kept for whom.

Variants that agree up to some point share that far: the plan is a trie over what they change, in
the order in which the pass comes to it.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ablate_kit.sweeps.execution.identities import CallId, Key
from ablate_kit.sweeps.execution.trace import NEVER, Call, Trace

Delta = Mapping[Key, Hashable]  # what differs from the unmodified model, and how
BASELINE = -1

# A variant's changes as the pass meets them: a tick, and all that is first used then.
_Sequence = list[tuple[float, frozenset[tuple[Key, Hashable]]]]


@dataclass
class Step:
    """One variant: it replays the pass of ``base`` from ``restart`` on."""

    variant: int
    base: int  # another variant, or BASELINE
    restart: float  # tick, as the unmodified pass has it
    first: float  # that from which on it differs from the unmodified model
    keep: set[CallId] = field(default_factory=set)  # outputs that later steps replay; none: no one
    releases: set[int] = field(default_factory=set)  # bases that nobody needs after this step


@dataclass
class MemoryChunk:
    """Steps that share one recording of the unmodified pass."""

    keep: set[CallId]
    steps: list[Step]
    nbytes: int  # at most, of all outputs kept at one time
    # Layers whose input is the same in several passes, and is kept with what they gave.
    unchanged: frozenset[str] = frozenset()


@dataclass
class Plan:
    parts: list[MemoryChunk]
    full: list[int]  # variants that run in full, since what they would replay exceeds the memory
    # Variants that share a pass; a step of number ``variants + i`` is that of group i.
    groups: Sequence[tuple[int, ...]] = ()


def plan(trace: Trace, changes: Mapping[int, Delta], memory: float = NEVER) -> Plan:
    """The steps for all variants.

    Args:
        trace: of the unmodified pass.
        changes: of each variant, by its number; by tensor.
        memory: bytes that the outputs kept may take. Where they would take more, the sweep is
            split into parts; each records the unmodified pass anew.
    """
    sequences = {variant: _sequence(trace, each) for variant, each in changes.items()}
    parts: list[MemoryChunk] = []
    full: list[int] = []
    pending: list[list[int]] = [list(changes)]
    while pending:
        chosen = pending.pop()
        if not chosen:
            continue
        part = _part(trace, sequences, chosen)
        if part.nbytes <= memory:
            part.unchanged = _unchanged(trace, part, memory - part.nbytes)
            parts.append(part)
        elif len(chosen) == 1:
            full += chosen
        else:  # halves in the order of the steps, so that what shares most stays together
            order = [step.variant for step in part.steps]
            half = len(order) // 2
            pending += [order[half:], order[:half]]
    return Plan(parts, full)


def _sequence(trace: Trace, changes: Delta) -> _Sequence:
    timed = sorted(
        ((trace.first_use.get(key, NEVER), key, value) for key, value in changes.items()),
        key=lambda one: one[0],
    )
    return [
        (tick, frozenset((key, value) for _, key, value in group))
        for tick, group in groupby(timed, key=lambda one: one[0])
    ]


def _part(trace: Trace, sequences: Mapping[int, _Sequence], chosen: list[int]) -> MemoryChunk:
    steps: list[Step] = []
    _arrange(sequences, chosen, 0, BASELINE, steps)
    calls: dict[int, dict[CallId, Call]] = {BASELINE: {}}
    by_variant = {step.variant: step for step in steps}
    last: dict[int, Step] = {}
    for step in steps:
        last[step.base] = step
        # What the base itself replays is kept by its own base.
        start = by_variant[step.base].restart if step.base in by_variant else 0
        kept = calls.setdefault(step.base, {})
        kept |= {
            call.id: call for call in trace.root.finished_before(step.restart) if call.end >= start
        }
    for base, step in last.items():
        if base != BASELINE:
            step.releases.add(base)
            by_variant[base].keep = set(calls[base])
    sizes = {base: sum(call.nbytes for call in kept.values()) for base, kept in calls.items()}
    held = peak = sizes[BASELINE]
    for step in steps:
        held += sizes.get(step.variant, 0)
        peak = max(peak, held)
        held -= sum(sizes[base] for base in step.releases)
    return MemoryChunk(set(calls[BASELINE]), steps, peak)


def _unchanged(trace: Trace, part: MemoryChunk, memory: float) -> frozenset[str]:
    """Those of which nothing that a variant changes reaches the input, before it gets there; as
    many of them as there is memory for. One that a pass calls twice is left out: its input may be
    another each time."""
    times = Counter(call.id.module for call in trace.root.all())
    found: dict[str, int] = {}
    for first in sorted({step.first for step in part.steps}):
        for call in trace.root.unchanged_after(first):
            if times[name := call.id.module] == 1 and name not in found:
                found[name] = call.nbytes + call.given
                memory -= found[name]
                if memory < 0:
                    return frozenset(found) - {name}
    return frozenset(found)


def _arrange(
    sequences: Mapping[int, _Sequence], chosen: list[int], depth: int, base: int, steps: list[Step]
) -> None:
    """Appends the steps of variants that share ``depth`` changes, which ``base`` has as well."""
    groups: dict[object, list[int]] = {}
    for variant in chosen:
        groups.setdefault(_element(sequences[variant], depth), []).append(variant)
    way = _element(sequences[base], depth) if base != BASELINE else None
    for element, members in groups.items():
        if element is not None and element == way:
            _arrange(sequences, members, depth + 1, base, steps)
            continue
        # One goes first and is recorded for the others: that which stays on the common way
        # longest, for until there its pass is theirs as well.
        leader, *others = sorted(
            members, key=lambda v: [-tick for tick, _ in sequences[v][depth + 1 :]] or [-NEVER]
        )
        restart = min(_tick(sequences[v], depth) for v in (leader, base) if v != BASELINE)
        steps.append(Step(leader, base, restart, _tick(sequences[leader], 0)))
        if others:
            _arrange(sequences, others, depth + 1, leader, steps)


def _element(sequence: _Sequence, depth: int) -> object:
    return sequence[depth] if depth < len(sequence) else None


def _tick(sequence: _Sequence, depth: int) -> float:
    return sequence[depth][0] if depth < len(sequence) else NEVER


def shares(trace: Trace, made: Plan) -> dict[int, tuple[str, int, float]]:
    """For each variant: the module in which it restarts, its base, and its share of the full cost.

    The share is by the time that the traced pass took, and leaves decoding out.
    """
    total = sum(call.seconds for call in trace.root.children) or 1.0
    found = {}
    for part in made.parts:
        for step in part.steps:
            known = trace.root.finished_before(step.restart)
            known += [
                call
                for call in trace.root.unchanged_after(step.first)
                if call.id.module in part.unchanged and call.start >= step.restart
            ]
            saved = sum(call.seconds for call in known)
            where = _innermost(trace.root, step.restart).id
            name = where.module if where.number >= 0 else "nowhere"
            found[step.variant] = (name or "the model itself", step.base, 1 - saved / total)
    return found


def _innermost(call: Call, tick: float) -> Call:
    for child in call.children:
        if child.start <= tick <= child.end + 1:
            return _innermost(child, tick)
    return call
