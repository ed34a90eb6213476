"""Quantized weights: told by their names and types, never cut as if they were numbers."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ablate_kit.ablations.ablation import Ablation, Edit, Whole
from ablate_kit.ablations.apply_edits import check_fits
from ablate_kit.ablations.name_patterns import select
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError

FLOAT = torch.ones(4)
GPTQ = {
    "q.qweight": torch.ones(2, 4, dtype=torch.int32),
    "q.qzeros": torch.ones(1, 2, dtype=torch.int32),
    "q.scales": torch.ones(1, 4),
    "q.g_idx": torch.zeros(16, dtype=torch.int32),
    "q.bias": FLOAT,
}
BITS_4 = {
    "q.weight": torch.ones(8, 1, dtype=torch.uint8),
    "q.weight.absmax": FLOAT,
    "q.weight.quant_map": FLOAT,
    "q.weight.quant_state.bitsandbytes__nf4": torch.zeros(9, dtype=torch.uint8),
    "q.bias": FLOAT,
}
BITS_8 = {"q.weight": torch.ones(4, 4, dtype=torch.int8), "q.SCB": FLOAT, "q.bias": FLOAT}
PACKED = {
    "q.weight_packed": torch.ones(4, 2, dtype=torch.int32),
    "q.weight_scale": FLOAT,
    "q.weight_shape": torch.tensor([4, 16]),
    "q.bias": FLOAT,
}
BARE = {"q.weight": torch.ones(4, 4, dtype=torch.int8), "q.bias": FLOAT}
FLOAT_8 = {"q.weight": torch.ones(4, 4).to(torch.float8_e4m3fn), "q.weight_scale": torch.ones(1)}
PLAIN = {
    "m.weight": FLOAT.to(torch.float8_e4m3fn),
    "n.num_batches_tracked": torch.tensor(3),
    "n.scale": FLOAT,
    "n.logit_scale": FLOAT,
    "n.relative_position_index": torch.ones(4, 4, dtype=torch.int64),
    "n.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8),  # a causal mask
    "n.relative_position_bias": torch.ones(4, 4, dtype=torch.int32),
    "class_weight": torch.ones(4, dtype=torch.int32),
    "n.num_blocks": torch.ones(4, dtype=torch.int32),
}


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    def write(tree: Any) -> Path:
        torch.save(tree, tmp_path / "file.pth")
        return tmp_path / "file.pth"

    return write


@pytest.mark.parametrize(
    ("tensors", "usable"),
    [
        (GPTQ, ["q.bias"]),
        (BITS_4, ["q.bias"]),
        (BITS_8, ["q.bias"]),
        (PACKED, ["q.bias"]),
        (BARE, ["q.bias"]),
        (FLOAT_8, []),
        (PLAIN, list(PLAIN)),
    ],
    ids=["GPTQ", "4 bits", "8 bits", "compressed", "no scale", "8-bit float", "plain"],
)
def test_what_is_read_by_others_is_told_from_numbers(
    save: Any, tensors: dict[str, Any], usable: list[str]
) -> None:
    with open_checkpoint(save(tensors)) as checkpoint:
        assert [name for name in tensors if name not in checkpoint.quantized] == usable


def _set_to(name: str, value: float) -> Ablation:
    return Ablation("one", "component", (Edit(name, Whole(), value),))


def test_quantized_weights_and_their_scales_are_not_cut(save: Any) -> None:
    with open_checkpoint(save(GPTQ)) as checkpoint:
        for name in ("q.qweight", "q.scales"):
            with pytest.raises(UserError, match=rf"{name} is .*quantized.*cannot be cut"):
                check_fits(checkpoint, _set_to(name, 0.0))
        check_fits(checkpoint, _set_to("q.bias", 0.5))


def test_zero_is_zero_in_a_scaled_float_and_nothing_else_is(save: Any) -> None:
    with open_checkpoint(save(FLOAT_8)) as checkpoint:
        check_fits(checkpoint, _set_to("q.weight", 0.0))
        with pytest.raises(UserError, match="cannot be cut"):
            check_fits(checkpoint, _set_to("q.weight", 0.5))
        with pytest.raises(UserError, match="cannot be cut"):
            check_fits(checkpoint, _set_to("q.weight_scale", 0.0))


def test_tensors_that_cannot_be_read_are_told_and_not_passed_over(save: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, which is about to leave them out
        packed = torch.quantize_per_tensor(FLOAT, 0.1, 0, torch.qint8)
    tree = {
        "module.a.weight": FLOAT,
        "module.a.sparse": torch.eye(2).to_sparse(),
        "module.b.lazy": nn.parameter.UninitializedParameter(),
        "module.b.array": np.ones(3),
        "module.c.packed": (packed, None),
    }
    with open_checkpoint(save({"model": tree})) as checkpoint:
        assert checkpoint.unsupported == {
            "a.sparse": "sparse",
            "b.lazy": "a parameter that has no values yet",
            "b.array": "an array of NumPy",
            "c.packed": "quantized",
        }
        arguments = ("a", checkpoint.tensors, "file.pth")
        with pytest.raises(UserError, match=r'"a\.sparse" .* is sparse'):
            select(*arguments, unsupported=checkpoint.unsupported)
        listed = select(*arguments, unsupported=checkpoint.unsupported, listing=True)
        assert listed == ["a.weight"]
