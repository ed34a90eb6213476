"""``--margin``, ``--adjust``, ``--cluster`` and ``--top``, as a user gives them."""

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import false_discovery_control

from ablate_kit.reports.results_schema import schema
from tests.ablate_kit.conftest import Run

VIDEOS, FRAMES = 6, 8


@pytest.fixture
def videos(tmp_path: Path) -> tuple[Path, list[Path]]:
    """Frames of videos, each with an object; detectors that miss it in whole videos."""
    frames = [(video, frame) for video in range(VIDEOS) for frame in range(FRAMES)]
    box = {"bbox": [1, 1, 20, 20], "category_id": 1}
    truth = {
        "images": [
            {"id": i, "file_name": f"video{video}_{frame:03}.jpg", "width": 40, "height": 30}
            for i, (video, frame) in enumerate(frames)
        ],
        "annotations": [
            {"id": i, "image_id": i, "area": 400, "iscrowd": 0, **box} for i in range(len(frames))
        ],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    dumps = []
    for name, missed in (("all", ()), ("most", (2,)), ("some", (0, 1, 4)), ("same", ())):
        found = [
            {"image_id": i, "score": 0.9, **box}
            for i, (video, _) in enumerate(frames)
            if video not in missed
        ]
        dumps.append(tmp_path / f"{name}.json")
        dumps[-1].write_text(json.dumps(found))
    return tmp_path / "truth.json", dumps


def scored(run: Run, videos: tuple[Path, list[Path]], *options: object) -> dict[str, Any]:
    annotations, dumps = videos
    printed = run("score", *dumps, "--annotations", annotations, *options, "--json")
    found: dict[str, Any] = json.loads(printed)
    return found


def ap(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["variants"][name]["changes"]["AP"]
    return found


def test_the_margin_says_what_is_free(run: Run, videos: tuple[Path, list[Path]]) -> None:
    strict, loose = scored(run, videos), scored(run, videos, "--margin", 0.9)
    assert ap(strict, "some")["verdict"] == "costs"
    assert [ap(loose, name)["verdict"] for name in ("most", "some", "same")] == ["free"] * 3
    assert loose["statistics"]["margin"] == 0.9
    assert loose["answer"].startswith(
        "of 3 compared with all, at a margin of 0.9 AP: 0 worse, 3 as"
    )


def test_videos_tell_less_than_their_frames(run: Run, videos: tuple[Path, list[Path]]) -> None:
    apart = scored(run, videos)
    together = scored(run, videos, "--cluster", r"(video\d+)_")
    assert together["variants"]["all"]["counts"]["clusters"] == VIDEOS
    assert together["statistics"]["cluster"] == r"(video\d+)_"
    assert ap(together, "some")["change"] == ap(apart, "some")["change"]
    assert ap(together, "some")["error"] > 2 * ap(apart, "some")["error"]
    annotations, dumps = videos
    printed = run("score", *dumps, "--annotations", annotations, "--cluster", r"(video\d+)_")
    assert f"48 images in {VIDEOS} clusters, 48 objects" in printed
    assert "are of changes, over clusters; " in printed
    assert "are rough on fewer than 30 clusters" in printed
    names = annotations.with_name("videos.csv")
    rows = [f"video{i // FRAMES}_{i % FRAMES:03}.jpg,{i // FRAMES}" for i in range(48)]
    names.write_text("\n".join(["file,cluster", *rows]))
    assert ap(scored(run, videos, "--cluster", names), "some") == ap(together, "some")


def test_false_discoveries_are_adjusted_for_otherwise(
    run: Run, videos: tuple[Path, list[Path]]
) -> None:
    family, rate = scored(run, videos), scored(run, videos, "--adjust", "fdr")
    assert rate["statistics"]["adjust"] == "fdr"
    assert ap(rate, "most")["p"] == ap(family, "most")["p"]
    names = ("most", "some", "same")
    expected = false_discovery_control([ap(rate, name)["p"] for name in names])
    assert [ap(rate, name)["p_adjusted"] for name in names] == pytest.approx(expected)
    annotations, dumps = videos
    printed = run("score", *dumps, "--annotations", annotations, "--adjust", "fdr")
    assert "adjusted (false discovery rate) for 3 variants" in printed


def test_only_the_best_rows_are_printed(
    run: Run, videos: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    annotations, dumps = videos
    report = tmp_path / "report"
    command = ("score", *dumps, "--annotations", annotations, "--top", 1, "-o", report)
    printed = run(*command).split("\n\n")[0]
    rows = [line.split()[0] for line in printed.splitlines() if line.split()[0] in "all most same"]
    assert rows == ["all", "same"]
    assert "the 1 of 3 with the highest AP" in printed
    assert len((report / "table.csv").read_text().splitlines()) == 5


def test_what_no_option_is_is_refused(
    run: Run, refuse: Run, videos: tuple[Path, list[Path]]
) -> None:
    annotations, dumps = videos
    command = ("score", *dumps[:2], "--annotations", annotations)
    assert 'cannot adjust by "fdrr"; expected family or fdr; did you mean "fdr"?' in refuse(
        *command, "--adjust", "fdrr"
    )
    assert "has no group to name a cluster by" in refuse(*command, "--cluster", "video")
    assert "is not found in 48 of 48 file names" in refuse(*command, "--cluster", "(film)")
    assert "no file of clusters" in refuse(*command, "--cluster", "nowhere.csv")
    assert "--margin" in refuse(*command, "--margin", 2)


def test_the_schema_is_printed(run: Run) -> None:
    assert json.loads(run("schema")) == schema()
