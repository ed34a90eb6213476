"""What the commands say to a user's mistakes: one line, exit code 2, nothing half-written."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.ablate_kit.conftest import Run


def test_patterns_heads_and_percentages(refuse: Run, hybrid: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "v")
    assert 'did you mean "decoder.layers.0"' in refuse("keys", hybrid, "decoder.layer.0")
    assert "has no head 4; it has 4 heads" in refuse(
        "heads", hybrid, "decoder.layers.0.self_attn", "--heads", "4", *out)  # fmt: skip
    assert "is not part of an attention module" in refuse(
        "heads", hybrid, "queries", "--each", *out)  # fmt: skip
    assert "expected more than 0 and at most 100" in refuse(
        "units", hybrid, "queries.content", "--percent", "101", *out)  # fmt: skip
    assert 'cannot read --percent "a"' in refuse(
        "units", hybrid, "queries.content", "--percent", "a", *out)  # fmt: skip
    assert "give one of --heads, --percent and --each" in refuse(
        "heads", hybrid, "decoder", *out)  # fmt: skip
    assert "--repeats goes with --percent" in refuse(
        "heads", hybrid, "decoder", "--each", "--repeats", 2, *out)  # fmt: skip
    assert "layers were chosen" in refuse(
        "heads", hybrid, "decoder", "--each", "--layers", "0", *out)  # fmt: skip
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("eval MODEL --shapes --margin 0.1", "--margin has no effect on one alone"),
        ("eval MODEL --shapes --adjust fdr", "--adjust has no effect on one alone"),
        ("eval MODEL --shapes --resamples 9", "--resamples has no effect on one alone"),
        ("eval MODEL --shapes --other-weights ema", "--other-weights has no effect on one alone"),
        ("eval MODEL --shapes --no-replay", "--no-replay has no effect on one alone"),
        ("eval MODEL builtin:shapes_tiny --shapes --top 1 --json", "--top has no effect on --json"),
        ("score MODEL --annotations COCO --top 1", "--top has no effect on one alone"),
        ("knobs MODEL --shapes --depth --resamples 0 --margin 0.1", "no effect on --resamples 0"),
        ("knobs MODEL --shapes --depth --adjust holm", 'cannot adjust by "holm"'),
        ("score FOUND --annotations COCO --boxes xyxy", "--boxes goes with a JSON file; .npz has"),
        (
            "sweep builtin:shapes_tiny --modules neck --shapes --no-replay --memory 9 -o OUT",
            "--memory is for what replay recorded",
        ),
        ("heads MODEL decoder --each --seed 7 -o OUT", "--seed goes with --percent"),
        ("dissect MODEL component queries.content --seed 7 -o OUT", "so --seed does not go with"),
        ("mean MODEL neck --shapes --channels 0 --num-heads 4 -o OUT", "no effect on --channels"),
        ("meta MODEL --receipt --json", "--json has no effect on --receipt"),
        (
            "data convert --to coco --annotations COCO --images IMAGES --split-name a -o OUT",
            "--split-name has no effect on --to coco",
        ),
    ],
)
def test_options_without_effect_are_refused(
    refuse: Run, hybrid: Path, coco: tuple[Path, Path], tmp_path: Path, command: str, line: str
) -> None:
    places = {"MODEL": hybrid, "COCO": coco[0], "IMAGES": coco[1], "OUT": tmp_path / "v"}
    places["FOUND"] = tmp_path / "found.npz"
    places["FOUND"].touch()
    assert line in refuse(*(places.get(word, word) for word in command.split()))
    assert not (tmp_path / "v").exists()


def test_files_that_are_no_checkpoints(refuse: Run, hybrid: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(hybrid.read_bytes()[:-100])
    (tmp_path / "text.pth").write_text("hello")
    assert "broken.safetensors" in refuse("keys", broken)
    assert "text.pth" in refuse("eval", tmp_path / "text.pth", "--shapes")
    assert "missing.pth" in refuse("keys", tmp_path / "missing.pth")


def test_a_number_of_images_goes_with_limit(refuse: Run, hybrid: Path) -> None:
    for command in ("eval", "study"):
        assert refuse(command, hybrid, "--shapes", "4").endswith("images are --limit 4\n")


def test_a_folder_of_a_training_run_tells_its_checkpoints(
    refuse: Run, hybrid: Path, tmp_path: Path
) -> None:
    for name in ("best.pth", "model.safetensors", "log.jsonl", "optimizer.bin", "scheduler.bin"):
        (tmp_path / name).write_bytes(hybrid.read_bytes())
    line = refuse("study", tmp_path, "--shapes")
    assert "without config.json is of no framework that is recognized" in line
    assert line.endswith("; checkpoints beside it: best.pth\n")
    line = refuse("study", tmp_path, "--shapes", "--model", "transformers")
    assert line.endswith("it has no config.json; checkpoints in it: best.pth, model.safetensors\n")


def test_weights_in_a_hugging_face_folder_name_it(
    refuse: Run, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    weights = shutil.copytree(folders("detr"), tmp_path / "detr") / "model.safetensors"
    line = refuse("study", weights, "--shapes")
    assert "give the folder, whose config.json says what they are of" in line
    # The folder stands for other weights than these, or for none.
    half, old = weights.with_name("model.fp16.safetensors"), weights.with_name("pytorch_model.bin")
    told = f"give --model, whose config.json says what they are of: transformers:{weights.parent}\n"
    old.write_bytes(weights.read_bytes())
    assert refuse("study", old, "--shapes").endswith(told)
    old.unlink()
    weights.rename(half)
    assert refuse("study", half, "--shapes").endswith(told)


def test_a_run_that_is_not_there_has_a_neighbor(refuse: Run, tmp_path: Path) -> None:
    (tmp_path / "heads").mkdir()
    line = refuse("report", tmp_path / "haeds")
    assert line.endswith('no such folder; did you mean "heads"?\n')


def test_existing_outputs_are_kept(refuse: Run, run: Run, hybrid: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.safetensors"
    target.write_text("mine")
    assert "exists" in refuse("component", hybrid, "level_embed", "-o", target)
    assert target.read_text() == "mine"
    (tmp_path / "out").mkdir()
    assert "exists" in refuse("eval", hybrid, "--shapes", "--limit", 1, "-o", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_place_where_nothing_can_be_written_is_told_first(
    refuse: Run, hybrid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation may take hours."""
    monkeypatch.setattr(
        "ablate_kit.models.opening.open.choose", lambda *_: pytest.fail("a model is made")
    )
    (tmp_path / "file").write_text("mine")
    for command in (
        ("eval", hybrid, "--shapes"),
        ("predict", hybrid, tmp_path / "file"),
        ("knobs", hybrid, "--shapes", "--depth"),
        ("gradients", hybrid, "--shapes"),
    ):
        told = refuse(*command, "-o", tmp_path / "file/run/report")
        assert "file is a file, and a folder is needed" in told
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    told = refuse("eval", hybrid, "--shapes", "-o", tmp_path / "run/report")
    assert f"run/report: nothing can be written in {tmp_path}" in told
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_data_sets(refuse: Run, hybrid: Path, coco: tuple[Path, Path], tmp_path: Path) -> None:
    assert "give one data set" in refuse("eval", hybrid)
    assert "give one data set" in refuse("eval", hybrid, "--shapes", "--voc", tmp_path)
    alone = tmp_path / "_annotations.coco.json"
    alone.write_bytes(coco[0].read_bytes())
    assert "--annotations and --images go together: no image is beside" in refuse(
        "eval", hybrid, "--annotations", alone)  # fmt: skip
    told = refuse("eval", hybrid, "--annotations", tmp_path)
    assert "is a folder, and annotations are a file; name its file _annotations.coco.json" in told
    alone.unlink()
    assert "--voc and --split go together" in refuse("eval", hybrid, "--voc", tmp_path)
    assert "expected VOC" in refuse("eval", hybrid, "--voc", tmp_path, "--split", "2007:test")
    for device in ("tpu9", "meta"):  # no device, and one without numbers
        assert f'cannot use the device "{device}": ' in refuse(
            "eval", hybrid, "--shapes", "--device", device
        )
    told = refuse("eval", hybrid, "--shapes", "--device", "gpu")
    assert told.endswith('the device "gpu": expected cpu, cuda, cuda:1 or mps\n')
    images = tmp_path / "above" / "val"
    shutil.copytree(coco[1], images)
    above = refuse("eval", hybrid, "--annotations", coco[0], "--images", images.parent)
    assert above.endswith(f"image file is missing, as are all others; there is one in {images}\n")

    bad = json.loads(coco[0].read_text())
    bad["annotations"][0]["category_id"] = 99
    (tmp_path / "bad.json").write_text(json.dumps(bad))
    assert "category" in refuse(
        "eval", hybrid, "--annotations", tmp_path / "bad.json", "--images", coco[1])  # fmt: skip
    bad["images"], bad["annotations"] = [], []
    (tmp_path / "empty.json").write_text(json.dumps(bad))
    assert "empty.json" in refuse(
        "eval", hybrid, "--annotations", tmp_path / "empty.json", "--images", coco[1])  # fmt: skip

    shutil.copytree(coco[1], tmp_path / "images")
    next((tmp_path / "images").glob("*.png")).write_bytes(b"not an image")
    assert "image does not decode" in refuse(
        "eval", hybrid, "--annotations", coco[0], "--images", tmp_path / "images",
        "-o", tmp_path / "report")  # fmt: skip
    assert not (tmp_path / "report").exists()


