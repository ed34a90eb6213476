"""What is otherwise on a Mac: calls of the system, workers, and what it leaves in folders."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from ablate_kit.checkpoints.digest import checkpoint_digest
from ablate_kit.checkpoints.weights import open_checkpoint
from ablate_kit.cli import main
from ablate_kit.metrics.detection_files.text_folders import texts
from detector.data.augmentation.letterbox import GRAY
from detector.data.classification import ImageFolders
from detector.data.conversion.hugging_face.split import find_split
from detector.data.formats.image_folder import images_in
from detector.data.formats.voc_classes import find_classes
from detector.data.formats.voc_devkit import splits_in
from detector.data.formats.yolo import Yolo
from detector.data.shapes import Shapes
from detector.data.training_set import EpochSampler, TrainingSet, loader
from detector.training.classification_task import Classification
from detector.training.detection_task import Detection
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.conftest import Run


def test_a_copy_has_the_same_bytes_without_the_kernels_help(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, written = tmp_path / "copied", tmp_path / "written"
    cut = ("heads", "builtin:shapes_tiny", "decoder.layers.0.self_attn", "--heads", 1, "-o")
    run(*cut, copied)
    monkeypatch.delattr(os, "copy_file_range")
    run(*cut, written)
    (one,), (other,) = copied.iterdir(), written.iterdir()
    assert one.read_bytes() == other.read_bytes()


def test_workers_need_nothing_of_this_process() -> None:
    # Spawned, as on macOS and by Python 3.14: what they get is pickled, and it is not the model.
    items = TrainingSet(Shapes(6, size=64), 64, GRAY, seed=3, flip=0.5, color=0.5, mosaic=0.5)
    items.dataset.annotations(0)  # what is drawn of it is kept
    sampler = EpochSampler(6, seed=3)
    batches = loader(items, sampler, batch_size=3, workers=1)
    batches.multiprocessing_context = "spawn"
    here = loader(items, sampler, batch_size=3, workers=0)
    for (one, targets), (other, others) in zip(batches, here, strict=True):
        assert torch.equal(one, other)
        assert [t["image_id"] for t in targets] == [t["image_id"] for t in others]


@pytest.mark.parametrize("task", [Detection, Classification])
def test_a_task_collates_without_its_model(task: type) -> None:
    one = object.__new__(task)
    one.model = lambda: None  # cannot be pickled
    assert pickle.loads(pickle.dumps(one.collate)) is one.collate  # noqa: S301


def leave(folder: Path) -> None:
    """What the Finder, archives and notebooks put beside files, which are no data."""
    known = list(folder.rglob("*"))
    for one in known:
        (one.parent / f"._{one.name}").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
    for one in (folder, *filter(Path.is_dir, known)):
        (one / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    for name in ("__MACOSX", ".ipynb_checkpoints"):
        for one in filter(Path.is_file, known):
            copy = folder / name / one.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(one, copy)


def of_classes(folder: Path) -> object:
    images = ImageFolders(folder)
    return images.classes, [images.name(i) for i in range(len(images))]


def of_voc(folder: Path) -> object:
    return splits_in(folder), find_classes([folder / "VOC2007"])


def of_yolo(folder: Path) -> object:
    dataset = Yolo(folder / "data.yaml")
    return dataset.notes, [dataset.annotations(i).file_name for i in range(len(dataset))]


def of_checkpoint(folder: Path) -> object:
    with open_checkpoint(folder) as checkpoint:
        return checkpoint_digest(checkpoint)


@pytest.mark.parametrize(
    ("files", "read"),
    [
        (("a/1.png", "b/2.png"), of_classes),
        (("1.png", "more/2.png"), images_in),
        (("VOC2007/ImageSets/Main/train.txt", "VOC2007/Annotations/1.xml"), of_voc),
        (("images/1.png", "labels/1.txt", "data.yaml"), of_yolo),
        (("data/train-0.parquet", "data/test-0.parquet"), lambda at: find_split(at, "train")),
        (("1.txt", "2.txt"), texts),
        (("model-of-one.safetensors", "model.safetensors"), of_checkpoint),
    ],
)
def test_what_a_system_leaves_in_folders_is_no_data(
    files: tuple[str, ...], read: Callable[[Path], object], tmp_path: Path
) -> None:
    contents = {
        ".txt": b"0 0.5 0.5 0.5 0.5\n",
        ".xml": b"<annotation><object><name>gear</name></object></annotation>",
        ".yaml": b"names: [cat]\nval: images\n",
        ".safetensors": SHAPES_TINY.read_bytes(),
    }
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.new("RGB", (8, 6)).save(path)
        else:
            path.write_bytes(contents.get(path.suffix, b""))
    before = read(tmp_path)
    leave(tmp_path)
    assert read(tmp_path) == before


@pytest.mark.usefixtures("undrawn")
def test_a_run_begins_in_a_folder_that_was_looked_at(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    cut = ("--modules", "backbone.csi", "--shapes", "--limit", 1)
    run("sweep", "builtin:shapes_tiny", *cut, "-o", tmp_path)


def test_another_system_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    assert capfd.readouterr().err == "ablate: runs on Linux and macOS; on Windows, in WSL 2\n"
