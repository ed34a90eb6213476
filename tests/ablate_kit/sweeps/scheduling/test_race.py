"""Variants that stop when they are decided."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.cli.commands.report import report
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.raced_results import compare_raced
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
from ablate_kit.sweeps import run_sweep
from ablate_kit.sweeps.finished_runs.images_of_run import images_of
from ablate_kit.sweeps.long_table import long_table
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run import Progress
from ablate_kit.sweeps.scheduling.engine import Report, run
from ablate_kit.sweeps.scheduling.race import Look, Race, schedule
from ablate_kit.sweeps.scheduling.scheduler import Batches, BatchResult, Stretches, Work
from ablate_kit.sweeps.scheduling.store import MemoryStore
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant
from tests.ablate_kit.made_up import truth_of

IMAGES, SIZE = 240, 8
RNG = np.random.default_rng


def test_looks_are_whole_batches_up_to_all_images() -> None:
    assert schedule(Batches(1000, 8), 100, 1.5, 3) == Looks((104, 152, 232, 344, 512, 760, 1000), 3)
    assert schedule(Batches(90, 8), 100, 1.5, 3).images == (90,)
    assert schedule(Batches(100, 64), 20, 1.2, 3).images == (64, 100)


def truth() -> GroundTruth:
    image = np.repeat(np.arange(IMAGES), 4)
    corner = RNG(0).uniform(0, 60, (len(image), 2))
    return truth_of(
        image, np.concatenate([corner, corner + 25], axis=1), np.tile([0, 1, 0, 1], IMAGES),
        images=IMAGES, classes="ab", image_ids=np.arange(IMAGES) + 1,
    )  # fmt: skip


TRUTH = truth()


def found(missed: float, images: range) -> Detections:
    """Shaken boxes, of which a share is missing."""
    rows = np.flatnonzero((TRUTH.image >= images.start) & (TRUTH.image < images.stop))
    rng = RNG([images.start, 7])
    boxes = TRUTH.boxes[rows] + rng.normal(0, 2, (len(rows), 4))
    scores, lost = rng.uniform(0.3, 1, len(rows)), rng.random(len(rows)) < missed
    kept = rows[~lost]
    return Detections(TRUTH.image[kept], boxes[~lost], scores[~lost], TRUTH.labels[kept])


class Faked:
    """A worker whose variants miss objects; it notes what it was asked for."""

    def __init__(self, missed: dict[str, float]) -> None:
        self._missed = missed
        self._batches = Batches(IMAGES, SIZE)
        self._work: Work | None = None
        self.passes: dict[str, int] = {}

    def workers(self) -> Sequence[str]:
        return ["one"]

    def submit(self, worker: Any, work: Work) -> None:
        self._work = work

    def next_report(self) -> Report:
        assert self._work
        results = []
        for batch in self._work.batches:
            span = self._batches.span(batch)
            for one in self._work.variants:
                self.passes[one.name] = self.passes.get(one.name, 0) + len(span)
            rows = {
                one.digest: found(self._missed.get(one.name, 0.0), span)
                for one in self._work.variants
            }
            results.append(BatchResult(batch, rows))
        return Report("one", results)


class KilledError(Exception):
    """The process is gone."""


def variant(name: str) -> Variant:
    return Variant(name, "test", Ablation(name, name, (Edit(name),)))


def raced(
    missed: dict[str, float],
    margin: float,
    futility: float = 0.0,
    store: MemoryStore | None = None,
    killed_at: int = IMAGES + 1,
) -> tuple[Faked, list[Look], MemoryStore]:
    batches, store, seen = Batches(IMAGES, SIZE), store or MemoryStore(), list[Look]()
    variants = [variant(name) for name in missed]
    looks = schedule(batches, 40, 2.0, len(variants), futility)
    race = Race(
        variants,
        TRUTH,
        batches,
        store,
        looks,
        Statistics(resamples=200, margin=margin),
        fixed_threshold=0.5,
        watch=seen.append,
    )
    pool = Faked(missed)

    def add(result: BatchResult) -> None:
        if result.batch * SIZE >= killed_at:
            raise KilledError
        store.add(result)

    run(Stretches(race.stretches()), pool, add)
    assert len(store.results([UNMODIFIED, *variants])) == 1 + len(missed)
    return pool, seen, store


def test_what_is_decided_runs_no_further() -> None:
    pool, looks, store = raced({"most": 0.7, "some": 0.1, "little": 0.01}, 0.05)
    assert looks[0].images == 40
    assert [one.images for one in looks] == [40, 80, 160, 240]
    assert looks[0].stopped == [("most", "costs")]
    assert looks[1].stopped == [("little", "free")]
    assert pool.passes == {"unmodified": IMAGES, "most": 40, "little": 80, "some": IMAGES}
    numbers = store.evaluation(variant("most"))
    assert numbers is not None
    assert numbers.counts["images"] == 40


def test_the_unmodified_model_runs_as_far_as_any_other() -> None:
    pool, looks, store = raced({"most": 0.7, "half": 0.5}, 0.04)
    assert pool.passes == {"unmodified": 40, "most": 40, "half": 40}
    assert [one.left for one in looks] == [0]
    numbers = store.evaluation(UNMODIFIED)
    assert numbers is not None
    assert numbers.counts["images"] == 40


def test_what_is_decided_leaves_its_share_of_the_error_to_others() -> None:
    # The same variant, once beside two that are decided early, once beside two like itself.
    _, looks, _ = raced({"most": 0.7, "some": 0.1, "little": 0.01}, 0.04)
    assert looks[-1] == Look(160, [("some", "costs")], 0)
    _, looks, _ = raced({"like": 0.1001, "some": 0.1, "it": 0.1002}, 0.04)
    assert dict(looks[-1].stopped)["some"] == "undecided"


@pytest.mark.parametrize("killed_at", [0, 48, 120])
def test_a_race_that_goes_on_comes_to_the_same_looks(killed_at: int) -> None:
    missed = {"most": 0.7, "some": 0.1, "little": 0.01}
    _, looks, whole = raced(missed, 0.04)
    store = MemoryStore()
    with pytest.raises(KilledError):
        raced(missed, 0.04, store=store, killed_at=killed_at)
    _, again, _ = raced(missed, 0.04, store=store)
    assert again == looks
    for name in missed:
        assert store.evaluation(variant(name)) == whole.evaluation(variant(name))


def test_what_all_images_would_hardly_decide_is_given_up() -> None:
    missed = {"most": 0.7, "some": 0.1, "little": 0.01}
    pool, looks, store = raced(missed, 0.06, futility=0.5)
    assert ("some", "undecided") in looks[1].stopped
    assert pool.passes["some"] == 80
    numbers = store.evaluation(variant("some"))
    assert numbers is not None
    assert numbers.counts["images"] == 80
    pool, looks, _ = raced(missed, 0.06)
    assert pool.passes["some"] == IMAGES
    assert ("some", "undecided") in looks[-1].stopped


def test_nothing_is_free_beside_a_model_that_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.found", lambda *_: Detections.concatenate([]))
    pool, looks, _ = raced({"any": 0.5}, 0.04)
    assert pool.passes == {"unmodified": IMAGES, "any": IMAGES}
    assert looks[-1].stopped == [("any", "undecided")]


def test_a_control_that_is_the_same_cut_takes_no_verdict_away() -> None:
    cuts = {"most": 0.7, "some": 0.1, "little": 0.01}
    _, seen, store = raced(cuts, 0.05)
    variants = [variant(name) for name in cuts]
    draws = [replace(one, name="draw", factors={"control_of": "most"}) for one in variants]
    results = store.results([UNMODIFIED, *draws, *variants, *draws])
    looks, asked = Looks((40, 80, 160, 240), 3), Statistics(resamples=200, margin=0.05)
    changes = compare_raced(TRUTH, results, looks, asked).changes
    verdicts = [one["AP"].verdict for one in changes]
    told = {name: what for look in seen for name, what in look.stopped}
    assert [one and one.outcome for one in verdicts] == [None] * 3 + [
        told[name] for name in cuts
    ] + [None] * 3
    assert [one["AP"].p_adjusted is None for one in changes] == [True] * 3 + [False] * 3 + [
        True
    ] * 3


@pytest.mark.parametrize("futility", [0.0, 0.5])
@pytest.mark.parametrize("margin", [0.02, 0.05])
def test_the_report_comes_to_what_the_race_came_to(margin: float, futility: float) -> None:
    cuts = {"most": 0.7, "half": 0.5, "some": 0.1, "it": 0.06, "little": 0.01}
    _, seen, store = raced(cuts, margin, futility)
    results = store.results([UNMODIFIED, *map(variant, cuts)])
    looks = Looks((40, 80, 160, 240), len(cuts), futility)
    asked = Statistics(resamples=200, margin=margin)
    found = [one["AP"].verdict for one in compare_raced(TRUTH, results, looks, asked).changes]
    told = {name: what for look in seen for name, what in look.stopped}
    assert {name: one and one.outcome for name, one in zip(cuts, found, strict=True)} == told


def recipe(**more: Any) -> SweepRecipe:
    given = {
        "model": {"checkpoint": "builtin:shapes_tiny"},
        "data": {"kind": "shapes", "limit": 48},
        "ablations": [
            {"kind": "modules", "pattern": ["neck.inputs", "neck.keep", "decoder.layers.0.norm2"]}
        ],
        "evaluation": {"resamples": 50, "batch_size": 12, "margin": 0.02},
        "race": {"first": 20, "growth": 2},
    }
    return SweepRecipe.model_validate({**given, **more})


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "about.json"
    }


def test_a_race_that_was_killed_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole = run_sweep.run(recipe(), tmp_path / "whole")
    kept = files(tmp_path / "whole")
    table = write_sweep_report(whole.ledger).table
    seen = {one.name: one.images for one in whole.ledger.results()}
    assert seen["neck.inputs"] == 24
    assert seen["unmodified"] == 48
    assert table.header[:2] == ("variant", "stopped at")
    assert dict(row[:2] for row in table.rows)["neck.inputs"] == "24"
    for kills in (70, 110):  # within the first stretch, and after the first look
        folder = tmp_path / str(kills)
        count = [0]

        def advance(name: str, images: int, count: list[int] = count, kills: int = kills) -> None:
            count[0] += images
            if count[0] > kills:
                raise KilledError

        with pytest.raises(KilledError):
            run_sweep.run(recipe(), folder, progress=Progress(advance=advance))
        assert not (folder / "study.json").exists()
        run_sweep.run(recipe(), folder)
        assert files(folder) == kept

    changes = (tmp_path / "whole/report/changes.csv").read_text().splitlines()
    assert changes[0].startswith("variant,kind,control,metric,images,")
    page = (tmp_path / "whole/report/report.html").read_text()
    assert "looks at 24, 48 images" in page
    long = long_table(whole.ledger)
    of_image = long[(long["variant"] == "neck.inputs") & long["image_id"].notna()]
    assert of_image["image_id"].nunique() == 24
    noted = json.loads((tmp_path / "whole/study.json").read_text())["race"]
    assert noted == {"images": [24, 48], "variants": 3, "futility": 0.2, "order": 0}
    assert len(images_of(whole.ledger)) == 48
    with pytest.raises(UserError, match=r"is a race, .* no --adjust"):
        report(tmp_path / "whole", examples=0, adjust="fdr")
    with pytest.raises(UserError, match="another race"):
        run_sweep.run(recipe(race={"first": 30}), tmp_path / "whole")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"evaluation": {"adjust": "fdr"}}, "adjust must be family"),
        (
            {"ablations": [{"kind": "heads-greedy", "pattern": "decoder.layers.*.self_attn"}]},
            "heads-greedy is a search",
        ),
        (
            {
                "ablations": [
                    {"kind": "heads", "pattern": "decoder.layers.*.self_attn"},
                    {"kind": "ranked"},
                ]
            },
            "needs the numbers of all",
        ),
    ],
)
def test_what_a_race_cannot_decide(tmp_path: Path, more: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        run_sweep.run(recipe(**more), tmp_path / "run")
