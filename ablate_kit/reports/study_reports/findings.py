"""What a study found, and the words in which a sentence tells it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Sampled
from ablate_kit.metrics.uncertainty.chance import LEVEL, paired_test
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.verdict import NEXT_TO_NOTHING
from ablate_kit.reports.study_reports.titles import how, title
from ablate_kit.reports.table import ends
from ablate_kit.studies.noted import Noted, NotedPart

NAMED = 4  # parts that one sentence names


@dataclass(frozen=True)
class Sentence:
    """What is said, and the variants whose rows say so."""

    text: str
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """A study, its results (of the unmodified model, then of each variant), and their changes."""

    study: Noted
    results: Sequence[Result]
    compared: Comparison

    @property
    def margin(self) -> float:
        """That verdicts are asked for here; a report may have another than the study."""
        return self.compared.statistics.margin

    def ap(self) -> dict[str, Change]:
        """The change of AP of each variant, by name."""
        pairs = zip(self.results[1:], self.compared.changes, strict=True)
        return {result.name: change["AP"] for result, change in pairs}

    def cut(self) -> list[NotedPart]:
        """The parts that were cut, one for each variant: where several are cut alike, the outer."""
        known = self.ap()
        found: dict[str, NotedPart] = {}
        for one in self.study.parts:
            if one.variant in known:
                found.setdefault(one.variant, one)
        return list(found.values())


def ap_samples(found: Findings) -> dict[str, Sampled]:
    """Of each variant, by name; nothing without resamples."""
    pairs = zip(found.results[1:], found.compared.samples, strict=False)
    return {one.name: own.overall["AP"] for one, own in pairs}


def stands_out(found: Findings, variant: str, others: Iterable[str]) -> bool:
    """Whether a variant, the one that changes AP most, does so by more than each of some others.

    All of the tests have to say so, which then need no adjustment, as the largest was chosen for
    being so (Gutmann and Maymin 1987; ``benchmarks/simulated_stars.py``).
    """
    samples, before = ap_samples(found), found.compared.baseline
    if before is None or variant not in samples:
        return False
    own = samples[variant]
    for one in others:
        test = paired_test(own - samples[one])
        same_sign = test is not None and test.change * (own.value - before.overall["AP"].value) > 0
        if test is None or not same_sign or test.p >= 1 - LEVEL:
            return False
    return True


def with_effect(one: NotedPart, change: Change) -> str:
    return f"{title(one)} ({how(one)}: {by(change)})"


def by(change: Change) -> str:
    """An AP's change. Where all is lost its interval is that of the unmodified AP, and nothing of
    the part."""
    if change.change == change.error == 0:  # an interval from 0 to 0 would say more than is known
        return "AP unchanged"
    if (change.value or 0.0) < NEXT_TO_NOTHING and (change.change or 0.0) < 0:
        return f"AP {change.change:+z.4f}, next to nothing is left"
    return interval_of(change)


def interval_of(change: Change) -> str:
    return ", ".join(filter(None, (f"AP {change.change:+z.4f}", ends(change.low, change.high, ""))))


def ranked(parts: Iterable[NotedPart], ap: Mapping[str, Change], outcome: str) -> list[NotedPart]:
    chosen = [one for one in parts if ap[one.variant].outcome == outcome]
    return sorted(chosen, key=lambda one: ap[one.variant].change or 0.0)
