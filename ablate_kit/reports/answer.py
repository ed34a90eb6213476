"""The answer of a comparison, in one plain sentence above its table."""

from collections.abc import Iterable, Iterator, Sequence

from ablate_kit import text as safe
from ablate_kit.metrics.evaluate import Evaluation
from ablate_kit.metrics.fidelity import MEASURES
from ablate_kit.metrics.headline import METRICS
from ablate_kit.metrics.result import BASELINE, Result
from ablate_kit.metrics.uncertainty.multiplicity import LEAST_FREEDOM, Adjust
from ablate_kit.metrics.uncertainty.significance import Change, Changes
from ablate_kit.metrics.uncertainty.verdict import NEXT_TO_NOTHING, Verdict, sentence, unseen
from ablate_kit.plural import counted, roughly
from ablate_kit.reports.table import ends, number

DETECTORS = ("detections", "checkpoint")  # kinds that are no ablations: nothing costs, one is worse
# Of a joint cut of those parts that cost least alone: up to three standard errors too good
# (``benchmarks/simulated_joint_cuts.py``).
RANKED_HERE = (
    "its parts were ranked on these very images, so that on others it is likely to cost more"
)
_ADJUSTED = {"family": "max-T", "fdr": "false discovery rate"}
_FEW_FOR_AP = 200  # images: benchmarks/few_images.py
# So many clusters of one size, to one of several sizes, tell as much. Below, 14 % of intervals
# would miss the truth if all were counted, where larger ones change more; 8 % do, up to 11 % where
# sizes are most unequal (``benchmarks/simulated_clusters.py``).
_UNEQUAL = 0.5
OF_DETECTORS = {"costs": "worse", "free": "as good", "gains": "better"}
_ONE_BY_ONE = {"head": "heads", "query": "queries", "channel": "channels", "point": "points"}
_SEVERAL = {"draw", "count", "member_1"}  # of a variant that is no one thing


def answer(results: Sequence[Result], changes: Sequence[Changes]) -> str:
    """What the changes against the first result come to; empty where there is no verdict."""
    judged = [
        (one, change["AP"])
        for one, change in zip(results[1:], changes, strict=False)
        if change["AP"].verdict is not None
    ]
    whole = [change for change in changes if change["AP"].verdict is not None]
    if not judged:
        return ""
    found = [change.verdict for _, change in judged if change.verdict is not None]
    unit, _ = drawn_units(results[0].evaluation)
    if not compares_detectors(results):
        metric = f"AP against {compared_with(results)}" if without_labels(results) else "AP"
        return sentence(found, noun([one for one, _ in judged]), metric, unit)
    baseline = safe.line(results[0].name)
    if len(judged) == 1:
        said = _of_two(baseline, safe.line(judged[0][0].name), judged[0][1], unit)
        return said + _at_its_scores(baseline, whole[0])
    counts = ", ".join(
        f"{sum(one.outcome == outcome for one in found)} {word}"
        for outcome, word in (*OF_DETECTORS.items(), ("undecided", "undecided"))
    )
    told = (
        f"of {len(found)} compared with {baseline}, at a margin of {found[0].margin:g} AP: {counts}"
    )
    defined = [(one, change) for one, change in judged if change.change is not None]
    best, change = max(defined, key=lambda one: one[1].change or 0.0, default=(None, None))
    if best is None or change is None or (change.change or 0.0) <= 0:
        return f"{told}; none has a higher AP"
    # The interval is of one detector; the best of many equal ones is often beyond its own.
    chance = "" if change.significant else f", which the best of {len(defined)} may have by chance"
    return f"{told}; the highest AP is that of {safe.line(best.name)}: {_by(change)}{chance}"


def word(verdict: Verdict | None, *, detectors: bool = False) -> str:
    """A verdict as the last cell of a row."""
    if verdict is None:
        return ""
    if verdict.outcome != "undecided":
        return OF_DETECTORS[verdict.outcome] if detectors else verdict.outcome
    return "undecided" + (f" (+{roughly(verdict.more):,})" if verdict.more else "")


def change_cells(change: Change | None) -> tuple[str, str, str]:
    """A change of AP, its interval with a star, and its verdict; nothing where there is none."""
    if change is None:
        return "", "", ""
    interval = ends(change.low, change.high, "*" if change.significant else " ")
    return number(change.change, "+z.4f"), interval, word(change.verdict)


def without_labels(results: Sequence[Result]) -> bool:
    """Whether what the first finds stands for the objects: nothing is better than that then."""
    return _against_own_boxes(results[0].evaluation)


def compares_detectors(results: Sequence[Result]) -> bool:
    return not without_labels(results) and any(one.kind in DETECTORS for one in results[1:])


def compared_with(results: Sequence[Result]) -> str:
    """What the others are compared with: of checkpoints the first by its name, whatever it is."""
    first = results[0]
    return "the unmodified model" if first.kind == BASELINE else safe.line(first.name)


