"""Folders of runs come from strangers, too: damaged ones are refused with our own error."""

import contextlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit, Random
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.retraining.runs import RunResult
from ablate_kit.studies.noted import Noted, noted
from ablate_kit.sweeps.finished_runs.compared_run import compared_run
from ablate_kit.sweeps.finished_runs.images_of_run import images_of
from ablate_kit.sweeps.provenance.about import about
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_folder.screened import screened
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant
from detector.disk.sealed import unsealed
from tests.ablate_kit.made_up import truth_of
from tests.json_changes import changed, places

STRANGE = [
    None, True, -1, 10**400, 1.5, float("nan"), "", "x", "\0", "\ud800", "a" * 5000, "../../x",
    "/dev/zero", [], [[]], {}, {"x": 1}, [None],
]  # fmt: skip


def annotated() -> GroundTruth:
    """One object on one image."""
    return truth_of([0], [0, 0, 9, 9], [0], side=9)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A finished sweep of one ablation on one image."""
    truth = annotated()
    found = Detections(truth.image, np.array([[0.0, 0, 9, 8]]), np.array([0.5]), truth.labels)
    made = Ledger(tmp_path / "run", {"checkpoint": "ab", "threads": 1})
    made.begin(truth)
    ablation = Ablation("cut", "units", (Edit("w", Random(1, 1, 0)),))
    for one in (UNMODIFIED, Variant.of(ablation)):
        made.finish(one, evaluate(truth, found), found)
    made.note(["a note"])
    made.close([ablation], Statistics(10), {"kind": "shapes", "limit": 1})
    return made


def detections(ledger: Ledger) -> list[Detections]:
    return [one.detections for one in ledger.results()]


def read(folder: Path) -> None:
    """All that ``ablate report`` and a sweep that goes on read of a run."""
    with contextlib.suppress(UserError):
        Ledger.threads(folder)
    with contextlib.suppress(UserError):
        Ledger(folder, {})
    for read_part in (detections, images_of, Ledger.notes, Ledger.manifest, Ledger.truth):
        with contextlib.suppress(UserError):
            read_part(Ledger.existing(folder))


def without_digest(text: str) -> Any:
    """As earlier versions wrote it."""
    return unsealed(json.loads(text))


@pytest.mark.parametrize("name", ["inputs.json", "study.json", "notes.json", "ledger.jsonl"])
def test_values_of_another_kind(ledger: Ledger, name: str) -> None:
    path = ledger.folder / name
    whole = path.read_text()
    first, *rest = whole.splitlines() if name.endswith("l") else (whole,)
    value = without_digest(first)
    count = 0
    for place in places(value):
        for strange in STRANGE:
            line = json.dumps(changed(value, place, strange))
            path.write_text("\n".join([line, *rest]) + "\n")
            read(ledger.folder)
            count += 1
    assert count > 15


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "\0" * 100, "\ud800".encode("utf-8", "surrogatepass"), "nul"]
)
def test_files_that_are_no_json_and_no_detections(ledger: Ledger, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    for path in sorted(path for path in ledger.folder.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for damaged in (data, data + b"\n", whole + data + b"\n", whole[: len(whole) // 2]):
            path.write_bytes(damaged)
            read(ledger.folder)
        path.unlink()
        read(ledger.folder)
        path.write_bytes(whole)
    assert len(detections(Ledger.existing(ledger.folder))) == 2


def test_no_pipe_in_a_run_is_waited_for(ledger: Ledger) -> None:
    folder = ledger.folder
    others = [folder / name for name in ("about.json", "plan.json", "screen.json")]
    for path in (*sorted(path for path in folder.rglob("*") if path.is_file()), *others):
        whole = path.read_bytes() if path.exists() else b""
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        read(folder)
        for read_part in (about, noted, screened):
            with contextlib.suppress(UserError):
                read_part(folder)
        path.unlink()
        if path not in others:
            path.write_bytes(whole)
    assert len(detections(Ledger.existing(folder))) == 2


def test_a_key_is_no_path(ledger: Ledger) -> None:
    """It names the file of a variant's detections."""
    path = ledger.folder / "study.json"
    study = without_digest(path.read_text())
    for key in ("../../secret", "/etc/passwd", "a" * 24 + "\n", "A" * 24):
        study["variants"][0]["key"] = key
        path.write_text(json.dumps(study))
        with pytest.raises(UserError, match=re.escape("study.json, variants.0.key: ")):
            ledger.manifest()


