"""The adapter finds what MMDetection's own ``inference_detector`` finds; sweeps replay it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.inference.detect import detect
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.reports.results_file import timeless
from detector.data.dataset import read_image
from tests.ablate_kit.run_files import contents

Saves = Callable[[str], Any]


def adapter_of(one: Any, path: Path | None = None, model: str | None = None) -> Adapter:
    with open_checkpoint(path or one.checkpoint) as checkpoint:
        return open_adapter(checkpoint, model or f"mmdet:{one.config}", trust_remote_code=True)


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return read_image(path, *image.size)


def agree(one: Any, paths: list[Path]) -> None:
    from mmdet.apis import inference_detector, init_detector

    adapter = adapter_of(one)
    model = init_detector(str(one.config), str(one.checkpoint), device="cpu")
    expected = [inference_detector(model, str(path)).pred_instances for path in paths]
    alone = [detect(adapter, [pixels(path)])[0] for path in paths]
    together = detect(adapter, [pixels(path) for path in paths])
    for wanted, found, batched in zip(expected, alone, together, strict=True):
        order = np.argsort(-wanted.scores.numpy(), kind="stable")
        assert np.array_equal(found.boxes, wanted.bboxes.double().numpy()[order])
        assert np.array_equal(found.scores, wanted.scores.double().numpy()[order])
        assert np.array_equal(found.labels, wanted.labels.numpy()[order])
        # Sums of another order in a batch; near ties may change places.
        assert np.allclose(batched.scores, found.scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["detr", "conditional", "dab", "deformable", "two-stage", "dino"])
def test_detections_are_those_of_inference_detector(saved: Saves, data: Path, name: str) -> None:
    agree(saved(name), sorted(data.glob("*.png")))


def test_images_that_are_too_small_are_told(saved: Saves, data: Path) -> None:
    adapter = adapter_of(saved("dino"))
    inputs = dict(adapter.prepare(pixels(data / "2.png")).inputs)
    inputs["images"] = inputs["images"][..., :8, :8]
    with pytest.raises(UserError, match="does not run on images of 8x8 pixels"):
        adapter.forward(inputs)


@pytest.mark.parametrize("name", ["detr", "conditional", "dab", "deformable", "two-stage", "dino"])
def test_detections_tell_their_queries(saved: Saves, data: Path, name: str) -> None:
    from mmdet.structures import DetDataSample

    adapter = adapter_of(saved(name))
    image = pixels(data / "2.png")
    (found,) = detect(adapter, [image])
    images = adapter.prepare(image).inputs["images"]
    size = tuple(images.shape[-2:])
    about = {"img_shape": size, "batch_input_shape": size, "pad_shape": size}
    with torch.no_grad():
        logits = adapter.module(images, [DetDataSample(metainfo=about)], mode="tensor")[0][-1, 0]
    scores = logits.softmax(-1)[:, :-1] if name == "detr" else logits.sigmoid()
    assert found.queries is not None
    assert len(set(found.queries.tolist())) > 1
    assert np.allclose(scores.numpy()[found.queries, found.labels], found.scores, atol=1e-6)


@pytest.mark.parametrize("name", ["detr", "deformable", "dino"])
def test_so_they_are_on_photographs(saved: Saves, shared: Path, name: str) -> None:
    agree(saved(name), sorted((shared / "data/coco/val2017").glob("*.jpg"))[:10])


def test_the_checkpoint_carries_its_configuration(saved: Saves) -> None:
    one = saved("detr")
    assert adapter_of(one).same_model(adapter_of(one, model="mmdet"))
    assert not adapter_of(one).same_model(adapter_of(saved("deformable")))


def test_classes_go_by_name(saved: Saves, tmp_path: Path) -> None:
    one = saved("detr")
    content = torch.load(one.checkpoint)
    names = content["meta"]["dataset_meta"]["classes"]
    content["meta"]["dataset_meta"]["classes"] = names[::-1]
    torch.save(content, tmp_path / "other.pth")
    assert adapter_of(one, tmp_path / "other.pth").classes == tuple(names[::-1])
    del content["meta"]["dataset_meta"]  # then the data set that the configuration names tells
    torch.save(content, tmp_path / "none.pth")
    assert adapter_of(one, tmp_path / "none.pth").classes == tuple(names)
    content["meta"]["dataset_meta"] = {"classes": names[:20]}
    torch.save(content, tmp_path / "few.pth")
    with pytest.raises(UserError, match="names 20 classes for 80 outputs of bbox_head"):
        adapter_of(one, tmp_path / "few.pth")


@pytest.mark.parametrize("name", ["detr", "deformable", "dino"])
def test_replay_gives_the_same_bytes(saved: Saves, data: Path, tmp_path: Path, name: str) -> None:
    one = saved(name)
    recipe = {
        "model": {"checkpoint": str(one.checkpoint), "framework": f"mmdet:{one.config}"},
        "data": {"kind": "coco", "annotations": str(data / "all.json"), "images": str(data)},
        "evaluation": {"batch_size": 2, "resamples": 20},
        "ablations": [
            {"kind": "heads", "pattern": "decoder.layers.1.self_attn"},
            {"kind": "layers", "base": "decoder.layers", "part": "cross_attn"},
            {"kind": "units", "pattern": "query_embedding.weight", "percent": [10]},
            {"kind": "component", "pattern": ["bbox_head"]},
        ],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    for option in ("--no-replay", "--workers=2"):
        run = ablate("sweep", tmp_path / "recipe.yaml", "--trust-remote-code", option,
                     "-o", tmp_path / option)  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert "in full" not in run.stderr
    a, b = tmp_path / "--no-replay", tmp_path / "--workers=2"
    assert (a / "report" / "queries.png").is_file()
    assert len(list((a / "detections").iterdir())) == 9
    assert contents(a) == contents(b)


def test_variants_from_files_and_from_sweeps_agree(
    saved: Saves, data: Path, tmp_path: Path
) -> None:
    one = saved("deformable")
    where = ("--annotations", data / "all.json", "--images", data)
    assert not ablate("heads", one.checkpoint, "decoder.layers.0.cross_attn", "--heads", 1,
                      "-o", tmp_path).returncode  # fmt: skip
    (cut,) = tmp_path.glob("*.pth")
    for option in ("--no-replay", "--resamples=10"):
        run = ablate("eval", one.checkpoint, cut, *where, "--model", "mmdet", "--json", option,
                     "--trust-remote-code", "--resamples", 10)  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert len(json.loads(run.stdout)) > 0
        (tmp_path / option).write_bytes(timeless(run.stdout.encode()))
    assert (tmp_path / "--no-replay").read_text() == (tmp_path / "--resamples=10").read_text()


def ablate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ablate_kit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_configuration_needs_trust(saved: Saves, data: Path, tmp_path: Path) -> None:
    one = saved("detr")
    where = ("--annotations", data / "all.json", "--images", data)
    for model in ("mmdet", f"mmdet:{one.config}"):
        run = ablate("eval", one.checkpoint, *where, "--model", model)
        assert (run.returncode, run.stderr.count("\n")) == (2, 1)
        assert "read it, then add --trust-remote-code" in run.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = dict(", "broken.py does not run: "),
        ("raise OSError('no disk')", "does not run: OSError: no disk"),
        ("model = dict(type='Nothing')", "cannot build the configuration's model: KeyError"),
    ],
)  # fmt: skip
def test_a_configuration_may_be_broken(
    saved: Saves, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "broken.py").write_text(text + "\n")
    with pytest.raises(UserError, match=message):
        adapter_of(saved("detr"), model=f"mmdet:{tmp_path / 'broken.py'}")


def test_weights_must_fit(saved: Saves, tmp_path: Path) -> None:
    one = saved("detr")
    with pytest.raises(UserError, match=r'".+" has shape .+, the model expects'):
        adapter_of(one, saved("deformable").checkpoint)
    content = torch.load(one.checkpoint)
    query = content["state_dict"].pop("query_embedding.weight")
    torch.save(content, tmp_path / "fewer.pth")
    with pytest.raises(UserError, match=r'"query_embedding\.weight" of the model'):
        adapter_of(one, tmp_path / "fewer.pth")
    content["state_dict"] |= {"query_embedding.weight": query, "extra": query}
    torch.save(content, tmp_path / "more.pth")
    with pytest.raises(UserError, match='"extra" has no place in the model'):
        adapter_of(one, tmp_path / "more.pth")


def test_older_files_hold_colors_too(saved: Saves, tmp_path: Path) -> None:
    one = saved("detr")
    content = torch.load(one.checkpoint)
    content["state_dict"]["data_preprocessor.mean"] = torch.ones(3, 1, 1)
    torch.save(content, tmp_path / "older.pth")
    adapter = adapter_of(one, tmp_path / "older.pth")
    assert "data_preprocessor.mean" not in adapter.live_names()
