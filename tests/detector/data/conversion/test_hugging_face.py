"""Hugging Face data sets as COCO, against what ``datasets`` itself reads of the same folders."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.data.conversion.hugging_face.split import find_split
from detector.data.conversion.hugging_face.to_coco import Written, write_coco
from detector.data.formats.coco import Coco
from detector.errors import UserError

CLASSES = ("coverall", "mask", "gloves")


def jpeg(width: int, height: int, seed: int = 0, orientation: int = 1) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def rows(count: int = 7) -> dict[str, list[Any]]:
    """Of which every third image has no object."""
    objects = [
        {
            "bbox": [[1.5, 2.0, 10.0 + i, 5.0 + j] for j in range(i % 3)],
            "category": [(i + j) % 3 for j in range(i % 3)],
            "area": [40 + i + j for j in range(i % 3)],
            "iscrowd": list(range(i % 3)),
        }
        for i in range(count)
    ]
    images = [{"bytes": jpeg(60 + i, 40, i), "path": f"photo {i}.jpg"} for i in range(count)]
    return {"image_id": [100 - i for i in range(count)], "image": images, "objects": objects}


def written(folder: Path, place: Path, split: str | None = None, **options: Any) -> Written:
    place.mkdir()
    return write_coco(find_split(folder, split), place, **options)


@pytest.fixture(scope="module")
def made() -> Any:
    datasets = pytest.importorskip("datasets", reason="the extra imagenet is not installed")
    datasets.disable_progress_bars()
    features = datasets.Features(
        image_id=datasets.Value("int64"),
        image=datasets.Image(),
        objects={
            "bbox": datasets.List(datasets.List(datasets.Value("float64"), length=4)),
            "category": datasets.List(datasets.ClassLabel(names=list(CLASSES))),
            "area": datasets.List(datasets.Value("int64")),
            "iscrowd": datasets.List(datasets.Value("int64")),
        },
    )
    return datasets.Dataset.from_dict(rows(), features=features)


def on_the_hub(made: Any, folder: Path) -> None:
    """Two Parquet files of a split, beside another split."""
    (folder / "data").mkdir(parents=True)
    made.select(range(4)).to_parquet(folder / "data/test-00000-of-00002.parquet")
    made.select(range(4, 7)).to_parquet(folder / "data/test-00001-of-00002.parquet")
    made.select([3]).to_parquet(folder / "data/train-00000-of-00001.parquet")


def on_disk(made: Any, folder: Path) -> None:
    import datasets

    datasets.DatasetDict(train=made.select([3]), test=made).save_to_disk(folder)


def cached(made: Any, folder: Path) -> None:
    import datasets

    on_the_hub(made, folder.parent / "source")
    files = {"test": str(folder.parent / "source/data/test-*.parquet")}
    datasets.load_dataset("parquet", data_files=files, cache_dir=str(folder))


@pytest.mark.parametrize("write", [on_the_hub, on_disk, cached])
def test_it_is_what_datasets_reads(
    made: Any, write: Callable[[Any, Path], None], tmp_path: Path
) -> None:
    write(made, tmp_path / "source_folder")
    told = written(tmp_path / "source_folder", tmp_path / "coco", "test")
    assert (told.images, told.objects, told.oriented, list(told.notes)) == (7, 6, False, [])
    found = Coco(tmp_path / "coco/instances.json", tmp_path / "coco/images")
    assert (found.classes, found.category_ids) == (CLASSES, (0, 1, 2))
    assert len(found) == len(made)
    for index, row in enumerate(made):
        one, objects = found.annotations(index), row["objects"]
        assert one.image_id == row["image_id"]
        assert one.file_name == f"photo {index}.jpg"
        assert (found.image(index) == np.asarray(row["image"])).all()
        boxes = np.array(objects["bbox"]).reshape(-1, 4)
        assert (one.boxes == np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])).all()
        assert one.labels.tolist() == objects["category"]
        assert one.areas.tolist() == objects["area"]
        assert one.ignore.tolist() == [bool(mark) for mark in objects["iscrowd"]]


def image_folder(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(lines):
        (folder / str(one["file_name"])).write_bytes(jpeg(60, 40, number))
    text = "\n".join(map(json.dumps, lines))
    (folder / "metadata.jsonl").write_text(f"{text}\n")
    return folder


def lines(*categories: object, box: object = (1, 2, 10, 5)) -> list[dict[str, Any]]:
    return [
        {"file_name": f"{i}.jpg", "objects": {"bbox": [box], "categories": [one]}}
        for i, one in enumerate(categories)
    ]


def test_a_folder_of_images_whose_card_names_the_classes(tmp_path: Path) -> None:
    image_folder(tmp_path / "set/validation", lines(1, 0))
    (tmp_path / "set/README.md").write_text(
        "---\nlicense: mit\ndataset_info:\n  features:\n  - name: weather\n    dtype:\n"
        "      class_label:\n        names:\n          '0': sun\n          '1': rain\n"
        "  - name: objects\n    sequence:\n    - name: bbox\n      sequence: float32\n"
        "    - name: categories\n      dtype:\n        class_label:\n          names:\n"
        "            '0': cat\n            '1': dog\n---\n# Pets\n"
    )
    told = written(tmp_path / "set", tmp_path / "coco")
    assert (told.images, told.objects) == (2, 2)
    found = Coco(tmp_path / "coco/instances.json", tmp_path / "coco/images")
    assert found.classes == ("cat", "dog")
    assert [found.annotations(i).labels.tolist() for i in range(2)] == [[1], [0]]
    assert (found.image(1) == Coco.image(found, 1)).all()


def test_one_file_that_describes_all_splits(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / "set" / name).mkdir(parents=True)
    described = lines("a", "b", "b")
    names = ["train/train_0.jpg", "test/train_1.jpg", "test/2.jpg"]
    for one, name in zip(described, names, strict=True):
        one["file_name"] = name
    folder = image_folder(tmp_path / "set", described)
    with pytest.raises(UserError, match="several splits; give --split test, train"):
        find_split(folder, None)
    with pytest.raises(UserError, match='no split "validation" in it; there are test, train'):
        find_split(folder, "validation")
    written(folder, tmp_path / "coco", "test")
    found = Coco(tmp_path / "coco/instances.json", tmp_path / "coco/images")
    assert [found.annotations(i).file_name for i in range(2)] == ["train_1.jpg", "2.jpg"]


def test_splits_are_what_datasets_takes_for_them(tmp_path: Path) -> None:
    names = ("train/metadata.jsonl", "val/metadata.jsonl", "evaluation/metadata.jsonl")
    usual, own = tmp_path / "usual", tmp_path / "own"
    saved = [f"{name}/data-00000-of-00001.arrow" for name in ("hold-out", "main", "train_all")]
    sharded = [f"train_{name}-0000{i}-of-00002.parquet" for name in ("a", "b") for i in (0, 1)]
    shards = tmp_path / "shards"
    for folder, own_names in ((usual, names), (own, saved), (shards, sharded)):
        for name in own_names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()

    def files(folder: Path, name: str) -> list[str]:
        found = find_split(folder, name)
        assert len(found.of_all) >= 3
        return [path.relative_to(folder).as_posix() for path in found.files]

    for name in ("validation", "val", "dev"):
        assert files(usual, name) == ["val/metadata.jsonl"]
    for name in ("test", "evaluation"):
        assert files(usual, name) == ["evaluation/metadata.jsonl"]
    with pytest.raises(UserError, match="several splits; give --split hold-out, main, train_all"):
        find_split(own, None)
    assert files(own, "hold-out") == ["hold-out/data-00000-of-00001.arrow"]
    assert files(own, "train") == ["train_all/data-00000-of-00001.arrow"]
    with pytest.raises(UserError, match="several splits; give --split train_a, train_b"):
        find_split(shards, None)
    with pytest.raises(UserError, match="several splits; give --split train_a, train_b"):
        find_split(shards, "train")
    assert files(shards, "train_b") == sharded[2:]


def test_metadata_as_parquet(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra imagenet is not installed")
    datasets.disable_progress_bars()
    folder = image_folder(tmp_path / "set", lines("dog", "cat"))
    (folder / "metadata.jsonl").unlink()
    table = datasets.Dataset.from_list(lines("dog", "cat"))
    table.to_parquet(folder / "metadata.parquet")
    assert written(folder, tmp_path / "coco").objects == 2
    found = Coco(tmp_path / "coco/instances.json", tmp_path / "coco/images")
    assert [found.annotations(i).labels.tolist() for i in range(2)] == [[1], [0]]
    table.rename_column("file_name", "path").to_parquet(folder / "metadata.parquet")
    with pytest.raises(UserError, match=r'row 0: expected an object with a "file_name"'):
        written(folder, tmp_path / "x")


def test_metadata_as_csv(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "set", lines("dog", "cat"))
    (folder / "metadata.jsonl").unlink()
    path = folder / "metadata.csv"

    def write(*objects: str) -> None:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file_name", "image_id", "objects"])
            table.writerows((f"{i}.jpg", 7 - i, one) for i, one in enumerate(objects))

    write('{"bbox": [[1, 2, 10, 5]], "category": ["dog"]}', '{"bbox": [],\n"category": []}')
    assert written(folder, tmp_path / "coco").objects == 1
    found = Coco(tmp_path / "coco/instances.json", tmp_path / "coco/images")
    assert found.classes == ("dog",)
    assert [found.annotations(i).image_id for i in range(2)] == [7, 6]
    write("{'bbox': [[1, 2, 10, 5]], 'category': [0]}")
    with pytest.raises(UserError, match=r'metadata.csv:2: "objects" is .*; expected JSON, such as'):
        written(folder, tmp_path / "x")
    path.write_text("file_name,objects\n0.jpg,[],[]\n")
    with pytest.raises(UserError, match=r"metadata.csv:2: more cells than the first line"):
        written(folder, tmp_path / "y")
    path.write_text("image,objects\n0.jpg,[]\n")
    with pytest.raises(UserError, match=r'metadata.csv:2: expected an object with a "file_name"'):
        written(folder, tmp_path / "z")


def test_splits_have_the_same_classes(tmp_path: Path) -> None:
    """Also where categories are names, and one split lacks some of them."""
    image_folder(tmp_path / "set/train", lines("dog", "cat"))
    image_folder(tmp_path / "set/val", lines("horse", "ant"))
    for split in ("train", "val"):
        written(tmp_path / "set", tmp_path / split, split, most=1)
        found = Coco(tmp_path / split / "instances.json", tmp_path / split / "images")
        assert found.classes == ("ant", "cat", "dog", "horse")


def test_a_card_names_the_classes_of_a_table(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    import pyarrow

    (tmp_path / "set/data").mkdir(parents=True)
    parquet.write_table(pyarrow.table(rows()), tmp_path / "set/data/test.parquet")
    with pytest.raises(UserError, match="nothing says what they are called"):
        written(tmp_path / "set", tmp_path / "x")
    (tmp_path / "set/README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: objects\n    struct:\n    - name: category\n"
        "      list:\n        class_label:\n          names:\n            '0': coverall\n"
        "            '1': mask\n            '2': gloves\n---\n"
    )
    written(tmp_path / "set", tmp_path / "coco")
    assert Coco(tmp_path / "coco/instances.json", tmp_path / "coco/images").classes == CLASSES


def test_a_card_on_several_configurations(tmp_path: Path) -> None:
    """Whose classes differ: those of the one that the folder is named after, or none."""
    form = (
        "- config_name: {0}\n  features:\n  - name: objects\n    struct:\n    - name: categories\n"
        "      list:\n        class_label:\n          names:\n            '0': {0} 0\n"
    )
    infos = form.format("mini") + form.format("full")
    for name in ("mini", "full", "other"):
        image_folder(tmp_path / "set" / name, lines(0))
    (tmp_path / "set/README.md").write_text(f"---\ndataset_info:\n{infos}---\n")
    for name in ("mini", "full"):
        written(tmp_path / "set" / name, tmp_path / name)
        found = Coco(tmp_path / name / "instances.json", tmp_path / name / "images")
        assert found.classes == (f"{name} 0",)
    with pytest.raises(UserError, match="nothing says what they are called"):
        written(tmp_path / "set/other", tmp_path / "other")


def test_classes_by_name_or_by_a_list(tmp_path: Path) -> None:
    named = image_folder(tmp_path / "named", lines("dog", "cat", "dog"))
    written(named, tmp_path / "by name")
    found = Coco(tmp_path / "by name/instances.json", tmp_path / "by name/images")
    assert found.classes == ("cat", "dog")
    assert [found.annotations(i).labels.tolist() for i in range(3)] == [[1], [0], [1]]
    with pytest.raises(UserError, match="categories have names already"):
        written(named, tmp_path / "a", classes=("x",))
    numbered = image_folder(tmp_path / "numbered", lines(1, 2))
    with pytest.raises(UserError, match=r"numbers, and nothing says .* give --class-names"):
        written(numbered, tmp_path / "b")
    written(numbered, tmp_path / "listed", classes=CLASSES)
    found = Coco(tmp_path / "listed/instances.json", tmp_path / "listed/images")
    assert found.classes == CLASSES
    with pytest.raises(UserError, match=r'"category_id" of annotations\[1\].* is 2, which no cate'):
        written(numbered, tmp_path / "c", classes=CLASSES[:2])


def test_boxes_of_other_kinds(tmp_path: Path) -> None:
    corners = image_folder(tmp_path / "corners", lines("a", "b", box=(30, 20, 50, 35)))
    with pytest.raises(UserError, match=r"2 of 2 boxes leave their image .* give --corners"):
        written(corners, tmp_path / "a")
    told = written(corners, tmp_path / "as sizes", corners=False)
    assert told.notes == ["boxes leave their image by more than a pixel (2)"]
    written(corners, tmp_path / "right", corners=True)
    found = Coco(tmp_path / "right/instances.json", tmp_path / "right/images")
    assert found.annotations(0).boxes.tolist() == [[30, 20, 50, 35]]
    sizes = image_folder(tmp_path / "sizes", lines("a", "b", box=(30, 20, 10, 5)))
    with pytest.raises(UserError, match=r"\[30, 20, 10, 5\] is before .* with --sizes boxes"):
        written(sizes, tmp_path / "b", corners=True)
    shares = image_folder(tmp_path / "shares", lines("a", box=(0.1, 0.2, 0.5, 0.5)))
    with pytest.raises(UserError, match="boxes are shares of the images' sides"):
        written(shares, tmp_path / "c")
    large = image_folder(tmp_path / "large", lines("a", box=(30, 2, 45, 5)))
    with_small = [*lines("a", box=(30, 2, 45, 5)), *lines("b", box=(30, 2, 9, 5))]
    with_small[1]["file_name"] = "1.jpg"
    sloppy = image_folder(tmp_path / "sloppy", with_small)
    with pytest.raises(UserError, match="give --corners"):
        written(large, tmp_path / "d")
    told = written(sloppy, tmp_path / "e")
    assert told.notes == ["boxes leave their image by more than a pixel (1)"]


def test_objects_in_other_forms(tmp_path: Path) -> None:
    objects = [{"bbox": [1, 2, 3, 4], "label": "a"}, {"bbox": [5, 6, 7, 8], "label": "b"}]
    apart = [{"file_name": "0.jpg", "annotations": []},
             {"file_name": "1.jpg", "annotations": objects}]  # fmt: skip
    beside = [{"file_name": "0.jpg", "weather": {"sun": 1}, "bbox": [], "category": []},
              {"file_name": "1.jpg", "bbox": [[1, 2, 3, 4], [5, 6, 7, 8]],
               "category": ["a", "b"]}]  # fmt: skip
    for name, form in (("apart", apart), ("beside", beside)):
        written(image_folder(tmp_path / name, form), tmp_path / f"{name}-coco")
        found = Coco(tmp_path / f"{name}-coco/instances.json", tmp_path / f"{name}-coco/images")
        assert found.annotations(1).boxes.tolist() == [[1, 2, 4, 6], [5, 6, 12, 14]]
        assert [len(found.annotations(i)) for i in range(2)] == [0, 2]


def test_names_of_images(tmp_path: Path) -> None:
    """That two images have, that no other format reads, that lead elsewhere, or that are none."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    import pyarrow

    names = ["a.jpg", "/data/A.jpg", "..", None, "b.gif", "c.JPEG"]
    table = pyarrow.table(
        {
            "image": [{"bytes": jpeg(60, 40, i), "path": name} for i, name in enumerate(names)],
            "objects": [{"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": ["x"]} for _ in names],
            "image_id": [5] * len(names),
        }
    )
    parquet.write_table(table, tmp_path / "all.parquet")
    place = tmp_path / "coco"
    written(tmp_path, place)
    listed = [one.name for one in sorted((place / "images").iterdir())]
    expected = ["000000000002.jpg", "000000000003.jpg", "000000000004.jpg", "A-000000000001.jpg"]
    assert listed == [*expected, "a.jpg", "c.JPEG"]
    found = Coco(place / "instances.json", place / "images")
    assert [found.annotations(i).image_id for i in range(6)] == list(range(6))


