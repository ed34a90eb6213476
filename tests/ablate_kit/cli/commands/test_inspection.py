"""keys, meta and diff: what is in a checkpoint, without torch."""

import json
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate_kit.checkpoints import CheckpointError, open_checkpoint
from ablate_kit.reports.checkpoint_reports.grouping import grouped
from tests.ablate_kit.conftest import Run


@pytest.fixture
def differ(run: Run) -> Run:
    """Runs ``ablate diff`` and returns what it printed; fails unless it exits with 1."""
    return lambda *arguments: run("diff", *arguments, code=1)


def saved(path: Path, tree: Any) -> Path:
    torch.save(tree, path)
    return path


def layers(count: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        f"layers.{i}.{part}": torch.randn(4, 3, generator=generator)
        for i in range(count)
        for part in ("attn.weight", "ffn.weight")
    }


def test_equal_checkpoints_of_two_formats(run: Run, tmp_path: Path) -> None:
    one = saved(tmp_path / "a.pth", layers())
    torch.save(
        {"model": layers(), "epoch": 1}, tmp_path / "b.pth", _use_new_zipfile_serialization=False
    )
    for by in ("headers", "digests", "values"):
        printed = run("diff", one, tmp_path / "b.pth", "--by", by)
        assert printed.startswith("6 tensors have the same")


def test_values(run: Run, differ: Run, tmp_path: Path) -> None:
    changed = layers()
    changed["layers.1.ffn.weight"] = changed["layers.1.ffn.weight"].clone()
    changed["layers.1.ffn.weight"][0, 1] += 0.5
    one, other = saved(tmp_path / "a.pth", layers()), saved(tmp_path / "b.pth", changed)
    assert "6 tensors have the same name, shape" in run("diff", one, other)
    alone = saved(tmp_path / "c.pth", {"layers.0.ffn.weight": changed["layers.0.ffn.weight"]})
    assert run("diff", alone, alone).startswith("1 tensor has the same name, shape")
    assert differ(one, other, "--by", "digests").splitlines() == [
        "of other values: 1", "  layers.1.ffn.weight  4x3 float32", "5 tensors have the same bytes",
    ]  # fmt: skip
    found = json.loads(differ(one, other, "--by", "values", "--json"))
    a = layers()["layers.1.ffn.weight"].double()
    b = changed["layers.1.ffn.weight"].double()
    values = found["values"]["layers.1.ffn.weight"]
    assert found["changed"] == ["layers.1.ffn.weight"]
    assert values["max_abs"] == pytest.approx(float((a - b).abs().max()), rel=1e-12)
    assert values["relative_l2"] == pytest.approx(float((a - b).norm() / a.norm()), rel=1e-12)
    assert values["cosine"] == pytest.approx(float((a * b).sum() / a.norm() / b.norm()), rel=1e-12)
    assert values["share_changed"] == 1 / 12
    assert "3 tensors have the same" in run("diff", one, other, "**.attn.*", "--by", "values")


def test_names_shapes_and_types(differ: Run, tmp_path: Path) -> None:
    other = {f"decoder.{name}": tensor for name, tensor in layers().items()}
    other["decoder.layers.0.attn.weight"] = torch.zeros(4, 3, dtype=torch.float16)
    other["extra"] = torch.zeros(2)
    a = saved(tmp_path / "a.pth", layers())
    b = saved(tmp_path / "b.pth", {"decoder." + n: t for n, t in layers().items()})
    c = saved(tmp_path / "c.pth", other)
    assert "renamed: 6" in differ(a, b)
    found = json.loads(differ(b, c, "--json"))
    assert found["shape_or_dtype"] == ["decoder.layers.0.attn.weight"]
    assert found["only_second"] == ["extra"]
    assert found["renamed"] == {}
    assert "decoder.layers.0.attn.weight  4x3 float32 -> 4x3 float16" in differ(b, c)
    assert set(json.loads(differ(a, b, "--by", "digests", "--json"))["renamed"].items()) == {
        (name, f"decoder.{name}") for name in layers()
    }


