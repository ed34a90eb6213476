"""What a study would cut, in which order, on how many images, and what that costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.batches import groups
from ablate_kit.models.detect import device_of, inference
from ablate_kit.studies.budget import Budget
from ablate_kit.studies.cuts import Cut, Cutter
from ablate_kit.studies.probe import probe
from ablate_kit.studies.structure import Part, first_uses, structure, traced
from ablate_kit.sweeps.execution.trace import NEVER, Trace
from detector.data.dataset import Dataset

COARSE = 2  # levels of parts that must fit into a budget, on however few images
FEWEST = 24  # images
_SHARE = 0.5  # of the budget, for the coarse levels
_OVERHEAD = 1.4  # of passes over what a trace tells: decoding, checks of replay, scoring


@dataclass(frozen=True)
class Candidate:
    """A cut that a study may make.

    Attributes:
        parent: the number of the candidate that it is inside of; None at the top.
        share: of a full forward pass that it takes, at most.
    """

    cut: Cut
    kind: str
    elements: int
    depth: int
    parent: int | None
    share: float


@dataclass(frozen=True)
class Outline:
    """A detector's parts with the cuts for each, and what a pass over an image costs.

    Attributes:
        seconds: of a full pass over one image, prepared.
    """

    candidates: tuple[Candidate, ...]
    seconds: float
    total: int  # images that there are

    def images(self, budget: Budget) -> int:
        """On how many images the coarse levels fit into their share of the budget; on a few at
        least, if the top level fits then."""

        def most(depths: int, share: float) -> int:
            chosen = [one for one in self.candidates if one.depth < depths]
            if budget.passes is not None:
                return int(share * budget.passes / (len({one.cut.variant for one in chosen}) + 1))
            return int(share * (budget.seconds or 0.0) / self.cost(chosen, 1))

        wanted = max(min(FEWEST, most(1, 2 * _SHARE)), most(COARSE, _SHARE))
        return max(1, min(self.total, wanted))

    def on(self, images: int) -> "Outline":
        """The same with means over no more images than there will be."""
        fewer = []
        for one in self.candidates:
            line = dict(one.cut.line)
            if "images" in line:
                line["images"] = min(line["images"], images)
            fewer.append(replace(one, cut=replace(one.cut, line=line)))
        return replace(self, candidates=tuple(fewer))

    def cost(self, chosen: Sequence[Candidate], images: int) -> float:
        """Seconds of the unmodified model and of these cuts on so many images."""
        shares = {one.cut.variant: one.share for one in chosen}
        return images * self.seconds * (1 + sum(shares.values())) * _OVERHEAD

    def levels(self) -> Iterator[tuple[int, list[Candidate]]]:
        for depth in range(1 + max((one.depth for one in self.candidates), default=-1)):
            yield depth, [one for one in self.candidates if one.depth == depth]


def outline(source: KindContext, adapter: Adapter, dataset: Dataset) -> Outline:
    """Opens nothing and cuts nothing: a traced pass, a tried one, and two that are timed."""
    prepared = adapter.prepare(dataset.image(0))
    seen = traced(adapter, prepared)
    uses = first_uses(adapter, *seen) if seen else None
    parts = structure(source, uses)
    cutter = Cutter(source, adapter, {}, len(dataset))
    if seen:
        needed = {cutter.live_module(one) for one in parts.walk() if cutter.needs_probe(one)}
        silenced = probe(adapter, prepared, seen[1], needed - {""})
        cutter = Cutter(source, adapter, silenced, len(dataset))
    found: list[Candidate] = []
    trace = seen[1] if seen else None
    for part in parts.children:
        _add(found, part, cutter, trace, 0, None)
    return Outline(tuple(found), _timed(adapter, dataset), len(dataset))


def _add(
    found: list[Candidate],
    part: Part,
    cutter: Cutter,
    trace: Trace | None,
    depth: int,
    parent: int | None,
) -> None:
    number = len(found)
    share = _share(trace, part.begins)
    cut = cutter.cut(part)
    found.append(Candidate(cut, part.kind, part.elements, depth, parent, share))
    for child in part.children:
        _add(found, child, cutter, trace, depth + 1, number)
    if part.kind == "attention" and part.heads > 1:
        found += [
            Candidate(head, "head", part.elements // part.heads, depth + 1, number, share)
            for head in cutter.heads(part)
        ]


def _share(trace: Trace | None, begins: float) -> float:
    """Of a pass that is computed where something changes at this tick."""
    if trace is None or begins == NEVER:
        return 1.0
    total = sum(call.seconds for call in trace.root.children) or 1.0
    return 1 - sum(call.seconds for call in trace.root.finished_before(begins)) / total


def _timed(adapter: Adapter, dataset: Dataset) -> float:
    """Seconds of a full pass and its decoding, for an image of a batch; the quicker of two."""
    some = [adapter.prepare(dataset.image(i)) for i in range(min(8, len(dataset)))]
    device = device_of(adapter.module)
    best = float("inf")
    with inference(adapter.module):
        for _ in range(2):
            began = perf_counter()
            for group in (one.on(device) for one in groups(some)):
                adapter.decode(adapter.forward(group.inputs), group.origins)
            best = min(best, perf_counter() - began)
    return best / len(some)


def affordable(
    made: Outline, budget: Budget, images: int
) -> tuple[list[Candidate], list[Candidate]]:
    """What fits into a budget if everything turns out to be worth a closer look, and the rest."""
    fits: list[Candidate] = []
    rest: list[Candidate] = []
    for _, level in made.levels():
        for one in level:
            tried = [*fits, one]
            if budget.passes is not None:
                inside = images * (1 + len({x.cut.variant for x in tried})) <= budget.passes
            else:
                inside = made.cost(tried, images) <= (budget.seconds or 0.0)
            (fits if inside and not rest else rest).append(one)
    return fits, rest


def with_parents(candidates: Sequence[Candidate]) -> Mapping[int, list[int]]:
    """The numbers of the candidates inside each; of those at the top under -1."""
    found: dict[int, list[int]] = {}
    for number, one in enumerate(candidates):
        found.setdefault(-1 if one.parent is None else one.parent, []).append(number)
    return found