def test_orientation_is_that_of_datasets(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "set", lines("a", "b"))
    (folder / "1.jpg").write_bytes(jpeg(60, 40, orientation=6))
    told = written(folder, tmp_path / "coco")
    assert told.oriented
    found = Coco(tmp_path / "coco/instances.json", tmp_path / "coco/images", exif="apply")
    assert [found.image(i).shape for i in range(2)] == [(40, 60, 3), (60, 40, 3)]


def test_what_is_no_such_folder(tmp_path: Path) -> None:
    def refused(words: str, folder: Path, split: str | None = None) -> None:
        with pytest.raises(UserError, match=words):
            find_split(folder, split)

    refused("no such folder", tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused("no Parquet or Arrow file in it, and no metadata.jsonl, .parquet or .csv", empty)
    (empty / "state.json").write_text('{"_data_files": []}')  # as save_to_disk of no rows
    refused("empty: was saved without rows", empty)
    data = tmp_path / "data"
    for name in ("test-00001-of-00002", "train-00000-of-00001", "a/validation", "b/validation"):
        path = data / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    refused("several splits; give --split test, train, validation", data)
    refused(
        'no split "tset" in it; there are test, train, validation; did you mean "test"',
        data,
        "tset",
    )
    refused("test-00000-of-00002.parquet is missing, one of 2 parts", data, "test")
    refused("in several folders; give one of them in its place: .*/a, .*/b", data, "validation")


def test_bad_contents(tmp_path: Path) -> None:
    def refused(words: str, text: str) -> None:
        folder = tmp_path / f"set{len(list(tmp_path.iterdir()))}"
        image_folder(folder, lines("a"))
        (folder / "metadata.jsonl").write_text(text)
        with pytest.raises(UserError, match=words):
            written(folder, tmp_path / f"{folder.name}-coco")

    good = json.dumps(lines("a")[0])
    refused("jsonl:2: not JSON", f"{good}\n{{")
    refused('jsonl:1: expected an object with a "file_name"', "[1]\n")
    refused('"../0.jpg" does not stay inside the folder', good.replace("0.jpg", "../0.jpg"))
    refused("1.jpg: image file is missing", good.replace("0.jpg", "1.jpg"))
    refused("no images in this split", "\n")
    refused("no objects in its columns .mood.", '{"file_name": "0.jpg", "mood": 1}')
    refused("lists of several lengths: 1 of bbox, 2 of categories",
            good.replace('["a"]', '["a", "b"]'))  # fmt: skip
    refused('"categories" is "a"; expected a list', good.replace('["a"]', '"a"'))
    refused("expected .x, y, width, height. in pixels", good.replace("[1, 2, 10, 5]", '"1"'))


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    import pyarrow

    for suffix in ("parquet", "arrow"):
        folder = tmp_path / suffix
        folder.mkdir()
        for content in (b"", b"PAR1" * 40):
            (folder / f"test.{suffix}").write_bytes(content)
            with pytest.raises(UserError, match=rf"test.{suffix}: cannot be read: ."):
                written(folder, tmp_path / f"{suffix}{len(content)}")
    table = pyarrow.table({"image": [{"bytes": None, "path": "/etc/hostname"}]})
    parts = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = table.cast(pyarrow.schema([("image", parts)]))
    (tmp_path / "elsewhere").mkdir()
    parquet.write_table(table, tmp_path / "elsewhere/test.parquet")
    with pytest.raises(UserError, match="row 0: holds no image, at most where one lies"):
        written(tmp_path / "elsewhere", tmp_path / "x")
    table = pyarrow.table({"image": [b"no image"], "bbox": [[]], "category": [[]]})
    (tmp_path / "broken").mkdir()
    parquet.write_table(table, tmp_path / "broken/test.parquet")
    with pytest.raises(UserError, match="row 0: image does not decode"):
        written(tmp_path / "broken", tmp_path / "y")


def test_text_of_any_characters(tmp_path: Path) -> None:
    """Only line feeds end a line, and JSON has halves of characters."""
    described = [one | {"caption": "a\u2028b\x85"} for one in lines("\ud800", "b")]
    folder = image_folder(tmp_path / "a", described)
    text = "\n".join(json.dumps(one, ensure_ascii=False) for one in described)
    (folder / "metadata.jsonl").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=r"metadata\.jsonl: not text in UTF-8"):
        written(folder, tmp_path / "refused")
    (folder / "metadata.jsonl").write_text(text.replace("\ud800", r"\ud800"), encoding="utf-8")
    assert written(folder, tmp_path / "coco").objects == 2
    assert Coco(tmp_path / "coco/instances.json", tmp_path / "coco/images").classes == (
        "b", "\ud800",
    )  # fmt: skip


