"""Receipts come from strangers, too: damaged ones are refused with our own error."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Blocks, Edit, Random
from ablate_kit.ablations.receipt import read_receipt, receipt_text
from ablate_kit.ablations.variant_files import recreate, write_variants
from ablate_kit.ablations.verify_receipt import verify
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.rewriting.conversions import convert
from ablate_kit.models.rewriting.grafted import grafted, source_of
from ablate_kit.models.rewriting.new_file_content import note_for, write_noted
from ablate_kit.models.rewriting.swapped import swapped
from ablate_kit.models.rewriting.write_again import verify_rewrite, write_again
from tests.json_changes import ABSENT, changed, places

STRANGE = [
    None, True, -1, 0, 10**400, 1.5, float("inf"), float("nan"), "", "x", "\0", "\ud800",
    "a" * 5000, "/dev/zero", "/", [], [[]], {}, {"x": 1}, [None], [["a", "b"]],
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("receipts") / "base.safetensors"
    generator = np.random.default_rng(0)
    save_file({n: generator.random((6, 5), np.float32) for n in ("a", "b", "c")}, path)
    return path


@pytest.fixture(scope="module")
def receipt(base: Path) -> dict[str, Any]:
    variant = base.with_name("variant.safetensors")
    some = Blocks(1, ((0, 2),))
    edits = (
        Edit("a"),
        Edit("b", some),
        Edit("b", some, values=(0.5,) * 12),
        Edit("c", Random(7, 1, 0)),
    )
    with open_checkpoint(base) as opened:
        write_variants(opened, {variant: Ablation("v", "test", edits)})
    with open_checkpoint(variant) as opened:
        text, _ = receipt_text(opened) or ("", "")
    found: dict[str, Any] = json.loads(text)
    return found


@settings(max_examples=400, derandomize=True, deadline=None)
@given(data=st.data())
def test_nothing_but_our_error_comes_of_a_damaged_receipt(
    base: Path, receipt: dict[str, Any], data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(list(places(receipt))))
    value = data.draw(st.sampled_from([*STRANGE, ABSENT]))
    found = changed(receipt, path, value)
    if path[:1] == ("ablation",):  # as someone would who means it
        with contextlib.suppress(UserError, KeyError):
            found["digest"] = Ablation.from_dict(found["ablation"]).digest
    text = json.dumps(found)
    note, again = base.with_name("receipt.json"), base.with_name("again.safetensors")
    note.write_text(text)
    with contextlib.suppress(UserError), open_checkpoint(base) as opened:
        told = read_receipt(note)
        assert told.operation == "ablation"
        list(verify(opened, told))
        again.unlink(missing_ok=True)
        recreate(opened, told, again)
    copied = base.with_name("copied.safetensors")
    save_file({"a": np.ones(3)}, copied, {"ablate_kit.receipt": text})
    with contextlib.suppress(UserError):
        read_receipt(copied)


@pytest.mark.parametrize("verb", ["swap", "graft", "convert"])
def test_nothing_but_our_error_comes_of_damaged_settings(
    hybrid: Path, tmp_path: Path, verb: str
) -> None:
    target = tmp_path / "new.safetensors"
    with open_checkpoint(hybrid) as opened, open_checkpoint(hybrid) as source:
        if verb == "swap":
            told: dict[str, Any] = {"switches": ["csi=off"], "init": "identity", "seed": 0}
            _, content = swapped(opened, told["switches"], told["init"], told["seed"])
            write_noted(content, target, note_for(opened, verb, told))
        elif verb == "graft":
            told = {"from": source_of(source), "parts": "neck", "map": []}
            told |= {"skip_mismatched": False, "tensors": 1}
            _, content = grafted(opened, source, ["neck"], [], skip_mismatched=False)
            write_noted(content, target, note_for(opened, verb, told))
        else:
            convert(opened, target)
    with open_checkpoint(target) as opened:
        text, _ = receipt_text(opened) or ("", "")
    receipt = json.loads(text)
    note, again = tmp_path / "receipt.json", tmp_path / "again.safetensors"
    refused = 0
    for path in places(receipt[verb]):
        for value in (None, -1, 10**400, "x", [], {}, [None], ABSENT):
            if not path and value is ABSENT:
                continue
            note.write_text(json.dumps(receipt | {verb: changed(receipt[verb], path, value)}))
            try:
                found = read_receipt(note)
                assert found.operation == verb
                with open_checkpoint(hybrid) as opened:
                    again.unlink(missing_ok=True)
                    write_again(opened, found, again)
                    verify_rewrite(found)
            except UserError:
                refused += 1
    assert refused > 5
