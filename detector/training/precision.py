"""Reduced precision of the forward pass, and the scaling that fp16 needs."""

from typing import Literal

import torch

from detector.network.float32 import in_float32
from detector.network.model import Predictions


class Precision:
    """Autocast for the network, and a gradient scaler if it is fp16.

    bf16 has the range of fp32 and needs no scaler. With "fp32" everything here does nothing.
    """

    def __init__(self, kind: Literal["fp32", "bf16", "fp16"], device: torch.device) -> None:
        self._device = device.type
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[kind]
        self.scaler = torch.amp.GradScaler(device.type, enabled=kind == "fp16")

    def forward(self) -> torch.autocast:
        """The context for the network's forward pass."""
        enabled = self._dtype is not None
        return torch.autocast(self._device, self._dtype or torch.bfloat16, enabled=enabled)

    def in_fp32(self, out: Predictions) -> Predictions:
        """The predictions as the losses want them."""
        if self._dtype is None:
            return out
        widened: Predictions = in_float32(dict(out))
        return widened
