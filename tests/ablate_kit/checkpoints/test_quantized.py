"""Quantized weights: told by their names and types, never cut as if they were numbers."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import check_fits
from ablate_kit.ablations.attention import select_attentions
from ablate_kit.ablations.edits import Edit, Whole
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
QUANTO = {
    "q.weight._data": torch.ones(4, 4, dtype=torch.int8),
    "q.weight._scale": FLOAT,
    "q.weight._shift": FLOAT,
    "q.input_scale": torch.ones(1),
    "q.bias": FLOAT,
}
TORCHAO = {  # as its safetensors files have it, and those of earlier versions
    "q._weight_qdata": torch.ones(4, 4, dtype=torch.int8),
    "q._weight_scale": torch.ones(4, 1),
    "q._weight_zero_point": torch.zeros(4, 1, dtype=torch.int8),
    "q.bias": FLOAT,
}
TORCHAO_FLOAT_8 = {
    "q.weight:qdata": torch.ones(4, 4).to(torch.float8_e4m3fn),
    "q.weight:scale": torch.ones(4, 1),
    "q.bias": FLOAT,
}
QUANTO_FLOAT_8 = {"q.weight._data": torch.ones(4).to(torch.float8_e5m2), "q.weight._scale": FLOAT}
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


USABLE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "GPTQ": (GPTQ, ["q.bias"]),
    "4 bits": (BITS_4, ["q.bias"]),
    "8 bits": (BITS_8, ["q.bias"]),
    "compressed": (PACKED, ["q.bias"]),
    "Quanto": (QUANTO, ["q.bias"]),
    "Quanto 8-bit float": (QUANTO_FLOAT_8, []),
    "torchao": (TORCHAO, ["q.bias"]),
    "torchao 8-bit float": (TORCHAO_FLOAT_8, ["q.bias"]),
    "no scale": (BARE, ["q.bias"]),
    "8-bit float": (FLOAT_8, []),
    "plain": (PLAIN, list(PLAIN)),
}


@pytest.mark.parametrize(("tensors", "usable"), USABLE.values(), ids=USABLE)
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


def test_heads_of_quantized_attention_are_refused_as_that(save: Any) -> None:
    parts = ("q_proj", "k_proj", "v_proj", "out_proj")
    tensors = {f"a.{part}{name[1:]}": value for part in parts for name, value in GPTQ.items()}
    with (
        open_checkpoint(save(tensors)) as checkpoint,
        pytest.raises(
            UserError,
            match=r'^a\.q_proj\.qweight is quantized, in int32, .*\.scales" scales: .* cut',
        ),
    ):
        select_attentions("a", checkpoint.tensors, "file", quantized=checkpoint.quantized)


def test_heads_whose_columns_are_packed_are_refused_as_quantized(save: Any) -> None:
    parts = ("q_proj", "k_proj", "v_proj", "o_proj")
    tensors = {f"a.{part}{name[1:]}": value for part in parts for name, value in BITS_4.items()}
    with (
        open_checkpoint(save(tensors)) as checkpoint,
        pytest.raises(UserError, match=r"^a\.o_proj\.weight is quantized, in uint8, .* cut"),
    ):
        select_attentions("a", checkpoint.tensors, "it", heads=2, quantized=checkpoint.quantized)


class Packed(nn.Module):
    """Holds what it computes with in an object of C++, as PyTorch's quantized modules do."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "packed": ScriptObject(self.kind)}


class ScriptObject:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __getstate__(self) -> tuple[Any, str]:
        return (torch.ones(2),), f"__torch__.torch.classes.{self.kind}"


def test_quantized_modules_that_were_saved_whole_are_told(save: Any) -> None:
    whole = nn.Sequential(
        nn.LayerNorm(4), Packed("quantized.LinearPackedParamsBase"), Packed("rnn.CellParamsBase")
    )
    with open_checkpoint(save(whole)) as checkpoint:
        assert list(checkpoint.tensors) == ["0.weight", "0.bias"]
        assert checkpoint.unsupported == {"1.packed": "quantized", "2.packed": "quantized"}


@pytest.mark.filterwarnings("ignore")  # quantization moves to torchao, and its files stay
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16])
def test_dynamically_quantized_recurrent_layers_are_told(
    save: Any, whole: bool, dtype: torch.dtype
) -> None:
    if {*torch.backends.quantized.supported_engines} <= {"none"}:
        pytest.skip("this build of PyTorch quantizes nothing")
    plain = nn.Sequential(nn.LSTM(4, 8, bidirectional=True), nn.Linear(16, 4), nn.LayerNorm(4))
    kinds = {nn.LSTM, nn.Linear}
    model = torch.ao.quantization.quantize_dynamic(plain, kinds, dtype)
    with open_checkpoint(save(model if whole else model.state_dict())) as checkpoint:
        cells = {f"0._all_weight_values.{i}.param": "quantized" for i in range(2)}
        assert checkpoint.unsupported.items() >= cells.items()
        assert {"2.weight", "2.bias"} <= checkpoint.tensors.keys()
        for pattern in ("0", "**"):
            with pytest.raises(UserError, match=r'^tensor "0\._all_w.*" in .* is quantized: it is'):
                select(pattern, checkpoint.tensors, "it", unsupported=checkpoint.unsupported)
