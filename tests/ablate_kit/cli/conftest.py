"""Running commands as a user does."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ablate_kit.cli.app import main
from detector.data.shapes import Shapes

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``ablate`` and returns what it printed; fails unless it exits with 0, or ``code``."""

    def run(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["ablate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        assert (stop.value.code or 0) == code, printed.err
        return printed.out

    return run


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``ablate`` and returns what it printed; fails unless it exits with 1."""

    def fails(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["ablate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 1
        return capsys.readouterr().out

    return fails


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``ablate`` and returns the one line it said; fails unless it exits with 2."""

    def refuse(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["ablate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        assert stop.value.code == 2
        assert printed.out == ""
        assert printed.err.startswith("ablate: ")
        assert printed.err.count("\n") == 1, printed.err
        return printed.err

    return refuse


@pytest.fixture
def refuse_any(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """As ``refuse``, of whatever was printed before."""

    def refuse_any(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["ablate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        assert stop.value.code == 2
        assert printed.err.startswith("ablate: ")
        assert printed.err.count("\n") == 1, printed.err
        return printed.err

    return refuse_any


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three shapes images as a COCO data set."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("coco")
    shapes = Shapes(3, seed=5, size=96)
    images, annotations = [], []
    for i in range(3):
        one = shapes.annotations(i)
        Image.fromarray(shapes.image(i)).save(folder / one.file_name)
        images.append({"id": i, "file_name": one.file_name, "width": 96, "height": 96})
        for box, label, area, number in zip(one.boxes, one.labels, one.areas, one.ids, strict=True):
            x0, y0, x1, y1 = box.tolist()
            annotations.append(
                {"id": int(number), "image_id": i, "category_id": int(label) + 1, "iscrowd": 0,
                 "bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(area)}
            )  # fmt: skip
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(shapes.classes)]
    path = folder / "annotations.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path, folder
