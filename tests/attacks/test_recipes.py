"""No recipe, of no kind, and no --set ends in a traceback: one line says what, and where."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ablate_kit.errors import UserError
from ablate_kit.retraining.retrain_recipe import load_retraining
from ablate_kit.sweeps.recipes.sweep_recipe import load_sweep
from detector.training.recipes.pretrain_recipe import load_pretrain_recipe
from detector.training.recipes.train_recipe import load_recipe

Load = Callable[[Path, Sequence[str]], Any]
TRAIN = "model: {preset: tiny}\ndata: {kind: shapes}\n"
KINDS: dict[str, tuple[Load, str, str]] = {
    "sweep": (
        load_sweep,
        "model: {checkpoint: a.pth}\ndata: {kind: shapes}\n"
        "ablations: [{kind: units, pattern: a, percent: [10]}]\n",
        "evaluation.batch_size",
    ),
    "train": (load_recipe, TRAIN, "training.epochs"),
    "pretrain": (load_pretrain_recipe, TRAIN, "training.epochs"),
    "retrain": (load_retraining, "base: base.yaml\narms: [{name: one}]\n", "seeds"),
}
HOSTILE = {
    "date": "2001-99-99",
    "hexadecimal": "0x_",
    "binary": "0b_",
    "sixties": "1:99:99",
    "digits": "9" * 5000,
    "zeros": "0" * 5000,
    "float": "1." + "9" * 5000,
    "exponent": "1e" + "9" * 100,
    "tag": "!!bool abc",
    "timestamp tag": "!!timestamp abc",
    "null tag": "!!int ''",
    "binary tag": "!!binary é",
    "pairs": "!!omap [a]",
    "object": "!!python/object/apply:os.system [id]",
    "brackets": "[" * 3000,
    "braces": "{a: " * 3000,
    "closed brackets": "[" * 3000 + "]" * 3000,
    "questions": "? " * 3000,
    "self": "&a [*a]",
    "no anchor": "*a",
    "laughs": "{a: &a [x,x,x,x,x,x,x,x,x,x], "
    + ", ".join(f"{b}: &{b} [{','.join(f'*{a}' for _ in range(10))}]"
                for a, b in zip("abcdefghi", "bcdefghij", strict=True))
    + "}",
    "merge": "{<<: *a}",
    "surrogate": '"\\ud800"',
    "null": '"a\\0b"',
    "large escape": '"\\Uffffffff"',
    "key": "{1: 2}",
    "list key": "{[1]: 2}",
    "unprintable": "\x07",
    "text": "x" * 100_000,
    "map": "{a: 1}",
    "nan": ".nan",
    "long key": "{" + "k" * 1000 + ": 1}",
}  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Load, Path, str]:
    load, text, key = KINDS[request.param]
    (tmp_path / "base.yaml").write_text(TRAIN)
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    load(path, [])  # which is right as it is
    return load, path, key


def refusal(load: Load, path: Path, settings: Sequence[str] = ()) -> str:
    with pytest.raises(UserError) as error:
        load(path, settings)
    text = str(error.value)
    assert "\n" not in text
    assert len(text.replace(str(path), "")) < 400
    return text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_value_is_told_with_its_place(kind: tuple[Load, Path, str], name: str) -> None:
    load, path, key = kind
    section, _, leaf = key.partition(".")
    lines = path.read_text().splitlines()
    lines += [f"{section}:", f"  {leaf}: {HOSTILE[name]}"] if leaf else [f"{key}: {HOSTILE[name]}"]
    path.write_text("\n".join(lines) + "\n")
    text = refusal(load, path)
    line = len(lines) + ("stream end" in text or "flow" in text)
    assert text.startswith((f"{path}:{len(lines)}:", f"{path}:{line}:"))


@pytest.mark.parametrize("name", HOSTILE)
def test_an_override_is_told(kind: tuple[Load, Path, str], name: str) -> None:
    load, path, key = kind
    assert f'--set "{key}=' in refusal(load, path, [f"{key}={HOSTILE[name]}"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("x" * 5000, "expected KEY.KEY=VALUE"),
        ("=", "expected KEY.KEY=VALUE"),
        (".".join("a" * 3000) + "=1", "sections deep"),
        ("x" * 5000 + "=1", "unknown key"),
    ],
)
def test_an_odd_key_is_told(kind: tuple[Load, Path, str], override: str, words: str) -> None:
    load, path, _ = kind
    if load is load_retraining and words == "unknown key":
        words = "arm one: "  # it is handed on to the training recipe
    assert words in refusal(load, path, [override])


def test_files_are_read_to_a_bound_that_an_option_raises(
    kind: tuple[Load, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, path, _ = kind
    assert refusal(load, Path("/dev/zero")) == "/dev/zero is a device; expected a file"
    path.write_text(path.read_text() + "#" * 2**18)
    assert f"{path} holds more than 0.262 MB" in refusal(load, path)
    monkeypatch.setenv("ABLATE_READ_LIMIT", "1MB")
    load(path, [])


def test_files_that_are_no_text_are_told(kind: tuple[Load, Path, str]) -> None:
    load, path, _ = kind
    path.write_bytes(b"a: 1\nb: \xff\xfe\n")
    assert f"{path}:2:4: this is not text in UTF-8" in refusal(load, path)
    path.write_bytes(b"\xff\xfea\0:\0")
    assert f"{path}:1:1: this is not text in UTF-8" in refusal(load, path)
    assert f"cannot read {path.parent}: Is a directory" in refusal(load, path.parent)
    for text in ("", "[1]", "text", "~"):
        path.write_text(text)
        assert f"{path} holds no recipe: expected the keys" in refusal(load, path)


def test_a_recipe_may_come_from_a_pipe(kind: tuple[Load, Path, str]) -> None:
    load, path, _ = kind
    text = path.read_bytes()
    pipe = path.parent / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[text])
    writer.start()
    load(pipe, [])
    writer.join()


@pytest.mark.parametrize(
    ("rules", "settings", "words"),
    [
        ("[{kind: units, pattern: a, percent: [10, 20], repeats: 1000000000}]", [],
         "recipe.yaml:3:13: with this line the recipe makes 2,000,000,000 variants, more than "
         "max_variants, 100,000; --set max_variants=2000000000 allows them"),
        ("[{kind: units, pattern: a, percent: [10], null_cuts: 1000000000000}]", [],
         "makes 1,000,000,000,001 variants"),
        ("[{kind: noise, pattern: a, percent: [1], repeats: 99999, null_cuts: 9}]", [],
         "makes 999,990 variants"),
        ("[{kind: units, pattern: a, percent: [10], repeats: 3},"
         " {kind: scale, pattern: a, factors: [1, 2]}]", ["max_variants=4"],
         "recipe.yaml:3:67: with this line the recipe makes 5 variants, more than max_variants, 4"),
    ],
)  # fmt: skip
def test_variants_are_counted_before_they_are_made(
    tmp_path: Path, rules: str, settings: list[str], words: str
) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from ablate_kit.ablations.kinds.kind import KindContext
    from ablate_kit.checkpoints import open_checkpoint

    save_file({"a": np.ones(100, np.float32)}, tmp_path / "a.safetensors")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {{checkpoint: {tmp_path}/a.safetensors}}\ndata: {{kind: shapes}}\n"
        f"ablations: {rules}\n"
    )
    with open_checkpoint(tmp_path / "a.safetensors") as checkpoint:
        with pytest.raises(UserError) as error:
            load_sweep(path, settings).make(KindContext(checkpoint))
        assert words in str(error.value)
        if settings:
            assert len(load_sweep(path, ["max_variants=5"]).make(KindContext(checkpoint))) == 5


def test_runs_are_counted_before_they_are_made(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    (tmp_path / "base.yaml").write_text(TRAIN)
    arms = ", ".join(f"{{name: a{i}}}" for i in range(2000))
    path.write_text(f"base: base.yaml\nseeds: {list(range(2000))}\narms: [{arms}]\n")
    words = "2,000 arms times 2,000 seeds are 4,000,000 runs, more than max_runs, 1,000"
    assert words in refusal(load_retraining, path)
    path.write_text("base: base.yaml\nseeds: [1, 2]\narms: [{name: a}, {name: b}]\n")
    assert "4 runs, more than max_runs, 3" in refusal(load_retraining, path, ["max_runs=3"])
    assert len(load_retraining(path, ["max_runs=4"])[1]) == 4