DAMAGED = """
import contextlib, random, shutil, sys
from pathlib import Path
from detector.data.conversion.hugging_face.to_coco import write_coco
from detector.data.conversion.hugging_face.split import find_split
from detector.errors import UserError
from tests.attacks.fuzz import damaged

whole, out = Path(sys.argv[1], "train.arrow"), Path(sys.argv[2])
data = whole.read_bytes()
for number in range(150):
    whole.write_bytes(damaged(random.Random(number), data))
    out.mkdir()
    with contextlib.suppress(UserError):
        write_coco(find_split(whole.parent, None), out)
    shutil.rmtree(out)
"""


def test_damaged_tables_end_no_process(tmp_path: Path) -> None:
    """Arrow's readers believe what a file says of where its values lie, unless they are asked."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    table = pyarrow.table(rows())
    (tmp_path / "in").mkdir()
    with pyarrow.ipc.new_stream(tmp_path / "in/train.arrow", table.schema) as stream:
        stream.write_table(table)
    assert written(tmp_path / "in", tmp_path / "coco", classes=CLASSES).images == 7
    done = subprocess.run(
        [sys.executable, "-c", DAMAGED, tmp_path / "in", tmp_path / "out"],
        cwd=Path(__file__).parents[4], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


MOST = """
import sys
from pathlib import Path
import pyarrow
from detector.data.conversion.hugging_face.split import find_split

