"""The command as a user runs it, and small real models of the frameworks that are supported."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pytest
import torch
from matplotlib.figure import Figure

from ablate_kit.checkpoints.told import tell_with
from ablate_kit.cli.app import main
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.hugging_face import config_of
from tests.hybrid_file import reweighted

SAVEFIG = Figure.savefig

# What the tests of a folder, or a file in it, need in an environment of its own.
APART = {
    "mmdet": ("mmdet",),
    "zoo/test_torchvision.py": ("torchvision",),
    "zoo/test_zoo.py": ("torchvision", "libreyolo"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks such tests; the warnings of those packages are none of ours."""
    here = Path(__file__).parent
    for place, packages in APART.items():
        absent = [one for one in packages if find_spec(one) is None]
        for item in items:
            if item.path.is_relative_to(here / place):
                item.add_marker(getattr(pytest.mark, Path(place).parts[0]))
                item.add_marker(pytest.mark.filterwarnings("ignore"))
                if absent:
                    item.add_marker(pytest.mark.skip(reason=f"not installed: {absent}"))


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
def told() -> Iterator[list[str]]:
    """What opening checkpoints and data has to say that is no error."""
    found: list[str] = []
    tell_with(found.append)
    yield found
    tell_with(lambda _: None)


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """Figures are made, and saved empty: to draw them takes most of the time of a report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", saved)
        yield


def saved(_: object, place: Path | BinaryIO, **__: object) -> None:
    empty = b'<svg width="1pt"/>'
    place.write_bytes(empty) if isinstance(place, Path) else place.write(empty)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at pictures."""
    monkeypatch.setattr(Figure, "savefig", SAVEFIG)


@pytest.fixture
def seeds(tmp_path: Path) -> list[Path]:
    """The shipped detector, shaken twice."""
    paths = [tmp_path / f"seed{seed}.safetensors" for seed in (1, 2)]
    for seed, path in enumerate(paths, 1):
        generator = torch.Generator().manual_seed(seed)
        with reweighted(SHAPES_TINY, path) as tensors:
            for name, one in tensors.items():
                if one.is_floating_point() and one.numel() > 1:
                    noise = torch.randn(one.shape, generator=generator)
                    tensors[name] = one + 0.02 * one.std() * noise
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
NAMES = {
    "id2label": {0: "disc", 1: "square", 2: "star"},
    "label2id": {"disc": 0, "square": 1, "star": 2},
}
SIZES = {
    "d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_queries": 10, **NAMES,
}  # fmt: skip
STAGES = ["stage2", "stage3", "stage4"]
RESNET = {"model_type": "resnet", **BACKBONE}
DETR = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "encoder_layers": 2,
    "backbone_config": RESNET | {"out_features": ["stage4"]},
    **SIZES,
}
PYRAMID = {
    "encoder_hidden_dim": 32, "encoder_in_channels": [32, 64, 128],
    "decoder_in_channels": [32, 32, 32], "num_denoising": 0, "anchor_image_size": None, **SIZES,
}  # fmt: skip
VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPS = {
    "c2f_num_blocks": 1, "d_model": 32, "decoder_layers": 2, "decoder_ffn_dim": 40,
    "decoder_n_points": 2, "decoder_self_attention_heads": 4, "decoder_cross_attention_heads": 4,
    "num_queries": 10, "group_detr": 2, **NAMES,
}  # fmt: skip
HGNETV2 = {
    "model_type": "hgnet_v2", "stem_channels": [3, 8, 16], "stage_in_channels": [16, 16, 32, 64],
    "stage_mid_channels": [8, 8, 16, 16], "stage_out_channels": [16, 32, 64, 128],
    "stage_num_blocks": [1, 1, 1, 1], "stage_numb_of_layers": [1, 1, 1, 1],
    "hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1], "embedding_size": 16,
    "out_features": STAGES,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "detr": {"model_type": "detr", **DETR},
    "conditional_detr": {"model_type": "conditional_detr", **DETR},
    "dab_detr": {
        "model_type": "dab-detr",
        "hidden_size": 32,
        **{name: value for name, value in DETR.items() if name != "d_model"},
    },
    "deformable_detr": {
        "model_type": "deformable_detr",
        **DETR,
        "backbone_config": RESNET | {"out_features": STAGES},
        "with_box_refine": True,
        "two_stage": True,
    },
    "pvt_v2": {
        "model_type": "deformable_detr",
        **DETR,
        "num_feature_levels": 3,
        "backbone_config": {
            "model_type": "pvt_v2", "hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 4, 4, 8], "sr_ratios": [8, 4, 2, 1],
            "mlp_ratios": [2, 2, 2, 2], "image_size": 128, "out_features": STAGES,
        },
    },
    "rt_detr_v2": {
        "model_type": "rt_detr_v2",
        **PYRAMID,
        "backbone_config": {"model_type": "rt_detr_resnet", **BACKBONE, "out_features": STAGES},
    },
    "d_fine": {"model_type": "d_fine", **PYRAMID, "backbone_config": HGNETV2},
    "yolos": {
        "model_type": "yolos", **VIT, **NAMES, "intermediate_size": 40, "image_size": [64, 96],
        "num_detection_tokens": 10,
    },
    "lw_detr": {
        "model_type": "lw_detr",
        **GROUPS,
        "backbone_config": {
            "model_type": "lw_detr_vit", **VIT, "mlp_ratio": 2, "patch_size": 8, "image_size": 128,
            "window_block_indices": [0], "out_features": ["stage1", "stage2"],
        },
        "projector_scale_factors": [2.0, 0.5],
    },
    "rf_detr": {
        "model_type": "rf_detr",
        **GROUPS,
        "backbone_config": {
            "model_type": "rf_detr_dinov2", **VIT, "mlp_ratio": 2, "patch_size": 16,
            "image_size": 128, "num_windows": 2, "out_features": ["stage1", "stage2"],
        },
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A Hugging Face folder of a small model with random weights, none of them zero."""

    @cache
    def folder(name: str) -> Path:
        made = tmp_path_factory.mktemp("hf") / name
        _save(MODELS[name], made)
        return made

    return folder


def _save(config: dict[str, Any], folder: Path) -> None:
    from transformers import AutoModelForObjectDetection
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = config_of(config)
        model = AutoModelForObjectDetection.from_config(made).eval()
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


@pytest.fixture
def shown(repository: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The file of docs/your-own-detector.md, and a checkpoint of its network."""
    docs = (repository / "docs/your-own-detector.md").read_text()
    path = tmp_path / "my_detector.py"
    path.write_text(re.search(r"```python\n(.*?)```", docs, re.DOTALL)[1])
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), path, "exec"), names)  # noqa: S102
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(names["MyNet"]().state_dict(), tmp_path / "my.pth")
    return path, tmp_path / "my.pth"


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
