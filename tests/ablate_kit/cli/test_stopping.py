"""Runs that are killed, stopped or started twice: one line, and the same bytes in the end."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate_kit.sweeps.run_folder.stored_detections import UnfinishedBatches
from detector.disk.lock import locked
from detector.training.trainer import Trainer
from tests.ablate_kit.cli.conftest import edited
from tests.ablate_kit.conftest import Ablate, Run
from tests.ablate_kit.run_files import contents
from tests.attacks.stopped import stopped


@pytest.fixture(scope="module")
def wholes() -> dict[Path, dict[str, bytes]]:
    return {}


@pytest.fixture
def whole(
    run: Run, recipe: Path, tmp_path: Path, hybrid: Path, wholes: dict[Path, dict[str, bytes]]
) -> dict[str, bytes]:
    """The files of a sweep that nothing has stopped."""
    if hybrid not in wholes:
        run("sweep", recipe, "-o", tmp_path / "whole")
        wholes[hybrid] = contents(tmp_path / "whole")
    return wholes[hybrid]


def signalling(call: Callable[..., Any], number: signal.Signals, count: int) -> Callable[..., Any]:
    """``call``, before whose ``count``-th time this process gets a signal."""
    calls = 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), number)
        return call(*arguments)

    return counted


def test_a_killed_sweep_goes_on_to_the_same_bytes(
    run: Run, recipe: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    cut = tmp_path / "cut"
    add = "ablate_kit.sweeps.run_folder.stored_detections:UnfinishedBatches.add"
    done = stopped("SIGKILL", 2, add, "sweep", recipe, "-o", cut)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    assert (cut / ".lock").exists()
    # Again, while the report is written: what was half-written goes with the next run.
    page = "ablate_kit.reports.sweep_reports.sweep_report:page"
    done = stopped("SIGKILL", 1, page, "sweep", recipe, "-o", cut)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    told = "resuming: 0 of 5 variants and 1 of 3 batches of images for the others are done"
    assert told in done.stdout
    assert list(cut.glob(".report.*.tmp"))
    assert "resuming: 5 of 5 variants are done" in run("sweep", recipe, "-o", cut)
    assert contents(cut) == whole


def test_a_sweep_that_was_killed_before_its_first_file_was_whole_begins_again(
    run: Run, recipe: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    cut = tmp_path / "cut"
    done = stopped("SIGKILL", 1, "pathlib:Path.replace", "sweep", recipe, "-o", cut)
    assert done.returncode == -signal.SIGKILL
    assert [one.name for one in cut.glob(".inputs.json.*")]
    run("sweep", recipe, "-o", cut)
    assert contents(cut) == whole


@pytest.mark.parametrize(("name", "told"), [("SIGINT", "Ctrl-C"), ("SIGTERM", "SIGTERM")])
def test_a_stopped_sweep_goes_on_to_the_same_bytes(
    ablate: Ablate,
    run: Run,
    recipe: Path,
    tmp_path: Path,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    told: str,
) -> None:
    cut, command = tmp_path / "cut", ("sweep", recipe, "-o", tmp_path / "cut")
    with monkeypatch.context() as patched:
        patched.setattr(
            UnfinishedBatches, "add", signalling(UnfinishedBatches.add, signal.Signals[name], 2)
        )
        printed = ablate(*command)
    assert printed.code == 128 + signal.Signals[name]
    assert printed.err == (
        f"ablate: stopped by {told}; {cut} keeps 0 of 5 variants and 1 of 3 batches of images for "
        f"the others; to resume: {shlex.join(['ablate', *map(str, command)])}\n"
    )
    assert not list(cut.glob(".*"))
    run(*command)
    assert contents(cut) == whole


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("ablate_kit.sweeps.sweep_folder:ledger_of", None),
        ("ablate_kit.sweeps.run_folder.ledger:Ledger.describe", "what is done"),
        ("ablate_kit.sweeps.run_sweep:run_sweep", "0 of 5 variants and 0 of 3 batches"),
    ],
)
def test_a_sweep_that_is_stopped_before_its_first_batch_says_how_to_go_on(
    recipe: Path, tmp_path: Path, where: str, kept: str | None
) -> None:
    cut = tmp_path / "cut"
    done = stopped("SIGTERM", 1, where, "sweep", recipe, "-o", cut)
    again = f"ablate sweep {recipe} -o {cut}\n"
    assert done.returncode == 143
    assert done.stderr.endswith(again)
    assert cut.exists() == (kept is not None)
    if kept:
        assert done.stderr.startswith(f"ablate: stopped by SIGTERM; {cut} keeps {kept}")
    else:
        start = "ablate: stopped by SIGTERM; nothing is done yet; to begin again: "
        assert done.stderr == start + again


def test_copies_that_belong_together_survive_no_kill_alone(
    run: Run, hybrid: Path, tmp_path: Path
) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    command = ("heads", hybrid, "decoder.layers.0.self_attn", "--each", "-o")
    where = "ablate_kit.ablations.variant_files:write_patched"
    done = stopped("SIGKILL", 3, where, *command, cut)
    assert done.returncode == -signal.SIGKILL
    assert not list(cut.glob("[!.]*"))
    assert list(cut.glob(".*"))
    run(*command, cut)
    run(*command, whole)
    assert contents(cut) == contents(whole)
    assert not list(cut.glob(".*"))


def test_a_torn_line_of_the_ledger_is_done_again_and_never_by_a_reader(
    run: Run, refuse: Run, recipe: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    folder = tmp_path / "run"
    for name, data in whole.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    ledger = folder / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    torn = b"".join(lines[:-1]) + lines[-1][:40]
    ledger.write_bytes(torn)
    assert "run ablate sweep again" in refuse("report", folder)
    with locked(folder):
        assert "is in use" in refuse("report", folder, "--examples", 0)
    assert ledger.read_bytes() == torn  # another process may be writing the rest of the line
    run("sweep", recipe, "-o", folder)
    assert contents(folder) == whole


TINY = """\
model: {preset: tiny, image_size: 64, widths: [16, 32, 16, 16], depths: [1, 1, 1, 1], d_model: 32,
        queries: 8, decoder_layers: 2}