def test_swaps(refuse: Run, hybrid: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.safetensors"
    assert 'did you mean "csi"' in refuse("swap", hybrid, "csy=off", "-o", target)
    assert "ending in .safetensors" in refuse("swap", hybrid, "csi=off", "-o", tmp_path / "x.pth")
    assert not target.exists()
    target.write_text("mine")
    assert "exists" in refuse("swap", hybrid, "csi=off", "-o", target)
    assert target.read_text() == "mine"
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, other)
    assert "is not a hybrid detector" in refuse(
        "swap", other, "csi=off", "-o", tmp_path / "y.safetensors"
    )


def test_a_graft_of_nothing(refuse: Run, hybrid: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"neck.keep.0.weight": torch.zeros(7)}, other)
    target = tmp_path / "x.safetensors"
    assert "has another shape than its place" in refuse(
        "graft", hybrid, "--from", other, "--skip-mismatched", "-o", target)  # fmt: skip
    assert not target.exists()
    assert "no tensor of the source belongs to encoder" in refuse(
        "graft", hybrid, "--from", other, "--parts", "encoder", "-o", target)  # fmt: skip


def test_conversions(refuse: Run, hybrid: Path, tmp_path: Path) -> None:
    assert "ending in .pth" in refuse(
        "convert", hybrid, "--to-legacy", "-o", tmp_path / "b.safetensors")  # fmt: skip
    assert "ending in .safetensors or .pth" in refuse("convert", hybrid, "-o", tmp_path / "b.bin")
    assert "exists" in refuse("convert", hybrid, "-o", hybrid)