def noun(variants: Sequence[Result]) -> str:
    """What the variants are, where each is one thing of one kind."""

    def all_have(factor: str) -> bool:
        return all(factor in one.factors and not _SEVERAL & one.factors.keys() for one in variants)

    for kind, name in (("modules", "modules"), ("knob", "settings")):
        if all(one.kind == kind for one in variants):
            return name
    return next((name for factor, name in _ONE_BY_ONE.items() if all_have(factor)), "variants")


def drawn_units(evaluation: Evaluation) -> tuple[str, int]:
    """What is drawn for intervals, and how many there are of it."""
    counts = evaluation.counts
    if "clusters" in counts:
        return "clusters", counts["clusters"]
    return "images", counts["images"]


def unequal_clusters(evaluation: Evaluation) -> str:
    """That clusters of very different sizes tell less than as many of one size; else nothing."""
    counts = evaluation.counts
    clusters = counts.get("clusters", 0)
    equal = counts.get("equal_clusters", clusters)
    if equal >= _UNEQUAL * clusters:
        return ""
    share = counts["largest_cluster"] / counts["images"]
    return (
        f"clusters differ in size, the largest has {share:.0%} of the images: all {clusters:,} "
        f"tell as much as {equal:,} of one size, and where larger ones change more, up to one "
        "interval in ten misses the truth"
    )


def of_all_metrics(changes: Sequence[Changes]) -> Iterator[Change]:
    for one in changes:
        yield from one.values()


def adjusted_by(adjust: Adjust, changes: Iterable[Change]) -> str:
    """How verdicts and stars of these are."""
    few = {one.few for one in changes if one.p_adjusted is not None}
    if adjust == "fdr" or True not in few:
        return _ADJUSTED[adjust]
    return "Holm" if few == {True} else f"max-T; Holm below {LEAST_FREEDOM} degrees of freedom"


def too_few_for_ap(evaluation: Evaluation) -> str:
    """That an AP is too high, where few images make it so: not one against a model's own boxes."""
    unit, drawn = drawn_units(evaluation)
    if drawn >= _FEW_FOR_AP or (evaluation.overall["AP"] or 0) < NEXT_TO_NOTHING:
        return ""
    if _against_own_boxes(evaluation):
        return ""
    return (
        f"AP of so few {unit} ({drawn}) is too high (measured: by 0.05 on 50 images, 0.03 to 0.04 "
        "on 100, 0.01 to 0.02 on 300): compare it only with AP of the same ones"
    )


def images_and_objects(evaluation: Evaluation) -> str:
    """How many there are, before all numbers of them."""
    counts = evaluation.counts
    clustered = f" in {counted(counts['clusters'], 'cluster')}" if "clusters" in counts else ""
    seen = counted(counts["images"], "image")
    return f"{seen}{clustered}, {counted(counts['ground_truths'], 'object')}"


def not_shown(unit: str, seen: int, margin: float) -> str:
    """What is free on so few images, but may not be on those that they hold none of; nothing where
    that is less than the margin of all."""
    share = unseen(seen)
    if share <= margin:
        return ""
    return f"What matters on less than {100 * share:.2g}% of all {unit} these {seen} may not show"


def _against_own_boxes(evaluation: Evaluation) -> bool:
    return MEASURES[0].key in evaluation.overall


def _of_two(first: str, second: str, change: Change, unit: str) -> str:
    verdict = change.verdict
    if verdict is None or verdict.p is None or change.change is None:
        return f"whether {second} is better than {first} cannot be told from these {unit}"
    better = "better" if change.change > 0 else "worse"
    margin = f"{verdict.margin:g} AP"
    needed = ""
    if verdict.outcome in ("costs", "gains"):
        sentence = f"{second} is {better} than {first} by more than {margin}"
    elif verdict.outcome == "free":
        sentence = f"{second} is as good as {first}, within {margin}"
    elif change.significant:
        sentence = f"{second} is {better} than {first}, undecided whether by more than {margin}"
        needed = _needed(verdict, unit)
    else:
        sentence = f"whether {second} is better than {first} is undecided"
        needed = _needed(verdict, unit)
    return f"{sentence}: {_by(change)}{needed}"


def _at_its_scores(first: str, changes: Changes) -> str:
    """What AP cannot see, which asks for an order of scores alone: of a detector whose scores have
    shifted a threshold keeps other boxes."""
    if changes["AP"].verdict is None or changes["AP"].verdict.outcome not in ("free", "gains"):
        return ""
    falling = [
        f"{one.label} {changes[one.key].change:+z.4f}"
        for one in METRICS
        if one.key in ("f1_calibrated", "giou_penalized")
        and changes[one.key].significant
        and (changes[one.key].change or 0.0) < 0
    ]
    if not falling:
        return ""
    return f"; at the score thresholds of {first} it is significantly worse: {', '.join(falling)}"


def _by(change: Change) -> str:
    size = f"AP {change.change:+z.4f}"
    if interval := ends(change.low, change.high, ""):
        return f"{size}, 95 % interval {interval}"
    return size if change.p is None else f"{size}, on all of them alike"


def _needed(verdict: Verdict, unit: str) -> str:
    return f"; about {roughly(verdict.more):,} more {unit} would decide" if verdict.more else ""
