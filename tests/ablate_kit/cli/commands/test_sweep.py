"""``ablate sweep`` and ``ablate report``: same bytes after any interruption, and clear refusals."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.reports.results_schema import ResultsFile
from ablate_kit.sweeps.run_folder.ledger import Ledger
from detector.disk.sealed import unsealed
from tests.ablate_kit.cli.conftest import edited, small_recipe
from tests.ablate_kit.conftest import Ablate, Run
from tests.ablate_kit.run_files import contents
from tests.hybrid_file import reweighted

ABLATIONS = [
    {"kind": "heads", "pattern": "decoder.layers.0.self_attn"},
    {"kind": "layers", "base": "decoder.layers", "part": "cross_attn"},
    {"kind": "units", "pattern": "heads.main", "percent": [20, 40], "null_cuts": 2},
    {"kind": "scale", "pattern": "decoder.layers.0.ffn", "factors": [0.5]},
    {"kind": "noise", "pattern": "heads", "percent": [5]},
    {"kind": "heads-cumulative", "pattern": "decoder.layers.*.self_attn", "steps": 2},
    {"kind": "modules", "pattern": ["backbone.stem"]},
]

SELF, CROSS = "decoder.layers.0.self_attn", "decoder.layers.{}.cross_attn"
PICTURES = {  # what each says, among other things
    "ranking": [
        *(f"{SELF}-head{head}" for head in range(4)),
        *(CROSS.format(layers) for layers in ("0", "0-1", "0-2")),
        "heads.main-20pct-r0", "heads.main-40pct-r0", "decoder.layers.0.ffn-x0.5",
        "heads-noise5pct-r0", "decoder.layers.all.self_attn-6of12-r0",
        "decoder.layers.all.self_attn-12of12-r0", "backbone.stem",
    ],
    "heads": [SELF, "0", "1", "2", "3", "head"],
    "percentages": ["heads.main", "share cut, %", "AP", "F1", "GIoU"],
    "cumulative": ["decoder.layers.all.self_attn", "heads removed", "AP", "F1", "GIoU"],
    "layers": [CROSS.format("*"), "layers without it", "AP", "F1", "GIoU"],
    "queries": [f"query {number}" for number in range(12)],
    "boxes": [f"{SELF}-head0", CROSS.format("0"), "heads-noise5pct-r0", "backbone.stem"],
}  # fmt: skip


def texts(picture: Path) -> list[str]:
    """Matplotlib draws letters as curves, and says beside them what they spell."""
    return re.findall(r"<!-- (.*?) -->", picture.read_text())


@pytest.fixture
def recipe(recipe: Path) -> Path:
    with edited(recipe) as values:
        values["ablations"] = ABLATIONS
        values["evaluation"]["batch_size"] = 2
    return recipe


class Finished(NamedTuple):
    """A run of the recipe, which several tests read, and what it printed."""

    folder: Path
    out: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, hybrid: Path) -> Finished:
    place = tmp_path_factory.mktemp("finished")
    path = small_recipe(place / "small.yaml", hybrid)
    with edited(path) as values:
        values["ablations"] = ABLATIONS
        values["evaluation"]["batch_size"] = 2
    command = [sys.executable, "-m", "ablate_kit", "sweep", path, "-o", place / "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Finished(place / "run", done.stdout)


@pytest.mark.usefixtures("drawn")
def test_a_sweep_and_its_report(
    run: Run, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = finished
    assert out.splitlines()[0].endswith(f"3 images: {folder}")
    assert "heads.main-20pct-r0-control0" in out
    report = folder / "report"
    page = (report / "report.html").read_text()
    assert "<svg" in page
    assert "e3b0c442" not in page  # the digest of nothing
    for name, told in {
        "framework": "hybrid",
        "configuration": "none but what is in the checkpoint",
        "weights": "those at the top level of the checkpoint",
    }.items():
        assert f'<tr><td>{name}</td><td class="text">{told}</td></tr>' in page
    assert not any(word in page for word in ('src="http', 'href="http', "<script", "@import"))
    for name, labels in PICTURES.items():
        drawn = np.asarray(Image.open(report / f"{name}.png").convert("L"))
        assert 0.005 < (drawn < 200).mean() < 0.5, name
        assert set(labels) <= set(texts(report / f"{name}.svg")), name
        assert f'id="{name}"' in page
    # From the best change down to the worst, as a bar is drawn for each.
    ranked = [one for one in texts(report / "ranking.svg") if one in PICTURES["ranking"]]
    assert len(ranked) == len(PICTURES["ranking"]) == len(set(ranked))
    rows = list(csv.DictReader((report / "changes.csv").read_text().splitlines()))
    ResultsFile.model_validate_json((report / "results.json").read_text())
    document = json.loads((report / "results.json").read_text())
    assert document["run"]["model"] == "hybrid"
    assert [one["role"] for one in document["run"]["sources"]] == ["checkpoint", "data"]
    numbers = document["variants"]
    gains = [numbers[one]["overall"]["AP"] for one in ranked]
    assert gains in (sorted(gains), sorted(gains, reverse=True))
    assert {row["variant"] for row in rows} == numbers.keys() - {"unmodified"}
    row = next(row for row in rows if row["metric"] == "AP")
    change = numbers[row["variant"]]["overall"]["AP"] - numbers["unmodified"]["overall"]["AP"]
    assert float(row["change"]) == pytest.approx(change, abs=1e-12)
    against = {row["variant"]: row["against"] for row in csv.DictReader(
        (report / "repeats.csv").read_text().splitlines())}  # fmt: skip
    assert against == dict.fromkeys(
        ("heads.main-20pct-r0", "heads.main-40pct-r0"), "random controls"
    )
    assert f"random controls: {report / 'repeats.md'}" in out
    assert (report / "table.tex").read_text().count(r"\toprule") == 1
    moved = list(csv.DictReader((report / "displacement.csv").read_text().splitlines()))
    assert [one["variant"] for one in moved] == list(numbers)[1:]
    assert "<h2>Repeats and chance</h2>" in page
    assert not (folder / "partial").exists()
    before = contents(folder)
    # What is imported by now has made none of these numbers.
    monkeypatch.setitem(sys.modules, "mmdet", ModuleType("mmdet"))
    again = run("report", folder)
    assert again.splitlines()[:5] == out.splitlines()[1:6]
    assert contents(folder) == before
    loose = run("report", folder, "--margin", 0.5, "--examples", 0)
    assert "margin 0.5 in this report alone; the run's is 0.01, which the next has" in loose
    assert "alone" not in run("report", folder)
    assert contents(folder) == before


def test_parquet_files_hold_what_the_csv_files_do(finished: Finished) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for path in sorted((finished.folder / "report").glob("*.parquet")):
        rows = parquet.read_table(path).to_pylist()
        told = list(csv.DictReader(path.with_suffix(".csv").read_text().splitlines()))
        assert rows
        assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == told


def test_images_of_a_recipe_may_belong_together_and_a_run_be_judged_anew(
    run: Run, refuse: Run, recipe: Path, tmp_path: Path
) -> None:
    with edited(recipe) as values:
        values["ablations"] = [{"kind": "modules", "pattern": ["backbone.stem"]}]
        values["evaluation"] |= {"cluster": "videos.csv", "margin": 0.02}
    names = [f"shapes-1-1-00000{i}" for i in range(3)]
    clusters = recipe.with_name("videos.csv")  # a recipe's files are found from its folder
    clusters.write_text(f"{names[0]},a\n{names[1]},b\n{names[2]},a\n")
    out = run("sweep", recipe, "-o", tmp_path / "run")
    assert "3 images in 2 clusters" in out
    document = json.loads((tmp_path / "run" / "report" / "results.json").read_text())
    assert document["statistics"] == {
        "resamples": 20, "seed": 0, "margin": 0.02, "adjust": "family", "cluster": str(clusters)
    }  # fmt: skip
    assert document["variants"]["unmodified"]["counts"]["clusters"] == 2
    run("report", tmp_path / "run", "--margin", 0.3, "--adjust", "fdr", "--top", 1)
    document = json.loads((tmp_path / "run" / "report" / "results.json").read_text())
    assert (document["statistics"]["margin"], document["statistics"]["adjust"]) == (0.3, "fdr")
    clusters.write_text(f"{names[0]},a\n{names[1]},a\n{names[2]},b\n")
    assert "is a sweep of other clusters" in refuse("sweep", recipe, "-o", tmp_path / "run")


def test_photographs_are_left_out_on_request_and_when_they_are_gone(
    run: Run, recipe: Path, tmp_path: Path, repository: Path
) -> None:
    trained = repository / "detector" / "zoo" / "shapes_tiny" / "model.safetensors"
    with edited(recipe) as values:
        values["model"] = {"checkpoint": str(trained)}
        values["ablations"] = [{"kind": "component", "pattern": ["encoder"]}]
    run("sweep", recipe, "-o", tmp_path / "run")
    report = tmp_path / "run" / "report"
    page = (report / "report.html").read_text()
    (row,) = csv.DictReader((report / "examples.csv").read_text().splitlines())
    assert (report / row["picture"]).read_bytes()[:2] == b"\xff\xd8"  # a JPEG file
    assert int(row["lost"]) > 0
    assert row["file_name"] in page
    assert page.count('src="data:image/jpeg') == 1
    study = tmp_path / "run" / "study.json"
    run("report", tmp_path / "run", "--examples", "0")
    assert not list(report.glob("example*"))
    assert 'id="ranking"' in (report / "report.html").read_text()
    values = unsealed(json.loads(study.read_text()))  # as earlier versions wrote it
    values["data"] = {"kind": "coco", "annotations": "gone.json", "images": "gone"}
    study.write_text(json.dumps(values))
    command = [sys.executable, "-m", "ablate_kit", "report", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "note: no photographs in the report: " in done.stderr
    assert "gone: no such folder" in done.stderr
    assert not list(report.glob("example*"))


def test_images_that_are_others_by_now_are_in_no_report(
    ablate: Ablate, recipe: Path, coco: tuple[Path, Path], tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(coco[1], images)
    with edited(recipe) as values:
        values["data"] = {"kind": "coco", "annotations": str(coco[0]), "images": str(images)}
        values["ablations"] = [{"kind": "modules", "pattern": ["backbone.stem"]}]
    folder = tmp_path / "run"
    assert ablate("sweep", recipe, "-o", folder).code == 0
    first, second, _ = sorted(images.glob("*.png"))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    told = "the images have changed since the sweep"
    assert f"no photographs in the report: {told}" in ablate("report", folder).err
    exported = ablate("export", folder, "-o", tmp_path / "exported")
    assert f"images without file names: {told}" in exported.err
    first.unlink()
    done = ablate("report", folder)
    assert f"no photographs in the report: {first}: image file is missing" in done.err
    assert done.code == 0
    first.write_bytes(kept)
    assert "photographs" not in ablate("report", folder).err


def test_images_are_found_from_another_folder_and_where_all_was_moved_together(
    ablate: Ablate,
    recipe: Path,
    coco: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, moved = (tmp_path / name for name in ("first", "second", "moved"))
    shutil.copytree(coco[1], first / "images")
    shutil.copy(coco[0], first / "boxes.json")
    second.mkdir()
    monkeypatch.chdir(first)
    data = ("--annotations", "boxes.json", "--images", "images", "-o", "run")
    words = ("sweep", "builtin:shapes_tiny", "--modules", "backbone.stem", *data)
    assert ablate(*words).code == 0
    monkeypatch.chdir(second)
    assert "photographs" not in ablate("report", "../first/run").err
    first.rename(moved)
    gone = f"no photographs in the report: {first / 'images'}: no such folder"
    assert gone in ablate("report", "../moved/run").err
    monkeypatch.chdir(moved)
    assert "photographs" not in ablate("report", "run").err


def test_the_report_says_what_ran_in_full(run: Run, recipe: Path, tmp_path: Path) -> None:
    with edited(recipe) as values:
        values["ablations"] = ABLATIONS[:1]
    run("sweep", recipe, "-o", tmp_path / "run", "--memory", "0")
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert "variants run in full: what they would replay takes more than 0 MiB" in page


@pytest.mark.usefixtures("drawn")
def test_replay_changes_no_byte(run: Run, recipe: Path, tmp_path: Path, finished: Finished) -> None:
    run("sweep", recipe, "-o", tmp_path / "full", "--no-replay")
    assert contents(tmp_path / "full") == contents(finished.folder)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Ablation | None]:
    """Filled with what is run from now on."""
    seen: list[Ablation | None] = []
    finish = Ledger.finish
    monkeypatch.setattr(
        Ledger,
        "finish",
        lambda self, variant, *rest: (seen.append(variant.ablation), finish(self, variant, *rest)),
    )
    return seen


def test_finished_variants_are_not_run_again(
    run: Run, recipe: Path, tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished.folder, tmp_path / "run")
    seen = watched(monkeypatch)
    with edited(recipe) as values:
        values["ablations"].append({"kind": "component", "pattern": ["encoder"]})
    out = run("sweep", recipe, "-o", tmp_path / "run")
    assert [one.name for one in seen if one] == ["encoder"]
    assert len(seen) == 1
    assert out.count("\nencoder ") == 1


def test_variants_are_written_where_a_file_can_hold_them(
    run: Run, refuse: Run, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with edited(recipe) as values:
        values["ablations"] = [
            {"kind": "heads-mean", "pattern": SELF, "heads": [1], "images": 2},
            {"kind": "queries", "queries": [3, 4]},
            {"kind": "queries", "queries": [3], "how": "zero"},
            {"kind": "scale", "pattern": "neck", "factors": [0.5]},
        ]
    copies = tmp_path / "copies"
    dry = run("sweep", recipe, "-o", tmp_path / "run", "--write", copies, "--dry-run")
    assert f"2 changed copies would be written to {copies}" in dry
    assert not copies.exists()
    out = run("sweep", recipe, "-o", tmp_path / "run", "--write", copies)
    assert f"2 changed copies written to {copies}" in out
    names = ["decoder.layers.0.self_attn-head1-mean", "query3-zero"]
    assert set(contents(copies)) == {f"{name}.safetensors" for name in names}
    for name in names:
        assert "original   ok" in run("verify", copies / f"{name}.safetensors")
    before = contents(copies)
    (copies / "query3-zero.safetensors").unlink()
    again = run("sweep", recipe, "-o", tmp_path / "run", "--write", copies)
    assert f"1 changed copy written to {copies}, 1 were there" in again
    assert contents(copies) == before
    values["ablations"][2]["queries"] = [5]
    values["ablations"][2]["pattern"] = "queries.content"
    recipe.write_text(yaml.safe_dump(values))
    (copies / "query3-zero.safetensors").rename(copies / "query5-zero.safetensors")
    assert "is another variant" in refuse("sweep", recipe, "--write", copies)
    values["ablations"][2:] = [{"kind": "queries", "queries": [3], "how": "zero"}]
    values["model"]["checkpoint"] = str(
        copies / "decoder.layers.0.self_attn-head1-mean.safetensors"
    )
    (copies / "query5-zero.safetensors").rename(copies / "query3-zero.safetensors")
    del values["ablations"][0]
    recipe.write_text(yaml.safe_dump(values))
    assert "from another checkpoint" in refuse("sweep", recipe, "--write", copies)


def test_copies_that_spare_an_equal_tensor_are_told(
    ablate: Ablate, recipe: Path, tmp_path: Path
) -> None:
    weight = "decoder.layers.0.ffn.fc1.weight"
    twin = weight.replace("layers.0", "layers.1")
    twins = tmp_path / "twins.safetensors"
    with edited(recipe) as values:
        values["ablations"] = [{"kind": "modules", "pattern": ["decoder.layers.0.ffn"]}]
        with reweighted(Path(values["model"]["checkpoint"]), twins) as tensors:
            tensors[twin] = tensors[weight].clone()
        values["model"]["checkpoint"] = str(twins)
    done = ablate("sweep", recipe, "--write", tmp_path / "copies", "--dry-run")
    assert f"{weight} has equal copies that are not cut with it: {twin}" in done.err


def test_a_greedy_search_tries_every_head_that_is_left(
    run: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"kind": "heads-greedy", "pattern": SELF, "steps": 2, "metric": "giou_penalized",
            "null_cuts": 1}  # fmt: skip
    with edited(recipe) as values:
        values["ablations"] = [rule]
    assert "2 rounds, 7 variants" in run("sweep", recipe, "--dry-run")
    out = run("sweep", recipe, "-o", tmp_path / "run", "--write", tmp_path / "copies")
    assert out.startswith("7 variants chosen on the way on ")
    label = "decoder.layers.0.self_attn-greedy"
    assert {path.stem for path in tmp_path.glob("copies/*.safetensors")} == {
        f"{label}-{name}" for name in ("1of4-r0", "2of4-r0", "1of4-r0-control0", "2of4-r0-control0")
    }
    rows = map(json.loads, (tmp_path / "run" / "ledger.jsonl").read_text().splitlines())
    entries = [
        (row["ablation"]["name"], row["evaluation"]["overall"]["giou_penalized"])
        for row in rows
        if row["ablation"] and row["ablation"]["kind"] != "control"
    ]
    first, second = entries[:4], entries[4:7]
    assert [name for name, _ in first] == [f"{label}-1of4-try{i}" for i in range(4)]
    best = max(first, key=lambda one: one[1])
    gone = int(best[0][-1])
    assert [name for name, _ in second] == [f"{label}-2of4-try{i}" for i in range(4) if i != gone]
    assert f"1  decoder.layers.0.self_attn head {gone}  {best[1]:.4f}" in out
    shown = [line.split()[0] for line in out.splitlines() if line.startswith(label)]
    assert shown == [f"{label}-{end}" for end in ("1of4-r0", "1of4-r0-control0", "2of4-r0",
                                                  "2of4-r0-control0")]  # fmt: skip
    # Again, after the end or a kill between the rounds: nothing is run twice.
    before = contents(tmp_path / "run")
    ledger = tmp_path / "run" / "ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:6]))
    seen = watched(monkeypatch)
    again = run("sweep", recipe, "-o", tmp_path / "run")
    assert "resuming: 5 of 7 variants chosen on the way are done" in again
    assert again.splitlines()[-8:] == out.splitlines()[-8:]
    assert len(seen) == 4
    assert contents(tmp_path / "run") == before


def test_a_cluster_without_ray_is_told_before_anything_is_written(
    refuse: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    assert 'install "ablate-kit[ray]"' in refuse(
        "sweep", recipe, "-o", tmp_path / "run", "--ray", "auto")  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_the_plan_is_printed_without_running(run: Run, recipe: Path, tmp_path: Path) -> None:
    out = run("sweep", recipe, "-o", tmp_path / "run", "--dry-run")
    lines = {line.split()[0]: line for line in out.splitlines()}
    late, early = lines["decoder.layers.0-1.cross_attn"], lines["backbone.stem"]
    assert "decoder.layers.1.cross_attn" in late.split()[1]
    assert "decoder.layers.0.cross_attn" in late.split()[2]
    assert float(late.split()[-1].rstrip("%")) < 50 < float(early.split()[-1].rstrip("%"))
    assert "of running all in full" in out.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_changed_inputs_are_refused(run: Run, refuse: Run, recipe: Path, tmp_path: Path) -> None:
    with edited(recipe) as values:
        values["ablations"] = ABLATIONS[1:2]
    run("sweep", recipe, "-o", tmp_path / "run")
    before = contents(tmp_path / "run")
    for words, expected in (
        (("--set", "data.limit=2"), "is a sweep of other images or annotations"),
        (("--batch-size", 3), "is a sweep of another batch size (2, now 3)"),
        (("--max-detections", 50), "is a sweep of another limit of detections"),
        (("--score-threshold", 0.3), "is a sweep of another score threshold"),
    ):
        assert expected in refuse("sweep", recipe, "-o", tmp_path / "run", *words)
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ablations": [{"kind": "head", "pattern": "x"}]}, 'kind is "head"; expected heads'),
        ({"ablations": [{"pattern": "x"}]}, "ablations.0: kind is missing; expected heads, "),
        ({"ablations": [{"kind": "heads", "patern": "x", "pattern": "y"}]},
         'unknown key "ablations.0.patern"; did you mean "pattern"?'),
        ({"ablations": []}, "ablations: list should have at least 1 item"),
        ({"evaluation": {"resample": 3}}, 'did you mean "resamples"?'),
        ({"data": {"kind": "coco"}}, "data.annotations is not set"),
        ({"data": {"kind": "coco", "split": "2007:test"}}, 'unknown key "data.split"'),
        ({"data": {"kind": "shapes", "shapes": 6}}, 'unknown key "data.shapes"'),  # as its kind
        ({"data": {"kind": "shapes", "exif": "apply"}}, 'unknown key "data.exif"'),
        ({"ablations": [{"kind": "component", "pattern": ["neck"], "null_cuts": 1}]},
         "neck changes whole tensors"),
        ({"ablations": [{"kind": "component", "pattern": ["neck"], "name": "unmodified"}]},
         'an ablation is named "unmodified", as the model that all are compared with'),
        ({"ablations": [{"kind": "modules", "pattern": ["decoder.**"]}]}, "end it with their"),
        ({"ablations": [{"kind": "noise", "pattern": "neck", "percent": [0]}]},
         "expected more than 0"),
        ({"ablations": [{"kind": "noise", "pattern": "neck", "percent": [math.nan]}]},
         "ablations.0.percent.0: input should be a finite number"),
        ({"ablations": [{"kind": "scale", "pattern": "neck", "factors": [1, -math.inf]}]},
         "ablations.0.factors.1: input should be a finite number"),
        # What would do nothing.
        ({"ablations": [{"kind": "channels", "pattern": ["decoder.layers.0.ffn.fc1"],
                         "images": 2}]}, "images go with to: mean"),
        ({"ablations": [{"kind": "heads-retained", "pattern": "decoder.layers.0.self_attn",
                         "seed": 7}]}, "seed go with keep"),
        ({"ablations": [{"kind": "heads", "pattern": "decoder.layers.0.self_attn"}],
          "reference": {"kind": "shapes", "limit": 2}}, "no line takes a mean"),
        (
            {"ablations": [{"kind": "heads-cumulative", "pattern": "decoder.layers.0.self_attn",
                            "steps": 90}]},
            "give fewer",
        ),
        (
            {"ablations": [{"kind": "heads-greedy", "pattern": "decoder.layers.0.self_attn",
                            "steps": 5}]},
            "5 steps for the 4 heads of decoder.layers.0.self_attn; give fewer",
        ),
    ],
)  # fmt: skip
def test_recipes_are_checked(
    refuse: Run, recipe: Path, tmp_path: Path, change: dict[str, object], expected: str
) -> None:
    with edited(recipe) as values:
        values |= change
    assert expected in refuse("sweep", recipe, "-o", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_shipped_recipes_are_recipes(repository: Path) -> None:
    from ablate_kit.sweeps.recipes.sweep_recipe import load_sweep

    paths = sorted((repository / "recipes" / "sweep").glob("*.yaml"))
    assert len(paths) >= 4
    for path in paths:
        assert load_sweep(path).ablations


def test_images_that_are_copies_are_told(
    ablate: Ablate, hybrid: Path, coco: tuple[Path, Path], tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    one, other = sorted(coco[1].glob("*.png"))[:2]
    for name, source in {"a": one, "b": other, "c": one, "d": one}.items():
        (photos / f"{name}.png").write_bytes(source.read_bytes())
    options = ("sweep", hybrid, "--modules", "encoder", "--images", photos, "--score-threshold", 0)
    told = "2 of 4 images are the same files as others"
    assert told in ablate(*options, "-o", tmp_path / "run").err
    assert told in (tmp_path / "run" / "report" / "report.html").read_text()
    assert "the same files" not in ablate(*options, "--cluster", "(.)", "-o", tmp_path / "two").err
    (photos / "c.png").unlink()
    (photos / "d.png").unlink()
    assert "the same files" not in ablate(*options, "-o", tmp_path / "other").err
