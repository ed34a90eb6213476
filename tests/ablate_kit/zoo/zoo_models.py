"""Detectors with random weights, as files."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

SSD = "torchvision:ssdlite320_mobilenet_v3_large"


def image(seed: int = 0) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return np.random.default_rng(seed).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def saved(net: torch.nn.Module, folder: Path) -> Path:
    path = folder / "model.pt"
    torch.save({key: one.clone() for key, one in net.state_dict().items()}, path)
    return path


def ssd(classes: int = 91) -> Any:
    from torchvision.models import get_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return get_model(
            SSD.partition(":")[2], weights=None, weights_backbone=None, num_classes=classes
        ).eval()
