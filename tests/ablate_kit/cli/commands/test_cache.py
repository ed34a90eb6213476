"""``ablate sweep --cache`` and ``ablate cache``: the same files, sooner, and a folder that is shown
and cleared."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.data import image_files
from tests.ablate_kit.conftest import Run
from tests.ablate_kit.run_files import contents
from tests.attacks.stopped import stopped


def test_files_are_the_same_with_a_cache_that_is_empty_killed_or_full(
    run: Run, recipe: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    command = ("sweep", recipe, "-o", tmp_path / "killed", "--cache", cache)
    killed = stopped("SIGKILL", 2, "pathlib:Path.replace", *command)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    run("sweep", recipe, "-o", tmp_path / "plain")
    run("sweep", recipe, "-o", tmp_path / "first", "--cache", cache)
    run("sweep", recipe, "-o", tmp_path / "second", "--cache", cache, "--device", "cpu,cpu")
    assert contents(tmp_path / "first") == contents(tmp_path / "plain")
    assert contents(tmp_path / "second") == contents(tmp_path / "plain")
    shown = run("cache", cache).splitlines()
    assert shown[0].split() == ["model", "and", "environment", "batches", "MB", "last", "used"]
    assert shown[-1].startswith("3 recordings of batches of images, ")
    assert run("cache", cache, "--clear").startswith(f"{cache}: 3 recordings removed, ")
    assert run("cache", cache) == f"0 recordings of batches of images, 0.00 MB in {cache}\n"
    assert [path.name for path in cache.iterdir()] == ["cache.json"]


def test_a_second_sweep_decodes_no_image(
    run: Run,
    folders: Callable[[str], Path],
    coco: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (annotations, images), cache = coco, tmp_path / "cache"
    decoded: list[Path] = []
    decode = image_files.decode

    def counted(path: Path, exif: image_files.Exif = "ignore") -> image_files.Pixels:
        decoded.append(path)
        return decode(path, exif)

    monkeypatch.setattr(image_files, "decode", counted)
    heads = ("--heads", "model.decoder.layers.0.self_attn")
    data = ("--annotations", annotations, "--images", images)
    counts = []
    for name, more in (
        ("plain", ()),
        ("first", ("--cache", cache)),
        ("second", ("--cache", cache)),
    ):
        decoded.clear()
        run("sweep", folders("detr"), *heads, *data, "-o", tmp_path / name, *more)
        counts.append(len(decoded))
        assert contents(tmp_path / name) == contents(tmp_path / "plain")
    plain, first, second = counts  # pictures of a report decode some once more
    assert (first, second) == (plain, plain - 3)
    assert " and 1 batch of prepared images, " in run("cache", cache)
    assert " and 1 batch of prepared images removed, " in run("cache", cache, "--clear")


def test_mistakes(refuse: Run, recipe: Path, tmp_path: Path) -> None:
    sweep = ("sweep", recipe, "-o", tmp_path / "run")
    assert "--cache-size goes with --cache" in refuse(*sweep, "--cache-size", 3)
    assert "leave --no-replay out" in refuse(*sweep, "--cache", tmp_path / "x", "--no-replay")
    assert "something else than recordings" in refuse(*sweep, "--cache", tmp_path)
    assert "is a file; expected a folder" in refuse(*sweep, "--cache", recipe)
    assert "something else than recordings" in refuse("cache", tmp_path, "--clear")
    assert "no such folder" in refuse("cache", tmp_path / "absent")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.yaml"]
