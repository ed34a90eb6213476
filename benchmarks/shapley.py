"""Shapley values from a sample of permutations, against the exact ones over all subsets.

The 8 attention heads of one decoder layer of the shipped detector: all 2^8 subsets are cut, and the
exact Shapley value of each head follows from their 256 APs (Shapley 1953). Then ``kind: shapley``
estimates them on the same images, so that only its Monte Carlo error can keep the two apart.

    python benchmarks/shapley.py --images 24 --permutations 16
"""

import argparse
import csv
from itertools import combinations
from math import factorial, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory

from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run_sweep import run

HEADS = [f"decoder.layers.0.{kind}_attn-head{i}" for kind in ("self", "cross") for i in range(4)]


def recipe(images: int, extra: list[dict[str, object]]) -> SweepRecipe:
    return SweepRecipe.model_validate(
        {
            "model": {"checkpoint": "builtin:shapes_tiny"},
            "data": {"kind": "shapes", "limit": images},
            "ablations": [{"kind": "heads", "pattern": "decoder.layers.0.*_attn"}, *extra],
            "evaluation": {"resamples": 200},
        }
    )


def exact(images: int, folder: Path) -> dict[str, float]:
    """By head, from the AP without each subset of the heads."""
    lines: list[dict[str, object]] = [
        {"kind": "joined", "members": list(some), "name": "+".join(some)}
        for size in range(2, len(HEADS) + 1)
        for some in combinations(HEADS, size)
    ]
    results = run(recipe(images, lines), folder).ledger.results()
    ap = {frozenset[str](): results[0].evaluation.overall["AP"] or 0.0}
    for one in results[1:]:
        ap[frozenset(one.name.split("+"))] = one.evaluation.overall["AP"] or 0.0
    assert len(ap) == 2 ** len(HEADS)
    values = {}
    for head in HEADS:
        others = [one for one in HEADS if one != head]
        total = 0.0
        for size in range(len(others) + 1):
            weight = factorial(size) * factorial(len(others) - size) / factorial(len(HEADS))
            for some in map(frozenset, combinations(others, size)):
                total += weight * (ap[some | {head}] - ap[some])
        values[head] = total
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--permutations", type=int, default=16)
    options = parser.parse_args()
    with TemporaryDirectory() as place:
        truth = exact(options.images, Path(place) / "exact")
        line: dict[str, object] = {"kind": "shapley", "permutations": options.permutations}
        outcome = run(recipe(options.images, [line]), Path(place) / "sampled")
        write_sweep_report(outcome.ledger, count=0, statistics=Statistics(200, 0))
        rows = csv.DictReader(
            (Path(place) / "sampled" / "report" / "shapley.csv").read_text().splitlines()
        )
        found = {row["part"]: row for row in rows if row["metric"] == "AP"}
    print(f"{'head':<40}{'exact':>9}{'sampled':>9}{'error':>8}{'errors apart':>14}")
    worst = 0.0
    for head in HEADS:
        row = found[head]
        sampled = float(row["change"])
        error = float(row["deviation_draws"]) / sqrt(int(row["repeats"]))
        apart = abs(sampled - truth[head]) / error if error else 0.0
        worst = max(worst, apart)
        print(f"{head:<40}{truth[head]:>+9.4f}{sampled:>+9.4f}{error:>8.4f}{apart:>14.1f}")
    sums = sum(truth.values()), sum(float(found[head]["change"]) for head in HEADS)
    print(
        f"they sum to {sums[0]:+.6f} and {sums[1]:+.6f}; at most {worst:.1f} standard errors apart"
    )


if __name__ == "__main__":
    main()
