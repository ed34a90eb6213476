"""The precision of a run: TF32, autocast, the scaling that fp16 needs, and steps without NaN."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor

from detector.network.float32 import in_float32
from detector.training.tf32 import tf32


class Precision:
    """Autocast for the network, and a gradient scaler if it is fp16.

    bf16 has the range of fp32 and needs no scaler. With "fp32" nothing is rounded, to TF32 either.
    """

    def __init__(self, kind: Literal["fp32", "tf32", "bf16", "fp16"], device: torch.device) -> None:
        self._kind = kind
        self._device = device.type
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(kind)
        self.scaler = torch.amp.GradScaler(device.type, enabled=kind == "fp16")

    def float32_mode(self) -> AbstractContextManager[None]:
        """For the time of a run: what a GPU may do to float32."""
        return tf32(enabled=self._kind == "tf32")

    def forward(self, network: Callable[..., Any], *args: Any) -> Any:
        """What the network returns, computed in this precision and given in float32."""
        if self._dtype is None:
            return network(*args)
        with torch.autocast(self._device, self._dtype):
            out = network(*args)
        return in_float32(out)

    def step(
        self, optimizer: torch.optim.Optimizer, norm: Tensor, all_finite: Tensor
    ) -> tuple[Tensor, Tensor]:
        """An optimizer step on gradients of this norm, skipped where they are NaN or infinite.

        The device decides: there is no host sync here. ``all_finite`` is of the losses. Returns
        whether the step was skipped, and whether that counts as a failure, () bool each.
        """
        skipped = ~norm.isfinite()
        if not self.scaler.is_enabled():
            optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
            optimizer.step()
            return skipped, skipped
        # The scaler skips steps itself, and lowers its scale: a gradient that was too large for
        # fp16 is no failure, only one of a loss that is not finite.
        self.scaler.step(optimizer)
        self.scaler.update()
        return skipped, skipped & ~all_finite
