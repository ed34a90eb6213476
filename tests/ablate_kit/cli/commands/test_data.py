"""``ablate data`` as a user runs it."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from detector.data.formats import voc_archives
from tests.ablate_kit.conftest import Run

XML = """<annotation><size><width>40</width><height>30</height></size><object><name>dog</name>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>40</xmax><ymax>10</ymax></bndbox></object></annotation>"""


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC2007 with two images to train on and one to test on, below a VOCdevkit."""
    folder = tmp_path / "VOCdevkit/VOC2007"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for split, names in (("trainval", ("000001", "000002")), ("test", ("000003",))):
        (folder / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            (folder / "Annotations" / f"{name}.xml").write_text(XML)
            Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / f"{name}.jpg")
    return tmp_path


def test_what_of_voc_is_there(run: Run, voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run("data", "voc", "--root", voc, code=1)
    assert "2007:trainval     5,011       2            2       2  partial" in out
    assert "2012:trainval    11,540       0            0       0  missing" in out
    assert out.endswith("not complete; --download fetches the rest\n")
    small = [
        voc_archives.VocArchive("a.tar", "", "2007", "trainval", 2),
        voc_archives.VocArchive("b.tar", "", "2007", "test", 1),
    ]
    monkeypatch.setattr(voc_archives, "ARCHIVES", tuple(small))
    for root in (voc, voc / "VOCdevkit"):
        assert run("data", "voc", "--root", root).endswith("complete\n")
    told = json.loads(run("data", "voc", "--root", voc, "--download", "--json"))  # nothing to do
    assert told["complete"] is True
    assert told["splits"][1] == {
        "year": "2007", "split": "test", "expected": 1, "listed": 1, "annotations": 1, "images": 1,
        "complete": True,
    }  # fmt: skip
    (voc / "VOCdevkit/VOC2007/JPEGImages/000003.jpg").unlink()
    told = json.loads(run("data", "voc", "--root", voc, "--json", code=1))
    assert [part["complete"] for part in told["splits"]] == [True, False]


def test_mistakes_with_voc(refuse: Run, tmp_path: Path) -> None:
    missing = tmp_path / "none"
    assert "none: no such folder; --download makes it" in refuse("data", "voc", "--root", missing)
    assert "--site is for --download" in refuse(
        "data", "voc", "--root", tmp_path, "--site", "http://mirror")  # fmt: skip
    assert '"mirror" is no web address' in refuse(
        "data", "voc", "--root", missing, "--download", "--site", "mirror")  # fmt: skip
    assert not missing.exists()


def test_a_sound_data_set_passes(run: Run, coco: tuple[Path, Path], voc: Path) -> None:
    out = run("data", "check", "--annotations", coco[0], "--images", coco[1])
    assert out.endswith("no problems\n")
    told = json.loads(run("data", "check", "--voc", voc, "--split", "2007:trainval", "--json"))
    assert told["problems"] == 0
    assert told["data_sets"][0]["images"] == 2
    assert told["data_sets"][0]["classes"]["dog"] == {"objects": 2, "images": 2}


def test_problems_are_counted_and_end_with_1(
    run: Run, coco: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "coco"
    shutil.copytree(coco[1], folder)
    images = sorted(folder.glob("*.png"))
    images[0].write_bytes(images[0].read_bytes()[:200])
    images[1].unlink()
    arguments = ("data", "check", "--annotations", folder / "annotations.json", "--images", folder)
    out = run(*arguments, code=1)
    assert "missing image: 1  (listed, but there is no such file)" in out
    assert "undecodable image: 1" in out
    assert f"  {images[0]}: image does not decode" in out
    assert out.endswith("2 problems\n")
    told = json.loads(run(*arguments, "--json", code=1))
    assert told["data_sets"][0]["counts"] == {"missing image": 1, "undecodable image": 1}
    assert len(told["data_sets"][0]["problems"]) == 2


def test_a_recipe_has_both_of_its_splits_checked(run: Run, voc: Path) -> None:
    recipe = voc / "recipe.yaml"
    recipe.write_text(
        f"model: {{preset: tiny}}\ndata: {{kind: voc, root: '{voc}', train: '2007:trainval'}}"
    )
    out = run("data", "check", recipe)
    assert "VOC 2007:trainval       2" in out
    assert "VOC 2007:test           1" in out
    assert out.endswith("no problems\n")
    same = ("data", "check", recipe, "--set", "data.val=2007:trainval")
    assert "in both splits: 2" in run(*same, code=1)
    told = json.loads(run(*same, "--set", "data.train_limit=1", "--json", code=1))
    assert [one["images"] for one in told["data_sets"]] == [1, 2]
    assert [one["kind"] for one in told["between"]] == ["in both splits"]
    assert json.loads(run("data", "check", recipe, "--limit", 1, "--json"))["problems"] == 0


def test_images_beside_their_annotations_need_no_name(run: Run, coco: tuple[Path, Path]) -> None:
    beside = run("data", "check", "--annotations", coco[0])
    assert beside == run("data", "check", "--annotations", coco[0], "--images", coco[1])


def test_mistakes_with_check(refuse: Run, voc: Path, tmp_path: Path) -> None:
    shapes = tmp_path / "shapes.yaml"
    shapes.write_text("model: {preset: tiny}\ndata: {kind: shapes}")
    assert "give one data set" in refuse("data", "check")
    assert "give one data set" in refuse("data", "check", shapes, "--voc", voc)
    assert "--voc and --split go together" in refuse("data", "check", "--voc", voc)
    assert "is a folder, and" in refuse("data", "check", "--annotations", voc)
    assert "names no annotations to check" in refuse("data", "check", "--images", voc)
    assert "built-in shapes, which have no files" in refuse("data", "check", shapes)
    assert "--set changes a recipe; give one" in refuse(
        "data", "check", "--voc", voc, "--split", "2007:test", "--set", "data.root=x")  # fmt: skip
    assert "data.root is not set" in refuse(
        "data", "check", shapes, "--set", "data={kind: voc}")  # fmt: skip
    assert 'no split "tset"' in refuse("data", "check", "--voc", voc, "--split", "2007:tset")


def test_data_without_objects(
    run: Run,
    refuse: Run,
    hybrid: Path,
    coco: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = json.loads(coco[0].read_text())
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps(document | {"annotations": []}))
    told = "none of the 3 images has an object, so there is nothing to score against"
    (tmp_path / "dt.json").write_text("[]")
    assert told in refuse("score", tmp_path / "dt.json", "--annotations", empty)
    data = ("--annotations", empty, "--images", coco[1])
    assert told in refuse("eval", hybrid, *data)
    assert "no objects: 1  (nothing to learn from, or to be found)" in run(
        "data", "check", *data, code=1)  # fmt: skip
    ignored = tmp_path / "ignored.json"
    for one in document["annotations"]:
        one["iscrowd"] = "1"
    ignored.write_text(json.dumps(document))
    recipe = tmp_path / "recipe.yaml"
    kinds = {"train": ignored, "val": ignored}
    lines = [f"  {kind}_annotations: {path}\n  {kind}_images: {coco[1]}\n"
             for kind, path in kinds.items()]  # fmt: skip
    recipe.write_text("model: {preset: tiny}\ndata:\n  kind: coco\n" + "".join(lines))
    none = "none of the 3 training images has an object to learn"
    output = tmp_path / "run"
    assert none in refuse("train", recipe, "-o", output)
    assert none in refuse("gradients", recipe, "-o", output)
    assert none in refuse("gradients", hybrid, "--annotations", ignored, "--images", coco[1],
                          "-o", output)  # fmt: skip
    assert not output.exists()
