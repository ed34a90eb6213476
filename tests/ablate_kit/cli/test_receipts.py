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
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ablate_kit.ablations.edits import Random
from tests.ablate_kit.conftest import Ablate, Run


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
    receipt = tmp_path / "receipt.json"
    receipt.write_text(run("meta", variant, "--receipt"))
    again = tmp_path / f"again{variant.suffix}"
    run("apply", base, receipt, "-o", again)
    assert content(again) == content(variant)
    assert content(variant) != content(base)
    assert run("meta", again, "--receipt") == receipt.read_text()
    run("apply", base, variant, "-o", tmp_path / f"third{variant.suffix}")
    assert content(tmp_path / f"third{variant.suffix}") == content(variant)
    moved = base.rename(tmp_path / f"moved{base.suffix}")
    assert "unknown  not here" in run("verify", again)
    assert "unknown" not in run("verify", again, "--base", moved)


def test_a_receipt_says_what_was_done(run: Run, tmp_path: Path) -> None:
    base = safetensors_file(tmp_path)
    run("units", base, "layers.0.ffn", "--percent", "50", "--seed", 7, "-o", tmp_path / "v")
    (variant,) = (tmp_path / "v").glob("*.safetensors")
    assert [path.name for path in (tmp_path / "v").iterdir()] == [variant.name]
    with safe_open(variant, "pt") as opened:
        receipt = json.loads(opened.metadata()["ablate_kit.receipt"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    assert receipt["base"]["sha256"] == hashlib.sha256(base.read_bytes()).hexdigest()
    # The digest is that of the original's bytes with the drawn elements set to zero.
    expected = bytearray(base.read_bytes())
    start = len(expected) - sum(tensor.nbytes for tensor in tensors.values())
    with safe_open(base, "pt") as opened:
        header = json.loads(expected[8:start])
        at = start + header["layers.0.ffn.weight"]["data_offsets"][0]
    for position in Random(24, 7, 0).indices("layers.0.ffn.weight", (8, 6)).tolist():
        expected[at + 4 * position : at + 4 * position + 4] = bytes(4)
    assert receipt["output"]["sha256"] == hashlib.sha256(expected).hexdigest()
    assert receipt["versions"]["numpy"] == np.__version__
    (edit,) = receipt["ablation"]["edits"]
    assert edit["seed"] == 7
    listed = b'["layers.0.ffn.weight", [8, 6], {"draw": 0, "seed": 7, "units": 24}]'
    drawn = Random(24, 7, 0).indices("layers.0.ffn.weight", (8, 6)).astype("<i8").tobytes()
    assert receipt["selected"] == hashlib.sha256(listed + drawn).hexdigest()


def test_a_changed_copy_is_found_out(run: Run, refuse: Run, tmp_path: Path) -> None:
    base, variant = safetensors_file(tmp_path), tmp_path / "v.safetensors"
    run("component", base, "layers.1.attn", "-o", variant)
    whole = variant.read_bytes()
    variant.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    printed = run("verify", variant, code=1)
    assert printed.startswith("bytes      WRONG    SHA-256")
    assert "values     ok" in printed
    receipt = tmp_path / "other.safetensors.ablation.json"
    receipt.write_text(run("meta", variant, "--receipt"))
    other = tmp_path / "other.safetensors"
    other.write_bytes(base.read_bytes())
    assert "1 of 1 tensors hold other values, such as layers.1.attn.weight" in run(
        "verify", other, code=1
    )
    variant = other
    told = json.loads(receipt.read_text())
    told["selected"] = "0" * 64
    receipt.write_text(json.dumps(told))
    assert "selection  WRONG    other elements are drawn" in run("verify", variant, code=1)
    told["ablation"]["edits"] = []
    receipt.write_text(json.dumps(told))
    assert "it was changed by hand" in refuse("verify", variant)


def test_mistakes_with_receipts(refuse: Run, run: Run, tmp_path: Path) -> None:
    base, variant = safetensors_file(tmp_path), tmp_path / "v.safetensors"
    assert "has no receipt" in refuse("verify", base)
    assert "has no receipt" in refuse("meta", base, "--receipt")
    run("component", base, "layers.1.attn", "-o", variant)
    receipt = variant
    target = tmp_path / "x.safetensors"
    assert "the receipt is for" in refuse("apply", variant, receipt, "-o", target)
    assert "the receipt is for" in refuse("verify", variant, "--base", variant)
    assert "has no receipt" in refuse("apply", base, base, "-o", target)
    assert "--from goes with the receipt of a graft" in refuse(
        "apply", base, receipt, "-o", target, "--from", base)  # fmt: skip
    assert "--from goes with the receipt of a graft" in refuse("verify", variant, "--from", base)
    assert "cannot read" in refuse("apply", base, tmp_path / "none.json", "-o", target)
    for text, words in {
        "[]": "it is no JSON object",
        "{}": "it has no 'base'",
        "x": "is not valid JSON",
        '{"swap": {}}': "its swap.switches is None",
        '{"convert": {"to_legacy": false, "format": "torch"}}': "it has no 'base'",
    }.items():
        (tmp_path / "r.json").write_text(text)
        assert words in refuse("apply", base, tmp_path / "r.json", "-o", target)
    assert not target.exists()
    assert "exists" in refuse("apply", base, receipt, "-o", variant)


def test_receipts_written_beside_the_file_still_count(run: Run, tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    base, variant = safetensors_file(tmp_path), tmp_path / "v.safetensors"
    run("component", base, "layers.1.attn", "-o", variant)
    text = run("meta", variant, "--receipt")
    tensors = load_file(variant)
    save_file(tensors, variant)  # as it was without the receipt
    Path(f"{variant}.ablation.json").write_text(text)
    assert "WRONG" not in run("verify", variant)
    run("apply", base, f"{variant}.ablation.json", "-o", tmp_path / "again.safetensors")
    assert run("meta", tmp_path / "again.safetensors", "--receipt") == text


def test_a_cut_of_a_cut_has_a_receipt_of_its_own(run: Run, tmp_path: Path) -> None:
    base, first, second = (tmp_path / f"{n}.safetensors" for n in ("base", "first", "second"))
    safetensors_file(tmp_path)
    run("component", base, "layers.1.attn", "-o", first)
    run("component", first, "layers.2.attn", "-o", second)
    receipt = json.loads(run("meta", second, "--receipt"))
    assert receipt["base"]["path"] == str(first)
    assert receipt["base"]["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert "unknown" not in run("verify", second)
    tensors = load_file(second)
    assert [name for name, tensor in tensors.items() if not tensor.any()] == [
        "layers.1.attn.weight", "layers.2.attn.weight",
    ]  # fmt: skip


REWRITES = {
    "swap": ["swap", "BASE", "csi=off", "pgi=[1]", "--seed", "3"],
    "graft": ["graft", "BASE", "--from", "SOURCE", "--parts", "neck,encoder"],
    "convert": ["convert", "BASE"],
}


@pytest.mark.parametrize("verb", REWRITES)
def test_what_is_written_anew_is_verified_and_recreated_bit_for_bit(
    run: Run, refuse: Run, hybrid: Path, tmp_path: Path, verb: str
) -> None:
    base, source = (tmp_path / f"{name}.safetensors" for name in ("base", "source"))
    base.write_bytes(hybrid.read_bytes())
    run("component", hybrid, "neck", "-o", source)
    target, again = tmp_path / "new.safetensors", tmp_path / "again.safetensors"
    run(*({"BASE": base, "SOURCE": source}.get(w, w) for w in REWRITES[verb]), "-o", target)
    assert run("verify", target).splitlines()[1].startswith("original  ok")
    receipt = json.loads(run("meta", target, "--receipt"))
    assert {"ablate_kit", "python", "torch"} == receipt["versions"].keys()
    plan = run("apply", base, target, "-o", again, "--dry-run")
    assert f"ablate {verb} would be repeated" in plan
    assert not again.exists()
    run("apply", base, target, "-o", again)
    assert again.read_bytes() == target.read_bytes()
    assert "exists" in refuse("apply", base, target, "-o", again)
    told = refuse("apply", base, target, "-o", tmp_path / "x.pth")
    assert "would be a safetensors file" in told
    again.write_bytes(target.read_bytes()[:-1] + b"x")
    assert run("verify", again, code=1).startswith("bytes     WRONG")
    moved = base.rename(tmp_path / "moved.safetensors")
    assert "unknown  not here" in run("verify", target)
    assert "unknown" not in run("verify", target, "--base", moved)
    assert "the receipt is for" in refuse("apply", source, target, "-o", tmp_path / "x.safetensors")
    if verb == "graft":
        elsewhere = source.rename(tmp_path / "elsewhere.safetensors")
        assert "give --from to compare" in run("verify", target, "--base", moved)
        assert "unknown" not in run("verify", target, "--base", moved, "--from", elsewhere)
        assert "the receipt took tensors from" in refuse(
            "apply", moved, target, "-o", tmp_path / "x.safetensors", "--from", moved)  # fmt: skip
    assert not (tmp_path / "x.safetensors").exists()


def test_a_conversion_with_all_that_a_run_saved_is_recreated(
    run: Run, refuse: Run, hybrid: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.pth", tmp_path / "b.pth"
    run("convert", hybrid, "-o", first)
    assert "WRONG" not in run("verify", first)
    receipt = tmp_path / "a.pth.convert.json"
    run("apply", hybrid, receipt, "-o", second)
    assert second.read_bytes() == first.read_bytes()
    first.unlink()
    assert "a.pth.convert.json exists" in refuse("convert", hybrid, "-o", first)
    told = json.loads(receipt.read_text())
    told["output"]["sha256"] = "0" * 64
    receipt.write_text(json.dumps(told))
    assert "the copy would have SHA-256" in refuse(
        "apply", hybrid, receipt, "-o", tmp_path / "c.pth")  # fmt: skip
    assert not list(tmp_path.glob("*c.pth*"))


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
    convert = run("convert", hybrid, "-o", tmp_path / "c.safetensors", "--dry-run")
    assert convert.endswith("tensors renamed\ndry run: nothing written\n")
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


def test_other_weights_of_the_file_that_are_the_same_bytes_are_named(
    run: Run, tmp_path: Path
) -> None:
    """As those of ``{"model": model.state_dict(), "best": model.state_dict()}`` are."""
    table = torch.arange(1.0, 13).view(4, 3)
    base = tmp_path / "both.pth"
    own = {"embed": table, "free": torch.ones(2)}
    torch.save({"model": own, "ema": {"embed": table, "free": torch.zeros(2)}}, base)
    target = tmp_path / "a.pth"
    printed = run("component", base, "embed", "free", "-o", target)
    assert printed.splitlines()[1:] == ["embed shares its bytes with ema.embed: changed together"]
    assert not torch.load(target, weights_only=True)["ema"]["embed"].any()


@pytest.mark.parametrize("place", [".", "..", "/"])
def test_a_place_without_a_name(refuse: Run, tmp_path: Path, place: str) -> None:
    base = tmp_path / "base.pth"
    torch.save({"embed": torch.ones(4, 3), "free": torch.ones(2)}, base)
    assert f"{place} exists; choose another" in refuse("component", base, "embed", "-o", place)


def test_equal_copies_that_are_left_are_named(ablate: Ablate, tmp_path: Path) -> None:
    """Branches that share weights, as a program saves them that moved each from a GPU."""
    shared = torch.randn(300, 200, generator=torch.Generator().manual_seed(1))
    almost = shared.clone()
    almost[-1, -1] += 1
    tensors = {f"cls.{i}.weight": shared.clone() for i in range(6)}
    tensors |= {f"cls.{i}.bias": torch.zeros(300) for i in range(6)}
    tensors |= {"other": almost, "half": shared.half(), "wide": shared.clone().t()}
    base = tmp_path / "base.pth"
    torch.save(tensors, base)

    def said(*arguments: object) -> list[str]:
        printed = ablate(*arguments)
        assert not printed.code
        return printed.err.splitlines()

    note = "note: cls.0.weight has equal copies that are not cut with it: "
    for more in ([], ["--dry-run"], ["--json"]):
        target = tmp_path / f"a{len(more)}{''.join(more)}.pth"
        assert said("component", base, "cls.0", "-o", target, *more) == [
            f"{note}cls.1.weight, cls.2.weight, cls.3.weight and 2 more"
        ]
    assert said("component", base, "cls.{0-4}", "-o", tmp_path / "b.pth") == [
        f"note: cls.{i}.weight has equal copies that are not cut with it: cls.5.weight"
        for i in range(5)
    ]
    assert said("component", base, "cls", "-o", tmp_path / "c.pth") == []
    assert said("component", base, "other", "half", "wide", "-o", tmp_path / "d.pth") == []


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
    # The interpreter and two of the four tensors; pages that the system maps come and go.
    assert int(done.stdout.split()[-1]) < 2 * 20_000 + 50_000
