"""Names that hold anything, through every command, to every place that shows them."""

import csv
import html.parser
import io
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from detector.config import preset
from detector.network.model import HybridDetector
from tests.hybrid_file import save_hybrid

Run = Callable[..., tuple[int, str, str]]

NASTY = (
    "a\u2028b",  # ends a line for str.splitlines, and in JavaScript
    "a\u0085b",
    "a\nb\r\nc",
    "\ud800",  # half of a character
    "\0nul",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "\u202egnp.exe",  # turns the direction of what follows
    "$x_{1$",  # almost mathematics
    "$\\frac{1}{2}$",
    "_hidden",
    "<script>alert(1)</script>",
    "\"' onload='alert(1)",
    "]]> --> <!-- &amp; &#0;",
    r"\input{/etc/passwd}%_#{}",
    "=1+cmd|'/C calc'!A0",
    "@SUM(A1)",
    "-2+3+cmd",
    "a|b`c`**d**[e](javascript:f)",
    "[red]a[/] [/b]",
    "../../x",
    "模型\u3000😀",
    ',";\t',
    "x" * 3000,
)
"""Of classes and tensors."""

# Linux takes any bytes as a name: here one that is no Unicode.
BYTE = "\udcff" if sys.platform == "linux" else ""

FILES = [name for name in NASTY if not set(name) & set("/\0\ud800") and len(name) < 200]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of nasty tensors, a detector of nasty classes, and images of them."""
    folder = tmp_path_factory.mktemp("nasty")
    tensors = {
        f"{name}.{part}": torch.ones(shape)
        for name in NASTY
        for part, shape in {
            "self_attn.in_proj_weight": (12, 4), "self_attn.in_proj_bias": (12,),
            "self_attn.out_proj.weight": (4, 4), "self_attn.out_proj.bias": (4,),
        }.items()
    }  # fmt: skip
    torch.save(
        tensors | {"tied": tensors[f"{NASTY[0]}.self_attn.in_proj_weight"]}, folder / "tensors.pth"
    )
    torch.save({name: tensor + 1 for name, tensor in tensors.items()}, folder / "others.pth")
    torch.manual_seed(0)
    config = preset("tiny").replace(
        image_size=64, widths=(16, 32, 16, 16), depths=(1, 1, 1, 1), d_model=32, queries=40,
        decoder_layers=1, num_classes=len(NASTY),
    )  # fmt: skip
    # Names of files, too: they are the names of variants.
    for name in (FILES[0], FILES[4]):
        save_hybrid(folder / f"{name}.safetensors", HybridDetector(config), NASTY)
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    images, boxes = [], []
    for i, name in enumerate(FILES[:3]):
        pixels = generator.integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
        images.append({"id": i, "file_name": f"{name}.png", "width": 64, "height": 64})
        boxes += [
            {"id": 1 + len(boxes) + j, "image_id": i, "category_id": j + 1, "iscrowd": 0,
             "bbox": [8, 8, 20, 20], "area": 400}
            for j in range(len(NASTY))
        ]  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(NASTY, start=1)]
    (folder / "coco.json").write_text(
        json.dumps({"images": images, "annotations": boxes, "categories": categories})
    )
    found = [
        {"image_id": box["image_id"], "bbox": box["bbox"], "score": 0.5 + i / 1000,
         "category_id": 1 + (box["category_id"] - i % 3) % len(NASTY)}
        for i, box in enumerate(boxes)
    ]  # fmt: skip
    for name, some in ((FILES[1], found), (FILES[3], found[: len(found) // 2])):
        (folder / f"{name}.json").write_text(json.dumps(some))
    recipe = {
        "model": {"checkpoint": str(folder / f"{FILES[0]}.safetensors")},
        "data": {"kind": "coco", "annotations": str(folder / "coco.json"),
                 "images": str(folder / "images")},
        "ablations": [{"kind": "heads", "pattern": "decoder.layers.0.self_attn"},
                      {"kind": "component", "pattern": ["encoder"], "name": NASTY[0]},
                      {"kind": "component", "pattern": ["neck"], "name": NASTY[7]},
                      {"kind": "component", "pattern": ["backbone"], "name": NASTY[10]}],
        "evaluation": {"batch_size": 3, "resamples": 10},
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(recipe))
    return folder


# --- surfaces


class Page(html.parser.HTMLParser):
    """Refuses what would run, or be fetched."""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in ("iframe", "object", "embed", "base", "link")
        assert tag != "script" or not attributes
        for name, value in attributes:
            assert not name.startswith("on"), (tag, attributes)
            if name in ("src", "href", "xlink:href"):
                assert value is not None
                assert value.startswith(("data:", "#")), value


def check_terminal(text: str) -> None:
    strange = [line for line in text.split("\n") if not line.isprintable()]
    assert strange == []
    text.encode()


def check_json(path: Path) -> None:
    text = path.read_bytes().decode()
    check_terminal(text)
    for line in text.splitlines() if path.suffix == ".jsonl" else [text]:
        json.loads(line)


def check_csv(path: Path) -> None:
    text = path.read_bytes().decode()
    check_terminal(text)
    rows = list(csv.reader(io.StringIO(text)))
    assert len(rows) == text.count("\n")
    assert len({len(row) for row in rows}) == 1
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "@"))
        assert not cell.startswith(("+", "-")) or "cmd" not in cell


def check_tex(path: Path) -> None:
    text = path.read_bytes().decode()
    check_terminal(text)
    assert "\\input" not in text
    for ours in (r"\$", r"$\Delta$", r"$\pm$", "$^*$", "$-$"):
        text = text.replace(ours, "")
    assert "$" not in text.partition("\\midrule")[2]


def check_markdown(path: Path) -> None:
    text = path.read_bytes().decode()
    check_terminal(text)
    assert not re.search(r"(?<!\\)[<\[`]", text)
    rows = [line.replace(r"\|", "") for line in text.split("\n") if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1


def check_html(path: Path) -> None:
    text = path.read_bytes().decode()
    check_terminal(text.replace("\t", ""))
    Page().feed(text)
    assert text.count("<script") == text.count('document.getElementById("filter")')  # our own


def check_picture(path: Path) -> None:
    with Image.open(path) as image:
        image.load()
        assert max(image.size) < 8000


def check_svg(path: Path) -> None:
    root = ElementTree.fromstring(path.read_bytes())  # noqa: S314 - our own file
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
    check_terminal(path.read_text())


CHECKS: dict[str, Callable[[Path], None]] = {
    ".json": check_json, ".jsonl": check_json, ".csv": check_csv, ".tex": check_tex,
    ".md": check_markdown, ".html": check_html, ".png": check_picture, ".jpg": check_picture,
    ".svg": check_svg,
}  # fmt: skip


def check_folder(folder: Path) -> dict[str, int]:
    """What each file is, and how many of each there are."""
    counts: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in CHECKS:
            CHECKS[path.suffix](path)
            counts[path.suffix] = counts.get(path.suffix, 0) + 1
    return counts


# --- commands


def ran(run: Run, *arguments: object, code: int = 0) -> str:
    found, out, err = run(*arguments)
    assert found == code, err
    check_terminal(out)
    check_terminal(err)
    assert all(len(line) < 330 for line in err.split("\n"))
    return out


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["keys", "{t}"], 0),
        (["keys", "{t}", "--stats"], 0),
        (["keys", "{t}", "--format", "tree"], 0),
        (["keys", "{t}", "--format", "json"], 0),
        (["keys", "{t}", "no.such.tensor"], 2),
        (["meta", "{t}"], 0),
        (["meta", "{t}", "--json"], 0),
        (["diff", "{t}", "{o}"], 1),
        (["diff", "{t}", "{o}", "--by", "values"], 1),
        (["diff", "{t}", "{o}", "--by", "values", "--json"], 1),
        (["units", "{t}", "**.weight", "--percent", "10", "-o", "{out}", "--dry-run"], 0),
        (["component", "{t}", "**", "-o", "{out}.pth", "--dry-run"], 0),
        (["component", "{t}", "**", "-o", "{out}.pth"], 0),
        (["component", "{t}", "**", "-o", "{out}.pth", "--json"], 0),
        (["heads", "{t}", "*.self_attn", "--each", "--num-heads", "2", "-o", "{out}"], 0),
        (["skip", "{t}", "*.self_attn", "-o", "{out}", "--json"], 0),
        (["levels", "{t}", "nothing", "-o", "{out}"], 2),
        (["graft", "{t}", "--from", "{o}", "--parts", "x", "-o", "{out}.pth"], 2),
        (["convert", "{t}", "--to", "hybrid", "-o", "{out}.safetensors"], 2),
        (["eval", "{t}", "--shapes"], 2),
    ],
    ids=lambda value: " ".join(value[:1] + value[2:4]) if isinstance(value, list) else "",
)
def test_tensors(run: Run, place: Path, tmp_path: Path, command: list[str], code: int) -> None:
    words = {"t": place / "tensors.pth", "o": place / "others.pth", "out": tmp_path / "out"}
    out = ran(
        run, *(word.format(**words) if word[:1] == "{" else word for word in command), code=code
    )
    if "json" in command[-1]:
        json.loads(out)
    check_folder(tmp_path)


def test_receipts(run: Run, place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "out.pth"
    ran(run, "component", place / "tensors.pth", "**", "-o", copy)
    assert "WRONG" not in ran(run, "verify", copy)
    json.loads(ran(run, "meta", copy, "--receipt"))
    again = tmp_path / "again.pth"
    ran(run, "apply", place / "tensors.pth", copy, "-o", again)
    assert again.read_bytes() == copy.read_bytes()


def test_score(run: Run, place: Path, tmp_path: Path) -> None:
    dumps = [place / f"{FILES[i]}.json" for i in (1, 3)]
    common = ["--annotations", place / "coco.json", "--resamples", "10"]
    ran(
        run, "score", *dumps, *common, "--protocol", "voc", "-o", tmp_path / "out", "--deep-dissect"
    )
    counts = check_folder(tmp_path)
    assert {".json", ".csv", ".md", ".png"} <= set(counts)
    results = json.loads((tmp_path / "out" / "results.json").read_text())["variants"]
    assert set(results[FILES[1]]["per_class"]) == set(NASTY)
    ran(run, "score", dumps[0], *common[:2])
    json.loads(ran(run, "score", *dumps, *common, "--json"))


def test_evaluation(run: Run, place: Path, tmp_path: Path) -> None:
    models = [place / f"{FILES[i]}.safetensors" for i in (0, 4)]
    data = ["--annotations", place / "coco.json", "--images", place / "images"]
    ran(run, "eval", *models, *data, "--resamples", "10", "-o", tmp_path / "out")
    assert {".json", ".csv", ".md", ".png"} <= set(check_folder(tmp_path))
    images = sorted((place / "images").iterdir())
    ran(run, "predict", models[0], *images, "--compare", models[1], "--score", "0",
        "-o", tmp_path / "seen")  # fmt: skip
    assert check_folder(tmp_path / "seen") == {".json": 3, ".png": 3}
    assert {path.parent for path in (tmp_path / "seen").rglob("*")} == {tmp_path / "seen"}
    ran(run, "data", "check", *data)


def test_a_sweep_can_be_opened_again(run: Run, place: Path, tmp_path: Path) -> None:
    out, copies = tmp_path / f"run{BYTE}", tmp_path / f"copies{BYTE}"
    ran(run, "sweep", place / "sweep.yaml", "-o", out, "--write", copies)
    # Runs of earlier versions have such letters as they are, in the middle of a line.
    ledger = out / "ledger.jsonl"
    escaped = ledger.read_text()
    raw = escaped.replace(r"\u2028", "\u2028").replace(r"\u0085", "\u0085")
    assert len(raw.splitlines()) > raw.count("\n")
    ledger.write_text(raw)
    ran(run, "report", out)
    ledger.write_text(escaped)
    counts = check_folder(out)
    assert set(CHECKS) - {".jpg"} <= set(counts)
    assert {path.parent for path in copies.iterdir()} == {copies}
    truth: dict[str, Any] = json.loads((out / "truth.json").read_text())
    assert [one["name"] for one in truth["categories"]] == list(NASTY)


def test_training(run: Run, place: Path, tmp_path: Path) -> None:
    coco, images = str(place / "coco.json"), str(place / "images")
    recipe = {
        "model": {
            "preset": "tiny", "image_size": 64, "widths": [16, 32, 16, 16], "depths": [1, 1, 1, 1],
            "d_model": 32, "queries": 6, "decoder_layers": 1,
        },
        "data": {"kind": "coco", "train_annotations": coco, "train_images": images,
                 "val_annotations": coco, "val_images": images},
        "training": {"epochs": 1, "batch_size": 3, "lr": 0.001},
    }  # fmt: skip
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(recipe))
    arms = [{"name": "whole"}, {"name": "__no-csi", "set": {"model.csi": False}}]
    study = {"base": "base.yaml", "seeds": [1], "arms": arms}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    out = tmp_path / f"study{BYTE}"
    ran(run, "retrain", tmp_path / "study.yaml", "-o", out)
    ran(run, "retrain", tmp_path / "study.yaml", "-o", out)  # reads its ledger
    counts = check_folder(out)
    assert {".json", ".jsonl", ".csv", ".md", ".tex", ".png", ".svg"} <= set(counts)
    model = out / "runs" / "whole-seed1" / "model.safetensors"
    assert "$x_{1$" in ran(run, "eval", model, "--annotations", coco, "--images", images)
    data = ["--annotations", coco, "--images", images, "--iterations", "2", "--batch-size", "2"]
    ran(run, "gradients", model, *data, "-o", tmp_path / f"gradients{BYTE}")
    assert {".json", ".csv", ".png"} <= set(check_folder(tmp_path / f"gradients{BYTE}"))