def test_the_same_checkpoint_twice(refuse: Run, hybrid: Path) -> None:
    assert "a checkpoint is given twice" in refuse("eval", hybrid, hybrid, "--shapes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("evl", 'no command "evl"; did you mean "eval"? ablate --help lists all'),
        ("xyz", 'no command "xyz"; ablate --help lists all'),
        ("data vok", 'data: no command "vok"; did you mean "voc"? ablate data --help lists all'),
        ("eval a.pth --lmit 3", 'eval: no option "--lmit"; did you mean "--limit"?'),
        ("data voc --rot x", 'data voc: no option "--rot"; did you mean "--root"?'),
        ("keys a.pth -9", 'keys: no option "-9"; ablate keys --help lists all'),
        ("eval a.pth --shapes --limit 0", 'eval: invalid value for "--limit"'),
        ("eval a.pth --limit many", 'eval: invalid value for "--limit"'),
        ("keys", 'keys: missing argument "checkpoint" (A file'),
        ("heads a.pth --each", 'heads: missing argument "pattern" (Attention modules: names with'),
        ("keys a b c", "keys: got unexpected extra argument"),
        ("train a.yaml --device", 'option "--device" requires an argument'),
    ],
)
def test_command_lines_that_cannot_be_read(refuse: Run, arguments: str, message: str) -> None:
    assert message in refuse(*arguments.split())


@pytest.mark.parametrize("group", [[], ["data"]])
def test_a_command_without_anything_shows_its_help(run: Run, group: list[str]) -> None:
    assert "Usage: ablate" in run(*group)
    assert "COMMAND [ARGS]" in run(*group)