rows = find_split(Path(sys.argv[1]), None).rows()
print(sum(1 for _ in rows), pyarrow.default_memory_pool().max_memory())
"""


def test_one_image_is_in_memory_at_a_time(tmp_path: Path) -> None:
    """Parquet keeps a value that all rows share once: 40 MB in each of 20 are some kilobytes."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    import pyarrow

    table = pyarrow.table({"image": [bytes(40_000_000)] * 20, "n": list(range(20))})
    parquet.write_table(table, tmp_path / "train.parquet", compression="zstd")
    assert (tmp_path / "train.parquet").stat().st_size < 100_000
    done = subprocess.run(
        [sys.executable, "-c", MOST, tmp_path],
        cwd=Path(__file__).parents[4], capture_output=True, text=True, check=True,
    )  # fmt: skip
    count, most = map(int, done.stdout.split())
    assert count == 20
    assert most < 300_000_000


def test_an_image_larger_than_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    import pyarrow

    monkeypatch.setattr("detector.data.conversion.hugging_face.tables.DOCUMENT", 1000)
    table = pyarrow.table({"image": [jpeg(6, 4), bytes(1001)]})
    parquet.write_table(table, tmp_path / "train.parquet")
    rows = find_split(tmp_path, None).rows()
    assert next(rows).image == jpeg(6, 4)
    with pytest.raises(UserError, match=r"train\.parquet: row 1 holds more than 0\.001 MB"):
        next(rows)
