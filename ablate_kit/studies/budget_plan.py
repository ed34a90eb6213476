"""What a study would cut, in which order, on how many images, and what that costs."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.studies.budget import Budget
from ablate_kit.studies.cuts import Cut, Cutter
from ablate_kit.studies.pace import Load, Pace
from ablate_kit.studies.probe import probe
from ablate_kit.studies.structure import Part, first_uses, structure, tell_of_uncounted, traced
from ablate_kit.sweeps.estimates.timed_pass import PassTime, timed_pass
from ablate_kit.sweeps.execution.trace import NEVER, Trace
from ablate_kit.sweeps.recipes.sweep_recipe import parse_kind
from detector.data.dataset import Dataset

COARSE = 2  # levels of parts that must fit into a budget, on however few images
FEWEST = 24  # images
_SHARE = 0.5  # of the budget, for the coarse levels


@dataclass(frozen=True)
class Candidate:
    """A cut that a study may make."""

    cut: Cut
    kind: str
    elements: int
    depth: int
    parent: int | None  # the number of the candidate that it is inside of; None at the top
    share: float  # of a full forward pass that it takes, at most
    made_of: tuple[str, ...] = ()  # variants that make up this one when they are cut at once


@dataclass(frozen=True)
class Outline:
    """A detector's parts with the cuts for each, and what a pass over an image costs."""

    candidates: tuple[Candidate, ...]
    time: PassTime  # of a full pass over one image, prepared
    total: int  # images that there are

    @property
    def decoding(self) -> float:
        """The share of decoding in the time of a cut, in the mean."""
        shares = {one.cut.variant: one.share for one in self.candidates}
        mean = sum(shares.values()) / len(shares) if shares else 1.0
        return self.time.share_of_decoding(mean)

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
        """Seconds of the unmodified model and of these cuts on so many images, as long as nothing
        was measured."""
        shares = {one.cut.variant: one.share for one in chosen}
        return Pace().seconds(self.load([*shares.values()], images))

    def load(self, shares: Sequence[float], images: int, *, alone: bool = True) -> Load:
        """Of cuts that take such shares of a pass, in a round; ``alone``: the unmodified model,
        which each round begins with, is for them."""
        passes, decoded = int(alone) + sum(shares), int(alone) + len(shares)
        seconds = self.time.forward * passes + self.time.decoding * decoded
        return Load(images * seconds, images * decoded)

    def levels(self) -> Iterator[tuple[int, list[Candidate]]]:
        for depth in range(1 + max((one.depth for one in self.candidates), default=-1)):
            yield depth, [one for one in self.candidates if one.depth == depth]


def outline(source: KindContext, adapter: Adapter, dataset: Dataset) -> Outline:
    """Opens nothing and cuts nothing: a traced pass, a tried one, and two that are timed."""
    prepared = adapter.prepare(dataset.image(0))
    seen = traced(adapter, prepared)
    uses = first_uses(adapter, *seen) if seen else None
    parts = structure(source, uses)
    tell_of_uncounted(source)
    cutter = Cutter(source, adapter, {}, len(dataset))
    if seen:
        needed = {
            name
            for one in parts.walk()
            if cutter.needs_probe(one)
            for name in cutter.live_modules(one)
        }
        silenced = probe(adapter, prepared, seen[1], needed)
        cutter = Cutter(source, adapter, silenced, len(dataset))
    finder = _Finder(source, cutter, seen[1] if seen else None)
    for part in parts.children:
        finder.add(part, 0, None)
    some = [adapter.prepare(dataset.image(i)) for i in range(min(8, len(dataset)))]
    return Outline(_pieced(finder.found), timed_pass(adapter, some), len(dataset))


class _Finder:
    """Lists the cuts of parts, each before those inside of it; what is cut alike is one cut."""

    def __init__(self, source: KindContext, cutter: Cutter, trace: Trace | None) -> None:
        self._source = source
        self._cutter = cutter
        self._trace = trace
        self._known: dict[Hashable, Cut] = {}
        self.found: list[Candidate] = []

    def add(self, part: Part, depth: int, parent: int | None) -> None:
        number = len(self.found)
        share = _share(self._trace, part.begins)
        cut = self._cutter.cut(part)
        same = self._known.setdefault(self._does(cut), cut)
        if same is not cut:
            if part.children and parent is not None:  # a shell around what is cut: one name for it
                for child in part.children:
                    self.add(child, depth, parent)
                return
            cut = replace(same, part=part.name)
        self.found.append(Candidate(cut, part.kind, part.elements, depth, parent, share))
        for child in part.children:
            self.add(child, depth + 1, number)
        if part.kind == "attention" and part.heads > 1:
            self.found += [
                Candidate(head, "head", part.elements // part.heads, depth + 1, number, share)
                for head in self._cutter.heads(part)
            ]

    def _does(self, cut: Cut) -> Hashable:
        """Equal for cuts that do the same, whatever they are called; a mean is known by its line,
        as only a run over images tells it."""
        if cut.how != "mean":
            with suppress(UserError):
                (made,) = parse_kind(dict(cut.line)).make(self._source)
                return made.digest
        line = {key: value for key, value in cut.line.items() if key != "name"}
        return str(sorted(line.items()))


def _pieced(found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The same, each with what it is made of."""
    inside: dict[int | None, list[int]] = {}
    for number, one in enumerate(found):
        inside.setdefault(one.parent, []).append(number)

    def pieces(number: int, kind: str, whole: set[str]) -> Iterator[Cut]:
        for i in inside.get(number, ()):
            cut = found[i].cut
            own = set(cut.line.get("pattern", ()))
            if cut.line["kind"] == kind and own and own < whole:
                yield cut
            else:
                yield from pieces(i, kind, whole)

    made = []
    for number, one in enumerate(found):
        whole = set(one.cut.line.get("pattern", ()))
        within = list(pieces(number, str(one.cut.line["kind"]), whole)) if len(whole) > 1 else []
        counts = sum(len(set(cut.line["pattern"])) for cut in within)
        exact = {name for cut in within for name in cut.line["pattern"]} == whole
        if exact and counts == len(whole):  # each in one of them
            one = replace(one, made_of=tuple(cut.variant for cut in within))
        made.append(one)
    return tuple(made)


def _share(trace: Trace | None, begins: float) -> float:
    """Of a pass that is computed where something changes at this tick."""
    if trace is None or begins == NEVER:
        return 1.0
    total = sum(call.seconds for call in trace.root.children) or 1.0
    return 1 - sum(call.seconds for call in trace.root.finished_before(begins)) / total


def in_turn(candidates: Sequence[Candidate], some: Iterable[int], *, timed: bool) -> list[int]:
    """The numbers of candidates in the order in which they are to be cut: the coarse levels, then
    what is cheapest.

    Args:
        timed: what is cheap follows from measured times; a budget in passes is to choose the same
            on every machine.
    """

    def key(i: int) -> tuple[float, ...]:
        one = candidates[i]
        return min(one.depth, COARSE), one.share if timed else one.depth, i

    return sorted(some, key=key)


def affordable(made: Outline, budget: Budget, images: int) -> list[Candidate]:
    """What fits into a budget if everything turns out to be worth a closer look."""
    candidates = made.candidates
    fits: list[Candidate] = []
    for i in in_turn(candidates, range(len(candidates)), timed=budget.passes is None):
        tried = [*fits, candidates[i]]
        if budget.passes is not None:
            inside = images * (1 + len({x.cut.variant for x in tried})) <= budget.passes
        else:
            inside = made.cost(tried, images) <= (budget.seconds or 0.0)
        if inside:
            fits = tried
    return fits
