"""A resampled head's output is that of another image, and all else stays the image's own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied, check_fits
from ablate_kit.ablations.edits import Resampled
from ablate_kit.ablations.hooks import shift_of
from ablate_kit.ablations.kinds.resample import HeadsResampled, check_batches
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError

Open = Callable[[str], Any]  # see conftest.Live
Make = Callable[..., list[Ablation]]  # see conftest.made

PLACES = {
    "hybrid": ["decoder.layers.1.self_attn.out_proj", "decoder.layers.1.cross_attn.output_proj"],
    "detr": ["model.encoder.layers.1.self_attn.out_proj"],
    "deformable_detr": ["model.decoder.layers.1.encoder_attn.output_proj"],
}


@pytest.mark.parametrize(
    ("kind", "place"), [(kind, place) for kind, places in PLACES.items() for place in places]
)
def test_two_images_exchange_a_head(live: Open, kind: str, place: str) -> None:
    one = live(kind)
    full = one.run()
    (ablation,) = one.make(HeadsResampled(pattern=place.rpartition(".")[0], heads=[1]))
    (live_name,) = one.names[f"{place}.weight"]
    projection = one.module.get_submodule(live_name.removesuffix(".weight"))
    ((start, stop),) = ablation.live[0].ranges

    def exchange(_: object, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = args[0].clone()
        x[..., start:stop] = x.flip(0)[..., start:stop]
        return (x, *args[1:])

    with projection.register_forward_pre_hook(exchange):
        expected = one.run()
    assert one.difference(one.run(ablation), expected) == 0
    assert one.difference(full, expected) > 1e-9
    assert one.difference(one.run(), full) == 0


@pytest.mark.parametrize("batch_first", [True, False])
def test_torch_multi_head_attention_too(made: Make, batch_first: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    module = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2, batch_first=batch_first)}).double()
    module.forward = lambda x: module["attn"](x, x, x)[0]
    module.eval()
    x = torch.rand(4, 4, 8, generator=generator).double()
    kind = HeadsResampled(pattern="attn", num_heads=2, seed=1)
    first, second = made(kind, module.state_dict())
    both = Ablation("both", "x", (), (*first.live, *second.live))
    with torch.no_grad():
        full = module(x)
        with applied(module, both):
            found = module(x)
    # With every head of another image the output is that of another image.
    shift = {shift_of(one, 4) for one in both.live}
    assert len(shift) == 1  # the same for both, which read one projection
    assert (found - full.roll(shift.pop(), 0 if batch_first else 1)).abs().max() < 1e-12


def test_every_image_gets_another_and_repeats_differ() -> None:
    draws = [Resampled("w", ((0, 1),), 42, draw) for draw in range(20)]
    for images in (2, 3, 8):
        shifts = [shift_of(one, images) for one in draws]
        assert set(shifts) == set(range(1, images))


def test_what_cannot_be_resampled_is_refused(live: Open) -> None:
    one = live("hybrid")
    (ablation,) = one.make(HeadsResampled(pattern="decoder.layers.0.self_attn", heads=[1]))
    assert Ablation.from_dict(ablation.to_dict()) == ablation
    with (
        open_checkpoint(one.path) as checkpoint,
        pytest.raises(UserError, match="it takes what runs through the model from other images"),
    ):
        check_fits(checkpoint, ablation)
    with pytest.raises(UserError, match="has no output projection"):
        live("d_fine").make(HeadsResampled(pattern="model.decoder.layers.0.encoder_attn"))
    with pytest.raises(UserError, match="has no head 7"):
        one.make(HeadsResampled(pattern="decoder.layers.0.self_attn", heads=[7]))
    image = torch.rand(1, 3, 96, 96).double()
    with (
        pytest.raises(UserError, match="alone in its forward pass"),
        torch.no_grad(),
        applied(one.module, ablation, one.names),
    ):
        one.module(image)
    for images, size in ((9, 8), (3, 1), (1, 8)):
        with pytest.raises(UserError, match=f"{images} images in batches of {size} leave one"):
            check_batches([ablation], images, size)
    check_batches([ablation], 10, 8)
    check_batches([], 9, 8)
