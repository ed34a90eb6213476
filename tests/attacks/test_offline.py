"""A local Hugging Face folder is evaluated without a socket, whatever its configuration names."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")

HERE = Path(__file__).parent
HUB = {
    "backbone": {"backbone": "someone/repo", "backbone_config": None},
    "backbone-timm": {"backbone": "hf_hub:someone/repo", "use_timm_backbone": True},
    "backbone-plain": {"model_type": "rf_detr", "backbone": "resnet18", "backbone_config": None},
    "nested": {"backbone_config": {"model_type": "timm_backbone", "backbone": "someone/repo"}},
    "attention": {"_attn_implementation": "someone/repo"},
    "attention-of-parts": {"attn_implementation": {"backbone_config": "someone/repo:x"}},
    "flash": {"_attn_implementation": "flash_attention_3"},
    "code": {"auto_map": {"AutoConfig": "someone/repo--mine.Config"}},
    "code-nested": {
        "backbone_config": {
            "model_type": "resnet",
            "auto_map": {"AutoBackbone": "someone/repo--m.X"},
        }
    },
    "name": {"_name_or_path": "someone/repo"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessorPil, ResNetConfig

    config = DetrConfig(
        backbone_config=ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1] * 4, layer_type="basic",
            out_features=["stage4"],
        ),
        use_timm_backbone=False, d_model=8, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=8,
        decoder_ffn_dim=8, num_queries=5, id2label={0: "cat", 1: "dog"},
    )  # fmt: skip
    place = tmp_path_factory.mktemp("offline") / "good"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        DetrForObjectDetection(config).save_pretrained(place)
    DetrImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def annotations(folder: Path) -> Path:
    path = folder.parent / "gt.json"
    images = folder.parent / "gt.json.images"
    images.mkdir()
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(images / "a.png")
    path.write_text(json.dumps({
        "images": [{"id": 1, "file_name": "a.png", "width": 50, "height": 40}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 20, 30],
                         "area": 600, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }))  # fmt: skip
    return path


def variant(folder: Path, name: str, changes: dict[str, Any]) -> Path:
    place = Path(shutil.copytree(folder, folder.parent / name))
    values = json.loads((place / "config.json").read_text()) | changes
    (place / "config.json").write_text(json.dumps(values))
    return place


def test_no_folder_opens_a_socket(folder: Path, annotations: Path) -> None:
    places = [folder, *(variant(folder, name, changes) for name, changes in HUB.items())]
    # As on a machine whose user said nothing of the hub.
    environment = {
        key: value for key, value in os.environ.items() if not key.endswith("_OFFLINE")
    } | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, HERE / "offline.py", annotations, *places]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["sockets"] == []
    found = {Path(place).name: words for place, words in told["found"].items()}
    assert [name for name, words in found.items() if words == "evaluated"] == ["good", "name"]
    for name, words in found.items():
        code = name.startswith("code")
        assert words == "evaluated" or ("own code" if code else "nothing is downloaded") in words
        assert "\n" not in words
