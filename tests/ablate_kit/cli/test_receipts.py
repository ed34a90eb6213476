"""Receipts: a copy is held against its own, and made again from it."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ablate_kit.ablations.ablation import Random

Run = Callable[..., str]


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        f"layers.{i}.{part}.weight": torch.randn(8, 6, generator=generator)
        for i in range(3)
        for part in ("attn", "ffn")
    }


def zip_file(folder: Path) -> Path:
    torch.save({"model": weights(), "epoch": 3}, folder / "base.pth")
    return folder / "base.pth"


def legacy_file(folder: Path) -> Path:
    path = folder / "base.pth"
    torch.save({"model": weights()}, path, _use_new_zipfile_serialization=False)
    return path


def safetensors_file(folder: Path) -> Path:
    save_file(weights(), folder / "base.safetensors")
    return folder / "base.safetensors"


def sharded_folder(folder: Path) -> Path:
    path = folder / "base"
    path.mkdir()
    files = {}
    for number, name in enumerate(weights()):
        files[name] = f"part{number % 2}.bin"
    for file in set(files.values()):
        torch.save({n: t for n, t in weights().items() if files[n] == file}, path / file)
    (path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    return path


BASES = [zip_file, legacy_file, safetensors_file, sharded_folder]


def content(path: Path) -> dict[str, bytes]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.mark.parametrize("write", BASES)
def test_a_variant_is_verified_and_recreated_bit_for_bit(
    run: Run, tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    base = write(tmp_path)
    run("units", base, "**.ffn", "--percent", "25", "--seed", 7, "-o", tmp_path / "v")
    (variant,) = (path for path in (tmp_path / "v").iterdir() if path.suffix != ".json")
    checks = json.loads(run("verify", variant, "--json"))
    assert [(check["check"], check["passed"]) for check in checks] == [
        ("bytes", True), ("selection", True), ("values", True), ("original", True),
    ]  # fmt: skip
    receipt = variant / "ablation.json" if variant.is_dir() else Path(f"{variant}.ablation.json")
    again = tmp_path / f"again{variant.suffix}"
    run("apply", base, receipt, "-o", again)
    assert content(again) == content(variant)
    assert content(variant) != content(base)
    own = again / "ablation.json" if again.is_dir() else Path(f"{again}.ablation.json")
    assert own.read_bytes() == receipt.read_bytes()
    moved = base.rename(tmp_path / f"moved{base.suffix}")
    assert "unknown  not here" in run("verify", again)
    assert "unknown" not in run("verify", again, "--base", moved)


def test_a_receipt_says_what_was_done(run: Run, tmp_path: Path) -> None:
    base = safetensors_file(tmp_path)
    run("units", base, "layers.0.ffn", "--percent", "50", "--seed", 7, "-o", tmp_path / "v")
    (variant,) = (tmp_path / "v").glob("*.safetensors")
    receipt = json.loads(Path(f"{variant}.ablation.json").read_text())
    assert receipt["base"]["sha256"] == hashlib.sha256(base.read_bytes()).hexdigest()
    assert receipt["output"]["sha256"] == hashlib.sha256(variant.read_bytes()).hexdigest()
    assert receipt["versions"]["numpy"] == np.__version__
    (edit,) = receipt["ablation"]["edits"]
    assert edit["seed"] == 7
    listed = b'["layers.0.ffn.weight", [8, 6], {"draw": 0, "seed": 7, "units": 24}]'
    drawn = Random(24, 7, 0).indices("layers.0.ffn.weight", (8, 6)).astype("<i8").tobytes()
    assert receipt["selected"] == hashlib.sha256(listed + drawn).hexdigest()


def test_a_changed_copy_is_found_out(run: Run, fails: Run, refuse: Run, tmp_path: Path) -> None:
    base, variant = safetensors_file(tmp_path), tmp_path / "v.safetensors"
    run("component", base, "layers.1.attn", "-o", variant)
    whole = variant.read_bytes()
    variant.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    printed = fails("verify", variant)
    assert printed.startswith("bytes      WRONG    SHA-256")
    assert "values     ok" in printed
    variant.write_bytes(base.read_bytes())
    assert "1 of 1 tensors hold other values, such as layers.1.attn.weight" in fails(
        "verify", variant
    )
    variant.write_bytes(whole)
    receipt = Path(f"{variant}.ablation.json")
    told = json.loads(receipt.read_text())
    told["selected"] = "0" * 64
    receipt.write_text(json.dumps(told))
    assert "selection  WRONG    other elements are drawn" in fails("verify", variant)
    told["ablation"]["edits"] = []
    receipt.write_text(json.dumps(told))
    assert "it was changed by hand" in refuse("verify", variant)


def test_mistakes_with_receipts(refuse: Run, run: Run, tmp_path: Path) -> None:
    base, variant = safetensors_file(tmp_path), tmp_path / "v.safetensors"
    assert "has no receipt; expected" in refuse("verify", base)
    run("component", base, "layers.1.attn", "-o", variant)
    receipt = f"{variant}.ablation.json"
    target = tmp_path / "x.safetensors"
    assert "the receipt is for" in refuse("apply", variant, receipt, "-o", target)
    assert "the receipt is for" in refuse("verify", variant, "--base", variant)
    assert "is not valid JSON" in refuse("apply", base, base, "-o", target)
    assert "cannot read" in refuse("apply", base, tmp_path / "none.json", "-o", target)
    for text, words in {
        "[]": "it is no JSON object",
        "{}": "it has no 'base'",
        '{"swap": {}}': "is a receipt of ablate swap",
    }.items():
        (tmp_path / "r.json").write_text(text)
        assert words in refuse("apply", base, tmp_path / "r.json", "-o", target)
    assert not target.exists()
    assert "exists" in refuse("apply", base, receipt, "-o", variant)


def test_a_swapped_checkpoint_is_verified_too(
    run: Run, fails: Run, hybrid: Path, tmp_path: Path
) -> None:
    target = tmp_path / "s.safetensors"
    run("swap", hybrid, "csi=off", "-o", target)
    assert run("verify", target).startswith("bytes  ok")
    target.write_bytes(target.read_bytes()[:-1] + b"x")
    assert fails("verify", target).startswith("bytes  WRONG")


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    run: Run, refuse: Run, hybrid: Path, tmp_path: Path
) -> None:
    base = zip_file(tmp_path)
    target = tmp_path / "v.pth"
    lines = run("component", base, "layers.0", "-o", target, "--dry-run").splitlines()
    assert lines[2].split() == [str(target), "layers.0.attn.weight", "8x6", "float32", "48", "192"]
    assert lines[3].split() == ["layers.0.ffn.weight", "8x6", "float32", "48", "192"]
    assert lines[4].startswith("dry run: nothing written; 1 copy of")
    units = run("units", base, "layers.0", "--percent", "10", "-o", tmp_path / "u", "--dry-run")
    assert units.splitlines()[2].split()[-2:] == ["4", "16"]
    swap = run("swap", hybrid, "csi=off", "-o", tmp_path / "s.safetensors", "--dry-run")
    assert swap.endswith("dry run: nothing written\n")
    graft = run("graft", hybrid, "--from", hybrid, "-o", tmp_path / "g.safetensors", "--dry-run")
    assert graft.endswith("dry run: nothing written\n")
    assert sorted(tmp_path.iterdir()) == [base]
    run("component", base, "layers.0", "-o", target)
    assert "exists" in refuse("component", base, "layers.0", "-o", target, "--dry-run")
    receipt = f"{target}.ablation.json"
    plan = run("apply", base, receipt, "-o", tmp_path / "w.pth", "--dry-run")
    assert plan.splitlines()[2].split()[1] == "layers.0.attn.weight"
    assert not (tmp_path / "w.pth").exists()


def test_a_tied_tensor_is_edited_once_and_reported(run: Run, tmp_path: Path) -> None:
    table = torch.ones(4, 3)
    base = tmp_path / "tied.pth"
    torch.save({"embed": table, "head": table, "row": table[0], "free": torch.ones(2)}, base)
    printed = run("component", base, "embed", "head", "-o", tmp_path / "a.pth")
    assert printed.splitlines() == [
        "head is the same tensor as embed: edited once",
        f"{tmp_path}/a.pth  12 elements of 1 tensor set",
        "embed shares its bytes with head, row: changed together",
    ]
    changed = torch.load(tmp_path / "a.pth", weights_only=True)
    assert not changed["head"].any()
    assert changed["free"].all()
    run("units", base, "*e*d", "--percent", "50", "-o", tmp_path / "u")
    (variant,) = (tmp_path / "u").glob("*.pth")
    assert (torch.load(variant, weights_only=True)["head"] == 0).sum() == 6


@pytest.mark.parametrize("units", [1, 100, 99_999, 3_000_000])
def test_what_is_drawn_in_parts_is_what_is_drawn_at_once(units: int) -> None:
    shape = (1500, 2000)
    key = hashlib.sha256(b"5/2/w").digest()[:16]
    numbers = np.random.Philox(key=np.frombuffer(key, "<u8").astype(np.uint64)).random_raw(3000000)
    expected = np.sort(np.argsort(numbers, kind="stable")[:units])
    assert np.array_equal(Random(units, 5, 2).indices("w", shape), expected)


PEAK = """
import subprocess
import sys
from pathlib import Path
from ablate_kit.cli.app import main
sys.argv = ["ablate", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code
(peak,) = (l.split()[1] for l in Path("/proc/self/status").open() if l.startswith("VmHWM"))
assert "torch" not in sys.modules
print(peak)
"""


@pytest.mark.parametrize("command", [["units", "a", "--percent", "50"], ["component", "a", "b"]])
def test_a_cut_takes_little_memory(tmp_path: Path, command: list[str]) -> None:
    large = torch.ones(2000, 2500)  # 20 MB each
    base = tmp_path / "base.pth"
    torch.save({"a": large, "b": large.t().contiguous().t(), "c": large + 1, "d": large + 2}, base)
    verb, *rest = command
    done = subprocess.run(
        [sys.executable, "-c", PEAK, verb, base, *rest, "-o", tmp_path / "v"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout.split()[-1]) < 20_000 + 60_000
