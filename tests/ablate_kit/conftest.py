"""The command as a user runs it, and small real models of the frameworks that are supported."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ablate_kit.cli.app import main
from detector.zoo import SHAPES_TINY


class Printed(NamedTuple):
    """How a command ended, and what it printed on both streams."""

    code: int
    out: str
    err: str

    def refusal(self) -> str:
        """The one line that was said; fails unless the command exited with 2."""
        assert self.code == 2
        assert self.err.startswith("ablate: ")
        assert self.err.count("\n") == 1, self.err
        return self.err


Ablate = Callable[..., Printed]
Run = Callable[..., str]


@pytest.fixture
def ablate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ablate:
    """Runs ``ablate`` in this process."""

    def ablate(*words: object) -> Printed:
        monkeypatch.setattr(sys, "argv", ["ablate", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return Printed(int(stop.value.code or 0), *capsys.readouterr())

    return ablate


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, and saved empty: to draw them takes most of the time of a report."""

    def saved(_: object, place: Path | BinaryIO, **__: object) -> None:
        empty = b'<svg width="1pt"/>'
        place.write_bytes(empty) if isinstance(place, Path) else place.write(empty)

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", saved)


@pytest.fixture
def seeds(tmp_path: Path) -> list[Path]:
    """The shipped detector, shaken twice."""
    with safe_open(SHAPES_TINY, "pt") as file:
        metadata = file.metadata()
    paths = []
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        tensors = load_file(SHAPES_TINY)
        for name, one in tensors.items():
            if one.is_floating_point() and one.numel() > 1:
                noise = torch.randn(one.shape, generator=generator)
                tensors[name] = one + 0.02 * one.std() * noise
        paths.append(tmp_path / f"seed{seed}.safetensors")
        save_file(tensors, paths[-1], metadata)
    return paths


@pytest.fixture
def run(ablate: Ablate) -> Run:
    """Runs ``ablate`` and returns what it printed; fails unless it exits with 0, or ``code``."""

    def run(*words: object, code: int = 0) -> str:
        printed = ablate(*words)
        assert printed.code == code, printed.err
        return printed.out

    return run


@pytest.fixture
def refuse_any(ablate: Ablate) -> Run:
    """As ``refuse``, of whatever was printed before."""

    def refuse_any(*words: object) -> str:
        return ablate(*words).refusal()

    return refuse_any


@pytest.fixture
def refuse(ablate: Ablate) -> Run:
    """Runs ``ablate`` and returns the one line it said; fails unless it exits with 2."""

    def refuse(*words: object) -> str:
        printed = ablate(*words)
        assert printed.out == ""
        return printed.refusal()

    return refuse


BACKBONE = {
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
SIZES = {
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_queries": 10,
    "id2label": {0: "disc", 1: "square", 2: "star"},
    "label2id": {"disc": 0, "square": 1, "star": 2},
}
PYRAMID = {
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [32, 64, 128],
    "decoder_in_channels": [32, 32, 32],
    "num_denoising": 0,
    "anchor_image_size": None,
}
NO_TIMM = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
STAGES = ["stage2", "stage3", "stage4"]


def _detr() -> Any:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(**BACKBONE, out_features=["stage4"])
    config = DetrConfig(**NO_TIMM, **SIZES, backbone_config=backbone, encoder_layers=2)
    return DetrForObjectDetection(config)


def _conditional_detr() -> Any:
    from transformers import (
        ConditionalDetrConfig,
        ConditionalDetrForObjectDetection,
        ResNetConfig,
    )

    backbone = ResNetConfig(**BACKBONE, out_features=["stage4"])
    config = ConditionalDetrConfig(**NO_TIMM, **SIZES, backbone_config=backbone, encoder_layers=2)
    return ConditionalDetrForObjectDetection(config)


def _dab_detr() -> Any:
    from transformers import DabDetrConfig, DabDetrForObjectDetection, ResNetConfig

    sizes = {name: value for name, value in SIZES.items() if name != "d_model"}
    backbone = ResNetConfig(**BACKBONE, out_features=["stage4"])
    config = DabDetrConfig(
        **NO_TIMM, **sizes, hidden_size=32, backbone_config=backbone, encoder_layers=2
    )
    return DabDetrForObjectDetection(config)


def _deformable_detr() -> Any:
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

    config = DeformableDetrConfig(
        **NO_TIMM,
        **SIZES,
        backbone_config=ResNetConfig(**BACKBONE, out_features=STAGES),
        encoder_layers=2,
        with_box_refine=True,
        two_stage=True,
    )
    return DeformableDetrForObjectDetection(config)


def _rt_detr_v2() -> Any:
    from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

    backbone = RTDetrResNetConfig(**BACKBONE, out_features=STAGES)
    return RTDetrV2ForObjectDetection(RTDetrV2Config(**SIZES, **PYRAMID, backbone_config=backbone))


def _d_fine() -> Any:
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

    backbone = HGNetV2Config(
        stem_channels=[3, 8, 16],
        stage_in_channels=[16, 16, 32, 64],
        stage_mid_channels=[8, 8, 16, 16],
        stage_out_channels=[16, 32, 64, 128],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 64, 128],
        depths=[1, 1, 1, 1],
        embedding_size=16,
        out_features=STAGES,
    )
    return DFineForObjectDetection(DFineConfig(**SIZES, **PYRAMID, backbone_config=backbone))


VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
NAMES = {name: SIZES[name] for name in ("id2label", "label2id")}


GROUPS = {
    "c2f_num_blocks": 1,
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_ffn_dim": 40,
    "decoder_n_points": 2,
    "decoder_self_attention_heads": 4,
    "decoder_cross_attention_heads": 4,
    "num_queries": 10,
    "group_detr": 2,
}


def _yolos() -> Any:
    from transformers import YolosConfig, YolosForObjectDetection

    config = YolosConfig(
        **VIT, **NAMES, intermediate_size=40, image_size=[64, 96], num_detection_tokens=10
    )
    return YolosForObjectDetection(config)


def _lw_detr() -> Any:
    from transformers import LwDetrConfig, LwDetrForObjectDetection, LwDetrViTConfig

    backbone = LwDetrViTConfig(
        **VIT,
        mlp_ratio=2,
        patch_size=8,
        image_size=128,
        window_block_indices=[0],
        out_features=["stage1", "stage2"],
    )
    config = LwDetrConfig(
        **NAMES, **GROUPS, backbone_config=backbone, projector_scale_factors=[2.0, 0.5]
    )
    return LwDetrForObjectDetection(config)


def _rf_detr() -> Any:
    from transformers import RfDetrConfig, RfDetrForObjectDetection
    from transformers.models.rf_detr.configuration_rf_detr import RfDetrDinov2Config

    backbone = RfDetrDinov2Config(
        **VIT,
        mlp_ratio=2,
        patch_size=16,
        image_size=128,
        num_windows=2,
        out_features=["stage1", "stage2"],
    )
    return RfDetrForObjectDetection(RfDetrConfig(**NAMES, **GROUPS, backbone_config=backbone))


MODELS: dict[str, Callable[[], Any]] = {
    "detr": _detr,
    "conditional_detr": _conditional_detr,
    "dab_detr": _dab_detr,
    "deformable_detr": _deformable_detr,
    "rt_detr_v2": _rt_detr_v2,
    "d_fine": _d_fine,
    "yolos": _yolos,
    "lw_detr": _lw_detr,
    "rf_detr": _rf_detr,
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A Hugging Face folder of a small model with random weights, none of them zero."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("hf") / name
            _save(MODELS[name], made[name])
        return made[name]

    return folder


def _save(build: Callable[[], Any], folder: Path) -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    kind = "Detr" if folder.name in ("detr", "deformable_detr") else "RTDetr"
    processor = {
        "image_processor_type": f"{kind}ImageProcessor",
        "size": {"height": 128, "width": 128},
        "do_pad": False,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


@pytest.fixture(scope="session")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small hybrid detector with random weights, for the shapes data set."""
    from detector.config import preset
    from detector.data.shapes import Shapes
    from detector.network.model import HybridDetector
    from tests.hybrid_file import save_hybrid

    config = preset("tiny").replace(
        num_classes=8, image_size=96, widths=[16, 32, 32, 32], d_model=32, queries=12
    )
    path = tmp_path_factory.mktemp("hybrid") / "small.safetensors"
    save_hybrid(path, HybridDetector(config, seed=1), Shapes.classes)
    return path