def test_bytes_of_a_constant_tensor_say_nothing(differ: Run, tmp_path: Path) -> None:
    """Norms as they begin, counters and biases of zeros are all alike."""

    def norm(prefix: str, seed: int) -> dict[str, torch.Tensor]:
        weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))
        return {
            f"{prefix}.conv.weight": weight,
            f"{prefix}.norm.weight": torch.ones(4),
            f"{prefix}.norm.bias": torch.zeros(4),
            f"{prefix}.norm.running_mean": torch.zeros(4),
            f"{prefix}.norm.running_var": torch.ones(4),
            f"{prefix}.norm.num_batches_tracked": torch.tensor(0),
        }

    def renamed(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> dict[str, str]:
        a, b = saved(tmp_path / "a.pth", one), saved(tmp_path / "b.pth", other)
        printed = differ(a, b, "--by", "digests", "--json")
        return dict(json.loads(printed)["renamed"])

    # Two models that share nothing but how norms begin.
    assert renamed(norm("stem", 1), norm("backbone.layer1", 2)) == {}
    # Moved: the convolution says where to, and the norm beside it follows.
    moved = norm("stem", 1)
    moved["stem.norm.weight"] = torch.ones(4) + 1e-3 * torch.arange(4)
    there = {f"model.{name.replace('stem', 'body.0')}": t for name, t in moved.items()}
    assert renamed(moved, there) == {
        name: f"model.{name.replace('stem', 'body.0')}" for name in moved
    }
    # Only the beginning differs, and nothing but constants is there.
    assert renamed({"a.bias": torch.zeros(3)}, {"model.a.bias": torch.zeros(3)}) == {
        "a.bias": "model.a.bias"
    }
    assert renamed({"a.bias": torch.zeros(3)}, {"model.b.bias": torch.zeros(3)}) == {}
    a, b = saved(tmp_path / "a.pth", moved), saved(tmp_path / "b.pth", there)
    ending = "0 tensors have the same bytes; 6 more under another name"
    assert differ(a, b, "--by", "digests").splitlines()[-1] == ending


def test_what_is_gone_is_grouped(differ: Run, tmp_path: Path) -> None:
    a = saved(tmp_path / "a.pth", layers(6))
    b = saved(tmp_path / "b.pth", layers(2) | {"head": torch.zeros(9)})
    assert differ(a, b).splitlines() == [
        "only in the first: 8",
        "  layers.{2-5}.attn.weight (4 tensors)  4x3 float32",
        "  layers.{2-5}.ffn.weight (4 tensors)  4x3 float32",
        "only in the second: 1",
        "  head  9 float32",
        "4 tensors have the same name, shape and type (values not compared; see --by)",
    ]


def test_groups_are_patterns_of_all_their_names() -> None:
    names = [f"a.{i}.b.{j}" for i in (0, 1, 2, 7) for j in range(2)] + ["a.3.b.0", "x", "b16.w"]
    assert grouped(names) == {
        **{f"a.{i}.b.{{0-1}}": [f"a.{i}.b.0", f"a.{i}.b.1"] for i in (0, 1, 2, 7)},
        "a.3.b.0": ["a.3.b.0"],
        "x": ["x"],
        "b16.w": ["b16.w"],
    }
    whole = names[:8]
    assert grouped(whole) == {"a.{0-2,7}.b.{0-1}": whole}


def test_differences_of_nothing_and_of_no_file(refuse: Run, tmp_path: Path) -> None:
    one = saved(tmp_path / "a.pth", layers())
    assert 'no tensor matches "nothing"' in refuse("diff", one, one, "nothing")
    assert "cannot open" in refuse("diff", one, tmp_path / "b.pth")


def test_statistics(run: Run, tmp_path: Path) -> None:
    tree = {"a": torch.tensor([0.0, 0, 3, 1]), "b": torch.tensor([1.0, float("nan")])}
    path = saved(tmp_path / "a.pth", tree)
    lines = run("keys", path, "--stats").splitlines()
    assert lines[0].split()[4:] == ["mean", "std", "min", "max", "zeros", "NaN,", "inf"]
    assert lines[2].split() == ["a", "4", "float32", "4", "1", "1.225", "0", "3", "50.0%", "0"]
    assert lines[-1] == "not finite: b"
    rows = json.loads(run("keys", path, "--stats", "--format", "json"))
    assert (rows[0]["mean"], rows[0]["zeros"], rows[1]["nan"]) == (1.0, 2, 1)
    shown = run("keys", path, "--stats", "--format", "tree").splitlines()
    assert shown[0] == "a  4 float32, 50.0% zeros"
    assert shown[1] == "b  2 float32, 0.0% zeros, 1 not finite"


def test_types_and_ties_are_listed(run: Run, tmp_path: Path) -> None:
    table = torch.ones(3, 2)
    tree = {"m.embed": table, "m.head": table, "m.count": torch.tensor(3), "n": torch.ones(1)}
    path = saved(tmp_path / "a.pth", tree)
    lines = run("keys", path, "--format", "tree").splitlines()
    assert lines[0] == "m  13 elements, 0.00 MB, float32 + int64"
    assert lines[-2] == "types: float32 92.9%, int64 7.1%"
    assert lines[-1] == "the same bytes: m.embed, m.head"


def test_meta_shows_what_lies_beside_the_weights(run: Run, tmp_path: Path) -> None:
    import argparse

    tree = {
        "model": layers(),
        "ema": {"module": layers()},
        "args": argparse.Namespace(lr=0.1, path=tmp_path.__class__("/data")),
        "epoch": 7,
    }
    path = saved(tmp_path / "a.pth", tree)
    lines = run("meta", path).splitlines()
    assert lines[0] == f"{path}: torch-zip, 12 tensors"
    assert lines[1].startswith('weights: --weights "model"  6 tensors')
    assert lines[2].startswith('weights: --weights "ema.module"  6 tensors')
    assert "epoch: 7" in lines
    at = lines.index("args: argparse.Namespace()")
    assert lines[at + 1] == "  lr: 0.1"
    assert re.fullmatch(r"  path: pathlib[._a-z]*\.PosixPath\('/(', ')?data'\)", lines[at + 2])
    found = json.loads(run("meta", path, "--json"))
    assert found["weights"] == {"model": 6, "ema.module": 6}
    assert {"path": ["epoch"], "value": "7"} in found["metadata"]


def test_meta_of_a_trainers_folder(run: Run, tmp_path: Path) -> None:
    """Which model it is of, and how far its training was."""
    folder = tmp_path / "checkpoint-500"
    folder.mkdir()
    saved(folder / "pytorch_model.bin", layers())
    config = {"model_type": "rt_detr_v2", "id2label": {"0": "disc"}, "dropout": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "trainer_state.json").write_text('{"global_step": 500, "log_history": [{"loss": 1}]}')
    lines = run("meta", folder).splitlines()
    at = lines.index("config.json:")
    assert lines[at + 1 :] == [
        "  model_type: 'rt_detr_v2'",
        "  id2label: {'0': 'disc'}",
        "trainer_state.json: {'global_step': 500}",
    ]
    (folder / "trainer_state.json").write_text("[" * 100_000)
    assert "trainer_state.json: 'not to be read as a JSON object'" in run("meta", folder)


def test_meta_of_a_real_training_run(run: Run, shared: Path) -> None:
    for name in ("mmengine_runner_toy.pth", "mmengine_runner_toy_legacy.pth"):
        printed = run("meta", shared / "models" / name)
        assert "train/loss: mmengine.logging.history_buffer.HistoryBuffer(" in printed


def test_tensors_that_are_more_than_their_bytes_are_named(
    run: Run, refuse: Run, tmp_path: Path
) -> None:
    path = tmp_path / "x.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensors = {
            "w": torch.ones(2),
            "q.weight": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
            "s": torch.eye(2).to_sparse(),
            "m": torch.empty(3, device="meta"),
            "c": torch.ones(2, dtype=torch.complex64).conj(),
        }
        torch.save({"model": tensors, "epoch": 3}, path)
    assert run("keys", path).splitlines()[-1] == (
        "more than their bytes, and not listed: q.weight (quantized), s (sparse), "
        "m (without data), c (a conjugate or negated view)"
    )
    said = f'tensor "q.weight" in {path} (model) is quantized: it is more than its bytes'
    assert said in refuse("keys", path, "q")
    assert said in refuse("component", path, "q", "-o", tmp_path / "y.pth")
    with open_checkpoint(path) as opened, pytest.raises(CheckpointError, match="is sparse"):
        opened.tensor("s")


