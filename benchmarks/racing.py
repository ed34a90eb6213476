"""A race against the full run: image passes and verdicts, on a real detector.

    python benchmarks/racing.py --model FOLDER --annotations FILE --images FOLDER
                                [--heads 'model.decoder.layers.*.self_attn']
                                [--margin 0.01] [--out runs/racing] [--trust-remote-code]

Every verdict on a change of more than two margins is asserted to be the same. Passes are counted,
not timed; seconds are printed beside them. With each variant is told by how much what an image says
of it deviates, of which ``simulated_races.py`` makes larger races.
"""

import argparse
import time
from pathlib import Path

from ablate_kit.metrics.raced_results import compare_raced
from ablate_kit.metrics.uncertainty.comparison import compare
from ablate_kit.sweeps import run_sweep
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run import Progress
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.scheduling.race import Look


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--heads", nargs="+", default=["model.decoder.layers.*.self_attn"])
    parser.add_argument("--margin", type=float, default=0.01)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/racing"))
    options = parser.parse_args()
    raced = _raced(options)
    full, seconds = _run(options, "full", race=False)
    results = full.results()
    whole = compare(full.truth(), results, full.manifest().statistics).changes
    print(f"full run: {len(results) - 1} variants, {seconds:.0f} s")
    clear = differ = 0
    for one, change in zip(results[1:], whole, strict=True):
        known, stopped, outcome = change["AP"], *raced[one.name]
        assert known.verdict
        assert known.change is not None
        large = abs(known.change) > 2 * options.margin
        same = known.verdict.outcome == outcome
        clear += large
        differ += not same
        deviation = (known.error or 0.0) * one.images**0.5
        print(f"{one.name:44} {known.change:+.4f} ({deviation:.3f})  full "
              f"{known.verdict.outcome:9}  race {outcome:9} at {stopped}"
              f"{'' if same else '  *'}")  # fmt: skip
        assert same or not large, one.name
    print(f"{clear} changes of more than two margins: the same verdicts; {differ} others differ",
          flush=True)  # fmt: skip


def _raced(options: argparse.Namespace) -> dict[str, tuple[int, str]]:
    """By variant: after how many images it stopped, and with what verdict."""
    ledger, seconds = _run(options, "race", race=True)
    results, race = ledger.results(), ledger.manifest().race
    assert race
    statistics = ledger.manifest().statistics
    found = compare_raced(ledger.truth(), results, race.looks, statistics).changes
    passes, most = sum(one.images for one in results), race.images[-1] * len(results)
    outcomes = [one["AP"].verdict.outcome for one in found if one["AP"].verdict]
    counts = {kind: outcomes.count(kind) for kind in sorted(set(outcomes))}
    print(f"{race.looks}; {counts}; {passes:,} passes instead of {most:,}, "
          f"{most / passes:.1f} times fewer; {seconds:.0f} s", flush=True)  # fmt: skip
    return {
        one.name: (one.images, outcome) for one, outcome in zip(results[1:], outcomes, strict=True)
    }


def _run(options: argparse.Namespace, name: str, *, race: bool) -> tuple[Ledger, float]:
    recipe = SweepRecipe.model_validate(
        {
            "model": {"checkpoint": options.model},
            "data": {"kind": "coco", "annotations": str(options.annotations),
                     "images": str(options.images),
                     **({"limit": options.limit} if options.limit else {})},
            "ablations": [{"kind": "heads", "pattern": one} for one in options.heads],
            "evaluation": {"margin": options.margin},
            "race": {} if race else None,
        }
    )  # fmt: skip
    start = time.perf_counter()

    def told(look: Look) -> None:
        stopped = [outcome for _, outcome in look.stopped]
        counts = {kind: stopped.count(kind) for kind in sorted(set(stopped))}
        print(f"  look at {look.images}: {counts}, {look.left} left", flush=True)

    placement = Placement(trust_remote_code=options.trust_remote_code)
    outcome = run_sweep.run(recipe, options.out / name, placement, progress=Progress(look=told))
    return outcome.ledger, time.perf_counter() - start


if __name__ == "__main__":
    main()
