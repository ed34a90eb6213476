"""A removed sampling point is one whose attention weight is zero, in every deformable layout."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.sampling_points import (
    PointLevels,
    Points,
    points_per_level,
    removed,
)
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError

Open = Callable[[str], Any]  # see conftest.Live

MODULES = {
    "hybrid": "decoder.layers.1.cross_attn",
    "deformable_detr": "model.encoder.layers.1.self_attn",
    "rt_detr_v2": "model.decoder.layers.0.encoder_attn",
    "d_fine": "model.decoder.layers.0.encoder_attn",
}


@contextmanager
def weights_zero(
    live: Any, kind: str, prefix: str, points: Sequence[int], renormalized: bool
) -> Iterator[None]:
    """The reference: the attention weights of these points, after the softmax, set to zero."""
    module = live.module.get_submodule(prefix)
    inside = [False]

    def zero(weights: Tensor) -> Tensor:
        flat = weights.flatten(3).clone()  # (B, N, heads, points)
        flat[..., list(points)] = 0
        if renormalized:
            flat = flat / flat.sum(-1, keepdim=True)
        return flat.view(weights.shape)

    def changed(core: Callable[..., Any], place: int) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if not inside[0]:
                return core(*args)
            return core(*args[:place], zero(args[place]), *args[place + 1 :])

        return call

    with ExitStack() as stack:
        if kind == "hybrid":
            from detector.network import attention as place

            name, at = "multi_scale_deformable_attention", 4
        elif kind == "rt_detr_v2":
            from transformers.models.rt_detr_v2 import modeling_rt_detr_v2 as place

            name, at = "multi_scale_deformable_attention_v2", 3
        elif kind == "d_fine":
            place, name, at = module, "ms_deformable_attn_core", 3
        else:
            place, name, at = module.attn, "forward", 5
        stack.enter_context(patch.object(place, name, changed(getattr(place, name), at)))
        for register, value in (
            (module.register_forward_pre_hook, True),
            (module.register_forward_hook, False),
        ):
            stack.enter_context(register(lambda *_, value=value: inside.__setitem__(0, value)))
        yield


@pytest.mark.parametrize("share", ["renormalized", "lost"])
@pytest.mark.parametrize("kind", MODULES)
def test_a_point_removed_by_weights_has_no_weight(live: Open, kind: str, share: str) -> None:
    one, prefix = live(kind), MODULES[kind]
    full = one.run()
    for ablation in one.make(Points(pattern=prefix, points=[1, 2], share=share)):
        point = 1 if ablation.name.endswith(f"-point1-{share}") else 2
        with weights_zero(one, kind, prefix, [point], share == "renormalized"):
            expected = one.run()
        assert one.difference(one.run(ablation), expected) < 1e-9
        assert one.difference(full, expected) > 1e-9
    assert one.difference(one.run(), full) == 0


@pytest.mark.parametrize("share", ["renormalized", "lost"])
@pytest.mark.parametrize("kind", MODULES)
def test_so_has_every_point_of_a_removed_level(live: Open, kind: str, share: str) -> None:
    one, prefix = live(kind), MODULES[kind]
    (ablation,) = one.make(PointLevels(pattern=prefix, levels=[1], share=share))
    (attention,) = [
        each for each in attentions(one.module.state_dict(), heads=4) if each.prefix == prefix
    ]
    rows = attention.tensors["attention_weights.weight"].shape[0] // 4
    levels = 3 if kind in ("rt_detr_v2", "d_fine") else 4
    chosen = range(rows // levels, 2 * rows // levels)
    with weights_zero(one, kind, prefix, chosen, share == "renormalized"):
        expected = one.run()
    assert one.difference(one.run(ablation), expected) < 1e-9


def test_a_level_that_no_module_reads_may_hold_anything(live: Open) -> None:
    one = live("d_fine")
    (ablation,) = one.make(PointLevels(pattern="model.decoder.layers.*.encoder_attn", levels=[2],
                                       together=True))  # fmt: skip
    before = one.run(ablation)
    with ExitStack() as stack:
        for layer in one.module.model.decoder.layers:
            stack.enter_context(layer.encoder_attn.register_forward_pre_hook(
                lambda _, args, kwargs: (args, kwargs | {"encoder_hidden_states":
                    last_level_doubled(kwargs["encoder_hidden_states"],
                                       kwargs["spatial_shapes_list"])}),
                with_kwargs=True))  # fmt: skip
        assert one.difference(before, one.run(ablation)) == 0
        assert one.difference(one.run(), before) > 1e-9


def last_level_doubled(memory: Tensor, shapes: Sequence[Any]) -> Tensor:
    tokens = [int(height) * int(width) for height, width in shapes]
    return torch.cat([memory[:, : -tokens[-1]], memory[:, -tokens[-1] :] * 2 + 1], dim=1)


def test_points_per_level_of_a_list_and_of_a_count() -> None:
    tensors = {
        "attn.sampling_offsets.weight": torch.zeros(2 * 2 * 9, 4),
        "attn.attention_weights.weight": torch.zeros(2 * 9, 4),
    }
    (attention,) = attentions(tensors, heads=2)
    assert points_per_level(attention, {"decoder_n_points": [3, 4, 2]}) == (3, 4, 2)
    assert points_per_level(attention, {"decoder_n_points": 3, "num_feature_levels": 3}) == (3,) * 3
    assert points_per_level(attention, None, 9) == (1,) * 9
    with pytest.raises(UserError, match="on how many levels attn samples its 9 points"):
        points_per_level(attention, {"num_feature_levels": 4})
    with pytest.raises(UserError, match="give --num-levels"):
        points_per_level(attention, None)


def test_levels_that_not_all_modules_have_are_refused(tmp_path: Path) -> None:
    """Here the decoder's points are listed by level, and the encoder has as many on each."""
    tensors = {
        f"{module}.{layer}.{suffix}": torch.zeros(2 * points * width, *shape)
        for module, points in (("encoder", 8), ("decoder", 9))
        for layer, width in (("sampling_offsets", 2), ("attention_weights", 1))
        for suffix, shape in (("weight", (4,)), ("bias", ()))
    }
    save_file(tensors, tmp_path / "model.safetensors")
    config = {"decoder_n_points": [3, 4, 2], "num_feature_levels": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with open_checkpoint(tmp_path) as checkpoint:

        def names(**settings: Any) -> list[str]:
            kind = PointLevels(pattern="*coder", num_heads=2, **settings)
            return [one.name for one in kind.make(KindContext(checkpoint))]

        assert len(names()) == 4 + 3
        assert names(together=True, levels=[2]) == ["allcoder-level2-renormalized"]
        with pytest.raises(UserError, match="decoder has 3 levels and encoder 4; to remove"):
            names(together=True)
        for together in (True, False):
            with pytest.raises(UserError, match="decoder has no level 3; it has 0-2"):
                names(together=together, levels=[3])


def test_what_cannot_be_removed_is_refused(live: Open) -> None:
    detr, deformable = live("detr"), live("deformable_detr")
    with pytest.raises(UserError, match="has no sampling points"):
        detr.make(Points(pattern="model.decoder.layers.0.self_attn"))
    prefix = MODULES["deformable_detr"]
    with pytest.raises(UserError, match=r"has no point 99; a head has 16, 0 to 15"):
        deformable.make(Points(pattern=prefix, points=[99]))
    with pytest.raises(UserError, match="has no level 4; it has 0-3"):
        deformable.make(PointLevels(pattern=prefix, levels=[4]))
    tensors = {
        "attn.sampling_offsets.weight": torch.zeros(8, 4),
        "attn.sampling_offsets.bias": torch.zeros(8),
        "attn.attention_weights.weight": torch.zeros(4, 4),
        "attn.attention_weights.bias": torch.zeros(4),
    }
    (attention,) = attentions(tensors, {"decoder_method": "discrete"}, heads=2)
    with pytest.raises(UserError, match="onto its edge"):
        removed(attention, [0], 2, "lost")
    with pytest.raises(UserError, match="no point of attn would remain"):
        removed(attention, [0, 1], 2, "renormalized")
    with pytest.raises(UserError, match="onto its edge"):
        attention.remove([0])
