"""Studies of retrained arms: their recipes, their ledger, their statistics, and one end to end."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import Evaluation, Thresholds, evaluate
from ablate_kit.metrics.stored import save_npz
from ablate_kit.retraining.other_images import over_images
from ablate_kit.retraining.retrain_recipe import load_retraining
from ablate_kit.retraining.retrain_report import FILES, write_report
from ablate_kit.retraining.runs import DETECTIONS, RunResult, finished, retrain_all
from ablate_kit.retraining.summary import Difference, by_arm, class_table, difference, summary_table
from ablate_kit.shipped import recipe_file
from detector.data.shapes import Shapes
from detector.data.synthetic.layout import Figure
from detector.disk.sealed import unsealed
from detector.network.model import HybridDetector
from tests.ablate_kit.conftest import Run
from tests.ablate_kit.made_up import truth_of
from tests.hybrid_file import save_hybrid
from tests.small_runs import SMALL, Silent, coco_files

BASE = {
    "model": SMALL | {"queries": 6},
    "data": {"kind": "shapes", "train": 4, "val": 2},
    "training": {"epochs": 1, "batch_size": 4, "lr": 0.001},
}  # fmt: skip
STUDY = {
    "base": "base.yaml",
    "seeds": [1, 2],
    "arms": [{"name": "baseline"}, {"name": "no-csi", "set": {"model.csi": False}}],
}


def study_file(folder: Path, **changes: Any) -> Path:
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | changes))
    return path


def test_runs_are_arms_times_seeds_with_a_key_each(tmp_path: Path) -> None:
    _, runs = load_retraining(study_file(tmp_path))
    names = [run.name for run in runs]
    assert names == ["baseline-seed1", "no-csi-seed1", "baseline-seed2", "no-csi-seed2"]
    assert len({run.key for run in runs}) == 4
    assert [run.recipe.training.seed for run in runs] == [1, 1, 2, 2]
    assert runs[1].recipe.model["csi"] is False


def test_a_study_of_a_shipped_recipe(tmp_path: Path) -> None:
    _, runs = load_retraining(study_file(tmp_path, base="builtin:shapes_tiny"))
    assert runs[0].recipe.model["d_model"] == 48
    with pytest.raises(UserError, match='no built-in recipe "shapes_tyny"; did you mean'):
        load_retraining(study_file(tmp_path, base="builtin:shapes_tyny"))


def test_a_shipped_study_takes_what_is_pretrained_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = recipe_file(Path("builtin:pretrained_shapes"), "retrain")
    made = Path("runs/pretrain/shapes_tiny/pretrained_backbone_neck.safetensors")
    with pytest.raises(UserError, match=f"arm pretrained: no file {made}"):
        load_retraining(recipe)
    made.parent.mkdir(parents=True)
    made.write_bytes(b"weights")
    _, runs = load_retraining(recipe)
    assert {run.pretrained for run in runs} == {None, made}
    # Of a recipe of one's own it is beside the recipe, wherever the command runs.
    own = study_file(tmp_path / "runs", arms=[{"name": "pretrained", "pretrained": str(made)}])
    with pytest.raises(UserError, match=f"no file {own.parent / made}"):
        load_retraining(own)


def test_overrides_change_the_study_or_every_arm(tmp_path: Path) -> None:
    path = study_file(tmp_path)
    _, before = load_retraining(path)
    _, runs = load_retraining(path, ["seeds=[7]", "training.lr=0.5"])
    assert [run.name for run in runs] == ["baseline-seed7", "no-csi-seed7"]
    assert all(run.recipe.training.lr == 0.5 for run in runs)
    assert runs[0].key != before[0].key
    # How many workers load the images changes no result.
    assert load_retraining(path, ["training.workers=2"])[1][0].key == before[0].key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "seeds: list should have at least 1 item"),
        ({"seeds": [1, 1]}, "two of the seeds are the same"),
        ({"arms": [{"name": "a"}, {"name": "a"}]}, "two of the arms are the same"),
        ({"arms": [{"name": "a/b"}]}, "arms.0.name"),
        ({"armz": []}, 'unknown key "armz"; did you mean "arms"'),
        ({"base": "no.yaml"}, r"arm baseline: no recipe .*no\.yaml"),
        ({"arms": [{"name": "a", "set": {"model.csi": "perhaps"}}]}, "csi is 'perhaps'"),
        ({"arms": [{"name": "a", "set": {"training.seed": 3}}]}, "sets training.seed"),
        ({"arms": [{"name": "a", "pretrained": "none.pth"}]}, r"arm a: no file .*none\.pth"),
        ({"arms": [{"name": "a", "parts": ["neck"]}]}, "parts has no effect without pretrained"),
        ({"arms": [{"name": "a", "parts": []}]}, "arms.0.parts: list should have at least 1 item"),
        ({"weights": "worst"}, "weights: input should be 'last' or 'best'"),
    ],
)
def test_bad_studies_are_refused_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_retraining(study_file(tmp_path, **changes))


def outcome(arm: str, seed: int, ap: float, key: str = "k") -> RunResult:
    overall = {"AP": ap, "AP50": ap, "f1_calibrated": ap, "giou_penalized": None}
    evaluation = Evaluation(
        overall=overall,
        per_class={"cat": {"AP": ap, "support": 3}, "dog": {"AP": None, "support": 0}},
        thresholds=Thresholds(0.5, 0.3, True),
        counts={"images": 2, "ground_truths": 3},
    )
    history = {"epoch": [1.0], "train_loss": [2.0 - ap], "val_mAP_50_95": [ap]}
    return RunResult(arm, seed, key, "d", 2.0, evaluation, history)


def test_differences_are_paired_and_have_students_interval() -> None:
    found = Difference.of([0.3, 0.5, 0.7], [0.2, 0.4, 0.3])
    assert found.mean == pytest.approx(0.2)
    # Differences 0.1, 0.1, 0.4: standard deviation sqrt(0.03); t(0.975, 2) = 4.302653 (tables).
    assert found.half == pytest.approx(4.302653 * 0.03**0.5 / 3**0.5, rel=1e-6)
    assert Difference.of([0.3, 0.5], [0.2, 0.4]).half is None
    nothing = Difference.of([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    assert (nothing.mean, nothing.half, nothing.p) == (0.0, None, None)


def test_the_table_says_what_the_runs_say() -> None:
    scores = {"baseline": (0.2, 0.4, 0.3), "cut": (0.3, 0.5, 0.7)}
    outcomes = [
        outcome(arm, seed, ap) for arm, values in scores.items() for seed, ap in enumerate(values)
    ]
    rows = summary_table(outcomes).rows
    assert rows[0][:4] == ("baseline", "3", "0.3000 ± 0.1000", "")
    assert rows[1][:4] == ("cut", "3", "0.5000 ± 0.2000", "+0.2000 ± 0.4303")
    assert rows[0][8] == "-"  # no GIoU
    classes = class_table(outcomes).rows
    assert [row[:3] for row in classes] == [("cat", "3", "baseline"), ("cat", "3", "cut")]
    assert classes[1][3:] == ("0.5000", "+0.2000 ± 0.4303")


@pytest.mark.parametrize(
    ("cuts", "told"),
    [
        # Differences 0.1, 0.1, 0.4 (p 0.18) and -0.10, -0.11, -0.12 (p 0.0027, twice that by Holm).
        (
            [(0.3, 0.5, 0.7), (0.1, 0.29, 0.18)],
            "1 of 2 arms differs from baseline in AP on these images (paired t test over seeds, "
            "p < 0.05, Holm): arm1 -0.1100 ± 0.0248",
        ),
        (
            [(0.3, 0.5, 0.7)],
            "of none of 1 arm is it shown that its AP on these images differs from that of "
            "baseline",
        ),
        ([(0.3, 0.5)], "no test: that takes arms with 3 seeds or more"),
        ([(0.3, 0.5, 0.4)], "no test"),  # all alike: nothing says what chance does
    ],
)
def test_the_conclusion_says_which_arms_differ(cuts: list[tuple[float, ...]], told: str) -> None:
    arms = [(0.2, 0.4, 0.3), *cuts]
    outcomes = [
        outcome(f"arm{i - 1}" if i else "baseline", seed, ap)
        for i, values in enumerate(arms)
        for seed, ap in enumerate(values)
    ]
    assert summary_table(outcomes).title.startswith(told)


def test_an_arm_that_is_better_on_these_images_alone_is_not_said_to_be_on_others(
    tmp_path: Path,
) -> None:
    """All seeds agree, on a few images that one arm happens to find: on others it may not."""
    truth, found = made_up(24)
    outcomes = []
    for arm, images in (("baseline", 8), ("few", 10), ("most", 20)):
        for seed in range(3):
            # Of the others, and of one of all in every seed, the boxes are elsewhere.
            kept = (found.image < images) | (found.image >= 23 - seed)
            own = replace(found, boxes=found.boxes + np.where(kept, 0, 150)[:, None])
            place = tmp_path / f"runs/{arm}-seed{seed}"
            place.mkdir(parents=True)
            save_npz(place / DETECTIONS, own, truth)
            one = outcome(arm, seed, 0.0)
            outcomes.append(replace(one, evaluation=evaluate(truth, own)))
    others = over_images(tmp_path, outcomes, truth)
    assert list(others) == ["few", "most"]
    for arm, one in others.items():
        seeds = difference(by_arm(outcomes)[arm], by_arm(outcomes)["baseline"], "AP")
        assert seeds is not None
        assert one.change == pytest.approx(seeds.mean)
        assert one.p > (seeds.p or 0)
        assert one.high - one.low > 2 * (seeds.half or 0)
    told = summary_table(outcomes, others).title.splitlines()[0]
    assert "; on other images like these (over seeds and images): most " in told
    assert "few" not in told.partition("; on other images")[2]
    (tmp_path / "runs/most-seed1" / DETECTIONS).unlink()  # fewer than an interval takes
    assert list(over_images(tmp_path, outcomes, truth)) == ["few"]
    few = summary_table(outcomes, {"few": others["few"]}).title.splitlines()[0]
    assert few.endswith("; on other images like these (over seeds and images): none")


def made_up(images: int) -> tuple[GroundTruth, Detections]:
    """Two objects of each of two classes on every image, all of them found."""
    image = np.repeat(np.arange(images), 4)
    boxes = np.tile([[10.0, 10, 40, 40], [60, 60, 90, 90], [10, 60, 40, 90], [60, 10, 90, 40]],
                    (images, 1))  # fmt: skip
    labels = np.tile([0, 0, 1, 1], images)
    truth = truth_of(image, boxes, labels, images=images, classes="ab", side=300)
    return truth, Detections(image, boxes, np.full(len(image), 0.9), labels)


def test_of_a_baseline_that_finds_nothing_no_arm_is_told() -> None:
    outcomes = [outcome(arm, seed, 0.001) for arm in ("a", "b") for seed in range(3)]
    assert summary_table(outcomes).title.startswith("a finds next to nothing (AP 0.0010)")


def test_a_study_is_trained_once_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, runs = load_retraining(study_file(tmp_path, seeds=[1]))
    folder, told = tmp_path / "out", []
    folder.mkdir()

    def tell(run: object, outcome: RunResult, before: bool) -> None:
        told.append((outcome.arm, before))

    first = retrain_all(runs[:1], folder, progress=lambda _: Silent(), tell=tell)
    with (folder / "ledger.jsonl").open("a") as file:
        file.write('{"arm": "no-c')  # killed while it wrote
    outcomes = retrain_all(runs, folder, progress=lambda _: Silent(), tell=tell)
    assert told == [("baseline", False), ("baseline", True), ("no-csi", False)]
    assert outcomes[0] == first[0]
    assert len((folder / "ledger.jsonl").read_text().splitlines()) == 2
    assert (folder / "runs/no-csi-seed1/detections.npz").is_file()
    write_report(outcomes, folder)
    assert all((folder / name).stat().st_size for name in FILES)
    first_line, *_ = (folder / "table.tex").read_text().splitlines()
    assert first_line.startswith(r"% \caption{")
    assert r"; mean $\pm$ standard deviation over seeds" in first_line
    again = retrain_all(runs, folder, progress=lambda _: Silent(), tell=tell)
    assert again == outcomes

    class OneFewer(Shapes):
        """The training images, of which the last shows nothing now."""

        def scene(self, index: int) -> list[Figure]:
            return [] if self._key[1] == 0 and index == 3 else super().scene(index)

    monkeypatch.setattr("detector.training.recipes.data_sections.Shapes", OneFewer)
    with pytest.raises(UserError, match="holds baseline-seed1 with other annotations"):
        retrain_all(runs, folder, progress=lambda _: Silent(), tell=tell)

    _, changed = load_retraining(study_file(tmp_path, seeds=[1]), ["training.lr=0.002"])
    with pytest.raises(UserError, match="holds baseline-seed1 with other settings"):
        finished(folder, changed)


def test_a_study_does_not_go_on_with_other_pixels(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    path = study_file(tmp_path, seeds=[1], set={"training.save_every": 1})
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**BASE, "data": coco_files(files)}))
    _, runs = load_retraining(path)
    folder = tmp_path / "out"
    folder.mkdir()

    def go_on() -> list[RunResult]:
        return retrain_all(runs, folder, progress=lambda _: Silent(), tell=lambda *_: None)

    retrain_all(runs[:1], folder, progress=lambda _: Silent(), tell=lambda *_: None)
    first, second, *_ = sorted(files.glob("*.png"))
    kept = second.read_bytes()
    second.write_bytes(first.read_bytes())
    told = "holds baseline-seed1 with other images"
    with pytest.raises(UserError, match=told):
        go_on()
    ledger = folder / "ledger.jsonl"
    (line,) = ledger.read_text().splitlines()
    ledger.unlink()  # as if it had been killed before the end
    with pytest.raises(UserError, match=told):
        go_on()
    values = unsealed(json.loads(line))
    del values["images"]  # as an earlier version wrote it
    ledger.write_text(json.dumps(values) + "\n")
    second.write_bytes(kept)
    assert [one.images is None for one in go_on()] == [True, False]


def test_a_half_trained_run_of_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    _, runs = load_retraining(study_file(tmp_path, seeds=[1]))
    place = tmp_path / "out/runs/baseline-seed1"
    place.mkdir(parents=True)
    (place / "run.json").write_text(json.dumps({"key": "other"}))
    with pytest.raises(UserError, match="holds baseline-seed1 with other settings"):
        retrain_all(runs, tmp_path / "out", progress=lambda _: Silent(), tell=lambda *_: None)
    (place / "run.json").write_text(json.dumps({"key": runs[0].key, "data": "other"}))
    with pytest.raises(UserError, match="holds baseline-seed1 with other annotations"):
        retrain_all(runs, tmp_path / "out", progress=lambda _: Silent(), tell=lambda *_: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.val": 3}, "^arm other is evaluated on other images or objects than baseline"),
        ({"data.seed": 2}, "^arm other is evaluated on other images or objects than baseline"),
        ({"model.num_classes": 3}, r"^arm other: \S+study.yaml:\d+:\d+: model.num_classes is 3; "),
    ],
)
def test_arms_that_cannot_be_compared_are_refused_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    arms = [{"name": "baseline"}, {"name": "other", "set": changes}]
    _, runs = load_retraining(study_file(tmp_path, seeds=[1], arms=arms))
    with pytest.raises(UserError, match=message):
        retrain_all(runs, tmp_path / "out", progress=lambda _: Silent(), tell=lambda *_: None)
    assert not (tmp_path / "out").exists()


def test_pretrained_files_that_do_not_fit_are_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    given = tmp_path / "given.safetensors"
    given.write_bytes(b"")
    arms = [{"name": "baseline"}, {"name": "pretrained", "pretrained": given.name}]
    _, runs = load_retraining(study_file(tmp_path, seeds=[1], arms=arms))
    smaller = runs[0].recipe.config(["a"]).replace(d_model=16)
    save_hybrid(given, HybridDetector(smaller), ["a"])
    _, runs = load_retraining(tmp_path / "study.yaml")
    with pytest.raises(UserError, match=r"^arm pretrained: \d+ tensors of another shape in"):
        retrain_all(runs, tmp_path / "out", progress=lambda _: Silent(), tell=lambda *_: None)
    assert not (tmp_path / "out").exists()


def test_the_best_weights_are_those_of_this_run_and_the_seconds_those_of_all_its_parts(
    tmp_path: Path,
) -> None:
    changes = {"training.ema": 0.5, "training.epochs": 2}
    _, runs = load_retraining(study_file(tmp_path, weights="best", set=changes))
    for run in runs[0], runs[2]:  # two seeds
        retrain_all([run], tmp_path / "out", progress=lambda _: Silent(), tell=lambda *_: None)
    ledger = tmp_path / "out/ledger.jsonl"
    lines = ledger.read_text().splitlines()
    places = [tmp_path / "out/runs" / run.name for run in (runs[0], runs[2])]
    with safe_open(places[0] / "model.safetensors", framework="pt") as exported:
        average = {name: exported.get_tensor(name) for name in exported.keys()}  # noqa: SIM118
    best = torch.load(places[0] / "best.pth", weights_only=True)
    assert all(torch.equal(best["ema"][name], value) for name, value in average.items())

    # Stopped after its training and before its line: nothing is left to train.
    ledger.write_text(lines[1] + "\n")
    latest = torch.load(places[0] / "latest.pth", weights_only=True)
    torch.save(latest | {"seconds": 1000.0}, places[0] / "latest.pth")
    (again,) = retrain_all(
        runs[:1], tmp_path / "out", progress=lambda _: Silent(), tell=lambda *_: None
    )
    before = RunResult.of(unsealed(json.loads(lines[0])))
    assert (again.evaluation, again.history) == (before.evaluation, before.history)
    assert 0 < before.seconds < 1000 < again.seconds < 1100

    ledger.write_text(lines[1] + "\n")
    shutil.copy(places[1] / "best.pth", places[0] / "best.pth")
    with pytest.raises(UserError, match=r"best.pth was trained with training.seed 2"):
        retrain_all(runs[:1], tmp_path / "out", progress=lambda _: Silent(), tell=lambda *_: None)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ('"AP50"', '"other"'), ('"support"', '"other"'), ('"train_loss"', '"other"'),
        ('"epoch": [1.0]', '"epoch": []'), ('"AP": 0.25', '"AP": NaN'),
        ('"train_loss": [1.75]', '"train_loss": [1e999]'),
    ],
)  # fmt: skip
def test_damaged_ledgers_are_refused(tmp_path: Path, part: str, other: str) -> None:
    line = outcome("baseline", 1, 0.25).line()
    earlier = json.dumps(unsealed(json.loads(line)))
    ledger = tmp_path / "ledger.jsonl"
    for whole, told in (
        (line, r"ledger.jsonl:1: it was changed after it was written"),
        (earlier, r"ledger.jsonl:1 is not a line of a study's ledger"),
    ):
        ledger.write_text(whole + "\n")
        assert finished(tmp_path, []) == {}
        assert part in whole
        ledger.write_text(whole.replace(part, other) + "\n")
        with pytest.raises(UserError, match=told):
            finished(tmp_path, [])


def test_an_arm_can_start_from_pretrained_parts(tmp_path: Path) -> None:
    arms = [
        {"name": "scratch"},
        {"name": "pretrained", "pretrained": "given.safetensors", "parts": ["backbone"],
         "set": {"training.freeze": ["backbone"]}},
    ]  # fmt: skip
    (tmp_path / "given.safetensors").write_bytes(b"")
    _, runs = load_retraining(study_file(tmp_path, seeds=[1], arms=arms))
    config = runs[0].recipe.config([f"class {i}" for i in range(8)])
    source = HybridDetector(config, seed=99)
    save_hybrid(tmp_path / "given.safetensors", source, [f"class {i}" for i in range(8)])
    _, runs = load_retraining(tmp_path / "study.yaml")
    retrain_all(runs[1:], tmp_path / "out", progress=lambda _: Silent(), tell=lambda *_: None)
    latest = torch.load(tmp_path / "out/runs/pretrained-seed1/latest.pth", weights_only=True)
    assert latest["origin"]["path"] == str(tmp_path / "given.safetensors")
    kept = source.state_dict()
    assert all(
        torch.equal(latest["model"][name], value)
        for name, value in kept.items()
        if name.startswith("backbone.")
    )
    name = "neck.inputs.0.conv.weight"
    assert not torch.equal(latest["model"][name], kept[name])


@pytest.mark.parametrize("path", sorted(Path("recipes/retrain").glob("*.yaml")), ids=str)
def test_the_studies_that_come_along_can_be_built(
    path: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("shapes_tiny", "mini_imagenet"):  # what pretraining leaves
        export = tmp_path / f"runs/pretrain/{name}/pretrained_backbone_neck.safetensors"
        export.parent.mkdir(parents=True)
        export.write_bytes(b"")
    study, runs = load_retraining(repository / path)
    assert len(runs) == len(study.arms) * len(study.seeds)
    # Every arm is another network or another loss, or begins otherwise.
    kinds = {
        (
            run.recipe.config([str(i) for i in range(8)]).to_json(),
            str(run.recipe.training.losses),
            str(run.recipe.training.freeze),
            run.pretrained and (run.pretrained, run.parts),
        )
        for run in runs
    }
    assert len(kinds) == len(study.arms)


def test_what_runs_in_one_process_refuses_several(
    monkeypatch: pytest.MonkeyPatch, refuse: Run
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = refuse("retrain", "recipes/retrain/modules_tiny.yaml")
    assert "ablate retrain runs in one process" in told