data: {kind: shapes, train: 8, val: 2}
training: {epochs: 2, batch_size: 2, lr: 0.0001, warmup_epochs: 0.5}
"""
OF_PARTS = """\
model: {preset: tiny, widths: [16, 32, 16, 16], depths: [1, 1, 1, 1], d_model: 32, neck_repeats: 1}
augmentation: {image_size: 64, val_resize: 72}
data: {kind: shapes, train: 8, val: 2}
training: {epochs: 2, batch_size: 2, lr: 0.0001, warmup_epochs: 0.5}
"""
STUDY = """\
base: train.yaml
seeds: [1]
arms: [{name: one}, {name: two, set: {model.csi: false}}]
"""


@pytest.fixture
def recipes(tmp_path: Path, recipe: Path) -> dict[str, Path]:
    """A small recipe for each command whose run can go on."""
    found = {"sweep": recipe}
    for name, text in (("train", TINY), ("pretrain", OF_PARTS), ("retrain", STUDY)):
        found[name] = tmp_path / f"{name}.yaml"
        found[name].write_text(text)
    return found


def test_a_run_is_one_process_s(ablate: Ablate, recipes: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked(folder):
        for command, path in recipes.items():
            told = ablate(command, path, "-o", folder).refusal()
            assert f"{folder} is in use by process {os.getpid()} on " in told, command
        assert sorted(folder.iterdir()) == [folder / ".lock"]


KEPT = {  # after two steps
    "train": "0 of 2 epochs and 2 of 4 batches",
    "pretrain": "0 of 2 epochs and 2 of 4 batches",
    "retrain": "0 of 2 runs",
}


@pytest.mark.parametrize("command", KEPT)
def test_a_stopped_training_says_how_to_go_on_and_from_where(
    command: str,
    ablate: Ablate,
    run: Run,
    recipes: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = KEPT[command]
    given = [command, str(recipes[command]), "-o", str(tmp_path / "cut")]
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", signalling(Trainer._step, signal.SIGTERM, 2))
        printed = ablate(*given)
    assert printed.code == 143
    (told,) = printed.err.splitlines()
    assert told.startswith(f"ablate: stopped by SIGTERM; {tmp_path / 'cut'} keeps {kept}")
    again = shlex.split(told.partition("to resume: ")[2])
    assert again == ["ablate", *given, *(["--resume"] if command != "retrain" else [])]
    out = run(*again[1:])
    assert "resuming with epoch 1 of 2, after 2 of 4 batches" in out
    run(*given[:-1], tmp_path / "whole")
    files = [
        path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.safetensors")
    ]
    assert files
    for file in files:
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert not list((tmp_path / "cut").rglob(".*"))


def test_what_is_no_run_is_left_as_it_is(refuse: Run, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".x.0123456789ab.tmp").write_text("mine")
    assert "is no sweep" in refuse("sweep", recipe, "-o", tmp_path / "mine")
    assert "is no sweep" in refuse("report", tmp_path / "mine")
    assert [one.name for one in (tmp_path / "mine").iterdir()] == [".x.0123456789ab.tmp"]
    (tmp_path / "file").write_text("mine")
    assert "is no sweep" in refuse("sweep", recipe, "-o", tmp_path / "file")
    assert "is no sweep" in refuse("report", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_data_that_changes_while_a_sweep_runs_are_noticed(
    ablate: Ablate,
    run: Run,
    hybrid: Path,
    recipe: Path,
    coco: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with edited(recipe) as values:
        values["data"] = {"kind": "coco", "annotations": str(coco[0]), "images": str(coco[1])}
    image = next(iter(coco[1].glob("*.png")))
    before = image.read_bytes()
    add = UnfinishedBatches.add

    def replaced(self: UnfinishedBatches, batch: int, found: Any) -> None:
        add(self, batch, found)
        image.write_bytes(before + b"more")  # which decodes to the same picture

    with monkeypatch.context() as patched:
        patched.setattr(UnfinishedBatches, "add", replaced)
        printed = ablate("sweep", recipe, "-o", tmp_path / "run")
    assert printed.code == 2
    assert "the data changed on disk while the sweep ran" in printed.err  # below its progress
    assert not (tmp_path / "run" / "ledger.jsonl").exists()
    assert not (tmp_path / "run" / "partial").exists()
    image.write_bytes(before)
    run("sweep", recipe, "-o", tmp_path / "run")


def test_a_worker_s_failure_is_told_once(repository: Path, recipe: Path, tmp_path: Path) -> None:
    """Not taken for a lost worker, whose work another worker is given."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("failing_workers.py"), recipe, tmp_path / "run"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "ablate: not enough memory: a worker failed: CUDA out of memory. Tried to allocate 2 GiB; "
        "what is done is kept\n"
    )
    assert json.loads((tmp_path / "run" / "inputs.json").read_text())