PROGRAM = """
import sys
from pathlib import Path
from ablate_kit.cli.app import main
sys.argv = ["ablate", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert stop.code in (0, 1, None), stop.code
heavy = {"torch", "numpy", "pandas", "pydantic", "rich", "safetensors"}
found = sorted(heavy & set(sys.modules))
(peak,) = (l.split()[1] for l in Path("/proc/self/status").open() if l.startswith("VmHWM"))
sys.stderr.write(f"{found} {peak}")
"""


def test_files_of_paddle_are_listed_and_nothing_else(run: Run, refuse: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.pdparams"
    path.write_bytes(
        pickle.dumps(
            {"fc.weight": np.ones((2, 3), np.float32), "StructuredToParameterName@@": {}},
            protocol=4,
        )
    )
    assert "fc.weight    2x3  float32         6" in run("keys", path)
    assert "paddle, 1 tensor" in run("meta", path)
    run("diff", path, path)
    copy = tmp_path / "cut.pdparams"
    for command in (
        ("units", path, "fc.weight", "--percent", 50, "-o", copy),
        ("heads", path, "*", "--heads", "all", "-o", copy),
        ("convert", path, "-o", tmp_path / "cut.safetensors"),
        ("eval", path, "--shapes"),
        ("study", path, "--shapes", "-o", tmp_path / "study"),
    ):
        assert "is of Paddle, whose linear layers keep their" in refuse(*command)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("legacy", [False, True])
def test_inspection_imports_no_torch_and_reads_no_weights(tmp_path: Path, legacy: bool) -> None:
    tree = {f"layers.{i}.weight": torch.ones(512, 512) for i in range(100)}
    path = tmp_path / "big.pth"
    torch.save(tree, path, _use_new_zipfile_serialization=not legacy)
    assert path.stat().st_size > 100e6
    cut = ["component", path, "layers.3", "-o", tmp_path / "cut.pth"]
    for command in (["keys", path], ["meta", path], ["diff", path, path], cut):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *map(str, command)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        modules, kilobytes = done.stderr.rsplit(" ", 1)
        assert modules == "[]"
        assert int(kilobytes) < 60_000