def test_detections_of_other_images_are_refused(ledger: Ledger) -> None:
    truth = ledger.truth()
    (ledger.folder / "truth.json").write_text(
        json.dumps(truth.to_coco() | {"images": [], "annotations": []})
    )
    with pytest.raises(UserError):
        detections(ledger)


def test_objects_that_were_edited_are_refused(ledger: Ledger) -> None:
    statistics = ledger.manifest().statistics
    compared_run(ledger, ledger.results(), statistics)
    values = without_digest((ledger.folder / "truth.json").read_text())
    values["annotations"][0]["bbox"][0] = 1
    (ledger.folder / "truth.json").write_text(json.dumps(values))
    edited = Ledger.existing(ledger.folder)
    with pytest.raises(UserError, match=r"model's \w+ is .* by truth.json and its detections"):
        compared_run(edited, edited.results(), statistics)
    with pytest.raises(UserError, match=r"truth.json has other objects than the annotations"):
        edited.begin(annotated())


def test_no_value_becomes_another_unseen(ledger: Ledger) -> None:
    """Any value of a run may change on a disk; what is read is what was written, or an error."""
    made = table_of(ledger.folder)
    for name in ("study.json", "truth.json", "ledger.jsonl"):
        path = ledger.folder / name
        whole = path.read_text()
        first, *rest = whole.splitlines() if name.endswith("l") else (whole,)
        for place in places(json.loads(first)):
            before = value_at(json.loads(first), place)
            if isinstance(before, dict | list):
                continue
            other = before + 1 if isinstance(before, int | float) else f"{before}x"
            line = json.dumps(changed(json.loads(first), place, other))
            path.write_text("\n".join([line, *rest]) + "\n")
            with pytest.raises(UserError, match=f"{name}.*: it was changed after it was written"):
                table_of(ledger.folder)
        path.write_text(whole)
    one, two = sorted((ledger.folder / "detections").iterdir())
    for path in (one, two):
        whole_bytes = path.read_bytes()
        for at in range(0, len(whole_bytes), 5):
            damaged = bytearray(whole_bytes)
            damaged[at] ^= 1
            path.write_bytes(damaged)
            with contextlib.suppress(UserError):
                assert table_of(ledger.folder) == made
        path.write_bytes(whole_bytes)
    first_bytes, second_bytes = one.read_bytes(), two.read_bytes()
    one.write_bytes(second_bytes)
    two.write_bytes(first_bytes)
    with pytest.raises(UserError, match="it holds detections of another variant"):
        table_of(ledger.folder)
    one.write_bytes(first_bytes)
    two.write_bytes(second_bytes)
    assert table_of(ledger.folder) == made


def test_a_plan_that_was_changed_is_refused(tmp_path: Path) -> None:
    plan = Noted(budget="9s", images=1, total=1, margin=0.01, parts=[], rounds=[["a", "b"], ["c"]])
    plan.keep(tmp_path)
    assert noted(tmp_path) == plan
    (path,) = tmp_path.iterdir()
    whole = path.read_text()
    path.write_text(whole.replace('"c"', '"d"'))
    with pytest.raises(UserError, match=r"plan\.json: it was changed after it was written"):
        noted(tmp_path)
    path.write_text(json.dumps(without_digest(whole)))
    assert noted(tmp_path) == plan


def table_of(folder: Path) -> str:
    """All that a report is made from."""
    ledger = Ledger.existing(folder)
    results = ledger.results()
    compared_run(ledger, results, ledger.manifest().statistics)
    told = [(one.name, one.kind, one.factors, one.evaluation.to_dict()) for one in results]
    return repr([*told, *(vars(one.detections) for one in results), ledger.truth()])


def value_at(value: Any, place: Sequence[Any]) -> Any:
    for step in place:
        value = value[step]
    return value


def test_lines_of_a_retraining_study() -> None:
    whole: dict[str, Any] = {"arm": "a", "seed": 1, "key": "k", "data": "d", "seconds": 1.5}
    whole["history"] = {"epoch": [1], "train_loss": [2.5], "val_mAP_50_95": [0.5]}
    whole["evaluation"] = evaluate(annotated(), Detections.concatenate([])).to_dict()
    RunResult.of(json.loads(json.dumps(whole)))
    for place in places(whole):
        for strange in STRANGE:
            with contextlib.suppress(ValueError, UserError):
                RunResult.of(json.loads(json.dumps(changed(whole, place, strange))))
