"""Removing k of H heads by weights is setting those heads' outputs to zero, in every layout."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.hooks import RemovableHandle

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.attention import Attention, attentions, select_attentions
from ablate_kit.ablations.kinds.heads import RandomHeads, heads_chosen, heads_each
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from detector.network.attention import DeformableAttention, SelfAttention
from detector.network.neighborhood import NeighborhoodAttention

C, H = 32, 4  # channels, heads
SETS = [[0], [3], [1, 2], [0, 1, 2, 3]]


class Named(nn.Module):
    """Attention with a projection each, some of which are in modules of their own."""

    def __init__(self, *names: str | None) -> None:
        super().__init__()
        self.names = names
        for name in filter(None, names):
            owner: nn.Module = self
            *path, last = name.split(".")
            for level in path:
                if not hasattr(owner, level):
                    owner.add_module(level, nn.Module())
                owner = owner.get_submodule(level)
            owner.add_module(last, nn.Linear(C, C))

    def forward(self, x: Tensor) -> Tensor:
        *projections, output = self.names
        query, key, value = (
            self.get_submodule(name)(x).unflatten(-1, (H, -1)).transpose(1, 2)
            for name in projections
        )
        heads = (query @ key.transpose(-1, -2)).softmax(-1) @ value
        out = heads.transpose(1, 2).flatten(2)
        return self.get_submodule(output)(out) if output else out


# Query, key, value, output: as transformers and the original repositories name and save them.
NAMES: dict[str, tuple[str | None, ...]] = {
    "separate, o_proj": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "separate, out_proj": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "separate, no output": ("q_proj", "k_proj", "v_proj", None),
    "ViT, DINOv2, YOLOS": ("attention.query", "attention.key", "attention.value", "output.dense"),
    "LW-DETR's backbone": ("attention.query", "attention.key", "attention.value", "output"),
    "Swin, BERT": ("self.query", "self.key", "self.value", "output.dense"),
    "Grounding DINO": ("query", "key", "value", "out_proj"),
    "Conditional DETR": ("q_content_proj", "k_content_proj", "v_proj", "o_proj"),
    "Conditional DETR, saved": (
        "0.sa_qcontent_proj", "0.sa_kcontent_proj", "0.sa_v_proj", "0.self_attn.out_proj",
    ),
    "Conditional DETR, saved, cross": (
        "0.ca_qcontent_proj", "0.ca_kcontent_proj", "0.ca_v_proj", "0.encoder_attn.out_proj",
    ),
    "DAB-DETR": (
        "self_attn_query_content_proj", "self_attn_key_content_proj", "self_attn_value_proj",
        "self_attn.output_proj",
    ),
    "DAB-DETR, cross": (
        "cross_attn_query_content_proj", "cross_attn_key_content_proj", "cross_attn_value_proj",
        "cross_attn.output_proj",
    ),
}  # fmt: skip


def without_heads(module: nn.Module, projection: str | None, heads: list[int]) -> RemovableHandle:
    """The reference: heads' outputs set to zero where they enter the output projection, if any."""
    keep = torch.ones(H)
    keep[heads] = 0
    keep = keep.repeat_interleave(C // H)
    if projection is None:
        return module.register_forward_hook(lambda _, __, out: out * keep)
    return module.get_submodule(projection).register_forward_pre_hook(
        lambda _, args: (args[0] * keep,)
    )


def randomized(module: nn.Module) -> nn.Module:
    """Every parameter away from zero, so that nothing is removed by accident."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.double().eval()


def tokens(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


SHAPES = [(6, 6), (3, 3), (2, 2), (1, 1)]
COUNT = sum(a * b for a, b in SHAPES)


def run_deformable(module: nn.Module) -> Tensor:
    return module(tokens(1, 5, C), 0.0, tokens(1, COUNT, C) + 1, SHAPES, tokens(1, 5, 2))


LAYOUTS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor], str | None]] = {
    "packed": (lambda: SelfAttention(C, H), lambda m: m(tokens(2, 5, C)), "out_proj"),
    "fused neighborhood": (
        lambda: NeighborhoodAttention(C, H, 3),
        lambda m: m(tokens(2, 5, 6, C)),
        "proj",
    ),
    "deformable": (lambda: DeformableAttention(C, H, 2, 0.0), run_deformable, "output_proj"),
    **{
        layout: (lambda names=names: Named(*names), lambda m: m(tokens(2, 5, C)), names[-1])
        for layout, names in NAMES.items()
    },
}


@pytest.mark.parametrize("heads", SETS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_removal_in_weights_is_removal_of_outputs(layout: str, heads: list[int]) -> None:
    make, run, projection = LAYOUTS[layout]
    module = randomized(make())
    (attention,) = attentions(module.state_dict(), heads=H)
    full = run(module)
    with without_heads(module, projection, heads):
        expected = run(module)
    with applied(module, heads_chosen([attention], heads, "x")):
        assert (run(module) - expected).abs().max() < 1e-12
    assert (full - expected).abs().max() > 1e-3
    assert torch.equal(run(module), full)


def test_torch_multi_head_attention_too() -> None:
    module = randomized(nn.MultiheadAttention(C, H, batch_first=True))
    (attention,) = attentions(module.state_dict(), heads=H)
    x = tokens(2, 5, C)

    def head(h: int) -> Tensor:
        """What head h alone adds to the output."""
        others = [other for other in range(H) if other != h]
        with applied(module, heads_chosen([attention], others, "x")):
            return module(x, x, x)[0] - module.out_proj.bias

    def by_hand(h: int) -> Tensor:
        rows = slice(h * C // H, (h + 1) * C // H)
        query, key, value = (
            x @ weight[rows].T + bias[rows]
            for weight, bias in zip(
                module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True
            )
        )
        weights = (query @ key.transpose(-1, -2) / (C // H) ** 0.5).softmax(-1)
        return weights @ value @ module.out_proj.weight[:, rows].T

    for h in range(H):
        assert (head(h) - by_hand(h)).abs().max() < 1e-12


class Sampling(DeformableAttention):
    """Deformable attention with only some of its projections, and without its identity."""

    def __init__(self, value: bool) -> None:
        super().__init__(C, H, 2, 0.0)
        self.output_proj = nn.Identity()
        if not value:
            self.value_proj = nn.Identity()

    def forward(self, query: Tensor, *args: object) -> Tensor:
        return super().forward(query, *args) - query


@pytest.mark.parametrize("heads", SETS, ids=str)
@pytest.mark.parametrize("value", [True, False], ids=["value only", "no projection"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_sampling_heads_are_slices_of_the_output(
    value: bool, heads: list[int], dtype: torch.dtype
) -> None:
    module = randomized(Sampling(value)).to(dtype)
    (attention,) = attentions(module.state_dict(), heads=H)

    def run() -> Tensor:
        x, memory = tokens(1, 5, C).to(dtype), tokens(1, COUNT, C).to(dtype) + 1
        return module(x, 0.0, memory, SHAPES, tokens(1, 5, 2).to(dtype))

    full = run()
    keep = torch.ones(H, dtype=dtype)
    keep[heads] = 0
    with applied(module, heads_chosen([attention], heads, "x")):
        cut = run()
    assert (cut - full * keep.repeat_interleave(C // H)).abs().max() < 1e-6
    assert (full - cut).abs().max() > 1e-3


def test_where_no_weights_remove_a_head_it_is_refused() -> None:
    module = Sampling(False)
    tensors = dict(module.state_dict())
    del tensors["sampling_offsets.bias"]
    (attention,) = attentions(tensors, heads=H)
    with pytest.raises(UserError, match=r"no weights of .* can remove a head exactly"):
        attention.remove([0])


def test_off_the_map_fits_the_type() -> None:
    for dtype, value in ((torch.float16, 6e4), (torch.bfloat16, 1e8), (torch.float32, 1e8)):
        (attention,) = attentions(Sampling(False).to(dtype).state_dict(), heads=H)
        assert attention.remove([0])[1].value == value
        assert torch.tensor(value, dtype=dtype).isfinite()


def test_attentions_are_found_with_their_heads() -> None:
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, module in {
            "backbone.attn": NeighborhoodAttention(C, 2, 3),
            "encoder.0.attn": DeformableAttention(C, H, 2, 0.0),
            "decoder.0.attn": SelfAttention(C, H),
            "other": nn.Linear(C, C),
        }.items()
        for name, tensor in module.state_dict().items()
    }
    config = {"encoder_attention_heads": 4, "decoder_attention_heads": 8}
    found = {one.prefix: (one.layout.name, one.heads) for one in attentions(tensors, config)}
    assert found == {
        "backbone.attn": ("fused", 2),  # its bias table has a row per head
        "encoder.0.attn": ("deformable", 4),
        "decoder.0.attn": ("packed", 8),
    }
    assert {one.heads for one in attentions(tensors, {"num_attention_heads": 16})} == {2, 16}
    unknown = select_attentions("decoder", tensors, "x")
    with pytest.raises(UserError, match=r"how many heads decoder\.0\.attn has; give --num-heads"):
        heads_each(unknown)


def table(columns: int, name: str = "relative_position_bias_table") -> dict[str, Tensor]:
    module = Named("q_proj", "k_proj", "v_proj", "o_proj").state_dict()
    return {**module, f"relative_position_bias.{name}": torch.zeros(49, columns)}


def at(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


PLAIN = Named("q_proj", "k_proj", "v_proj", "o_proj").state_dict()
SWIN = {"backbone_config": {"num_heads": [2, 4, 8, 16]}, "encoder_attention_heads": 1}
LW_DETR = {
    "decoder_self_attention_heads": 8,
    "decoder_cross_attention_heads": 16,
    "backbone_config": {"num_attention_heads": 4},
    "num_attention_heads": 2,
}
TIMM = {"backbone": "swin_tiny", "backbone_config": None, "encoder_attention_heads": 8}


@pytest.mark.parametrize(
    ("prefix", "config", "tensors", "heads"),
    [
        ("model.backbone.model.swin.encoder.layers.0.blocks.0.attention", SWIN, table(2), 2),
        ("model.backbone.model.swin.encoder.layers.2.blocks.5.attention", SWIN, PLAIN, 8),
        ("model.backbone.encoder.block.3.0.attention", SWIN, PLAIN, 16),  # PVT
        ("backbone.stages.1.blocks.0.attn", {"backbone": {"num_heads": [2, 4]}}, PLAIN, 4),
        ("model.backbone.layers.9.blocks.0.attention", SWIN, PLAIN, None),  # no such stage
        ("model.backbone.odd.0.attention", SWIN, PLAIN, None),  # of no stage that can be told
        ("model.backbone.odd.0.attention", {"backbone_config": {"num_heads": [4, 4]}}, PLAIN, 4),
        ("model.encoder.layers.0.self_attn", SWIN, PLAIN, 1),
        ("model.backbone.encoder.layers.0.blocks.0.attention", TIMM, PLAIN, None),
        ("model.backbone.encoder.layers.0.blocks.0.attention", TIMM, table(4), 4),
        ("backbone.0.layers.0.blocks.0.attn", {"nheads": 8}, PLAIN, None),
        ("backbone.0.layers.0.blocks.0.attn", {"nheads": 8}, table(2), 2),
        ("transformer.encoder.layers.0.self_attn", {"nheads": 8}, PLAIN, 8),
        ("model.backbone.encoder.layer.0.attention", LW_DETR, PLAIN, 4),
        ("model.decoder.layers.0.self_attn", LW_DETR, PLAIN, 8),
        ("model.decoder.layers.0.cross_attn", LW_DETR, PLAIN, 16),
        ("transformer.decoder.layers.0.cross_attn", {"sa_nheads": 8, "ca_nheads": 16}, PLAIN, 16),
        ("transformer.decoder.layers.0.self_attn", {"sa_nheads": 8, "ca_nheads": 16}, PLAIN, 8),
        ("vit.encoder.layer.0.attention", {"num_attention_heads": 2}, PLAIN, 2),
        (
            "reading_order.encoder.layer.0.attention",
            {"reading_order_config": {"num_attention_heads": 2}, "encoder_attention_heads": 8},
            PLAIN,
            2,
        ),
        ("model.text_backbone.layer.0.attention", {"text_config": {"num_heads": 2}}, PLAIN, 2),
        ("model.text_backbone.layer.0.attention", {"num_heads": 2}, PLAIN, None),
    ],
)  # fmt: skip
def test_heads_are_counted_by_what_tells_of_this_module(
    prefix: str, config: dict[str, object], tensors: dict[str, Tensor], heads: int | None
) -> None:
    (attention,) = attentions(at(prefix, tensors), config)
    assert attention.heads == heads
    (given,) = attentions(at(prefix, tensors), config, heads=heads or 16)
    assert given.head_count() == (heads or 16)  # where nothing tells it, or two things disagree
    if heads:
        (wrong,) = attentions(at(prefix, tensors), config, heads=2 * heads)
        with pytest.raises(UserError, match=f"given: {2 * heads} by --num-heads, {heads} by "):
            wrong.head_count()


def test_where_two_things_tell_other_numbers_of_heads_it_is_refused() -> None:
    prefix = "model.backbone.encoder.layers.0.blocks.0.attention"
    (attention,) = attentions(at(prefix, table(4)), SWIN)
    with pytest.raises(UserError) as error:
        attention.remove([0])
    assert str(error.value) == (
        f"cannot tell how many heads {prefix} has (4 by "
        "relative_position_bias.relative_position_bias_table, 2 by backbone_config.num_heads); "
        "give --num-heads, in a recipe num_heads"
    )
    (attention,) = attentions(at(prefix, table(4)), SWIN, heads=2)
    assert attention.remove([0])[0].region.ranges == ((0, C // 2),)


class Model(nn.Module):
    """What only the running module tells: nn.MultiheadAttention, and Hugging Face's head_dim."""

    def __init__(self) -> None:
        super().__init__()
        self.packed = nn.MultiheadAttention(C, H)
        self.named = Named("q_proj", "k_proj", "v_proj", "o_proj")
        self.named.head_dim = C // 8
        self.mute = Named("q_proj", "k_proj", "v_proj", "o_proj")

    def live_names(self) -> dict[str, tuple[str, ...]]:
        return {f"saved.{name}": (name,) for name in self.state_dict()}

    @property
    def module(self) -> nn.Module:
        return self


@pytest.mark.parametrize(("name", "heads"), [("packed", H), ("named", 8), ("mute", None)])
def test_where_the_file_tells_no_heads_the_running_model_is_asked(
    name: str, heads: int | None, tmp_path: Path
) -> None:
    model = Model()
    path = tmp_path / "model.pth"
    torch.save({f"saved.{name}": tensor for name, tensor in model.state_dict().items()}, path)
    with open_checkpoint(path) as checkpoint:
        (asked,) = KindContext(checkpoint, live=lambda: model).attentions(f"saved.{name}", None)
        (alone,) = KindContext(checkpoint).attentions(f"saved.{name}", None)
        (given,) = KindContext(checkpoint, live=lambda: model).attentions(f"saved.{name}", 2)
    assert (asked.heads, alone.heads, given.heads) == (heads, None, 2)


def test_the_running_model_knows_better_than_the_arguments_of_a_script(tmp_path: Path) -> None:
    model = Model()
    weights = {f"saved.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": weights, "hyper_parameters": {"n_heads": 16}}, tmp_path / "x.ckpt")
    with open_checkpoint(tmp_path / "x.ckpt") as checkpoint:
        for live, heads in ((None, [16, 16, 16]), (lambda: model, [H, 8, 16])):
            found = KindContext(checkpoint, live=live).attentions("saved", None)
            assert [one.heads for one in found] == heads


def test_patterns_choose_attentions_by_any_of_their_tensors() -> None:
    tensors = {
        f"decoder.{i}.attn.{name}": tensor
        for i in range(2)
        for name, tensor in SelfAttention(C, H).state_dict().items()
    } | {"decoder.0.norm.weight": torch.ones(C)}

    def chosen(pattern: str) -> list[str]:
        return [one.prefix for one in select_attentions(pattern, tensors, "x", heads=H)]

    assert chosen("decoder.*.attn") == ["decoder.0.attn", "decoder.1.attn"]
    assert chosen("decoder.1.attn.in_proj_weight") == ["decoder.1.attn"]
    assert chosen("decoder.0") == ["decoder.0.attn"]
    with pytest.raises(UserError, match="is not part of an attention module"):
        chosen("decoder.0.norm")
    tensors = {"decoder.0.norm.weight": torch.ones(C)}
    with pytest.raises(UserError, match=r"^no attention module is known in x: .* can name none$"):
        chosen("**")


def one_attention() -> Attention:
    return attentions(SelfAttention(C, H).state_dict(), heads=H)[0]


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("normalize", [nn.utils.weight_norm, parametrizations.weight_norm])
@pytest.mark.parametrize("place", ["", "out_proj"])
def test_attention_under_weight_normalization_is_refused_with_the_reason(
    normalize: Callable[..., nn.Module], place: str
) -> None:
    model = nn.ModuleDict({"a": nn.MultiheadAttention(C, H), "b": nn.MultiheadAttention(C, H)})
    normalize(model["b"].get_submodule(place), "weight" if place else "in_proj_weight")
    tensors = model.state_dict()
    pattern = r"b\.(.*weight_v|.*original1|in_proj_weight_v) is under weight normalization"
    for chosen in ("b.*", "**"):
        with pytest.raises(UserError, match=pattern):
            heads_each(select_attentions(chosen, tensors, "file", heads=H))
    assert len(heads_each(select_attentions("a.*", tensors, "file", heads=H))) == H


@pytest.mark.parametrize("head", [-1, 4])
def test_heads_out_of_range_are_refused(head: int) -> None:
    with pytest.raises(UserError, match=f"has no head {head}; it has 4 heads, 0 to 3"):
        one_attention().remove([head])


def test_more_heads_than_there_is_room_for_are_refused_before_they_are_listed() -> None:
    (attention,) = attentions(SelfAttention(C, H).state_dict(), heads=2**63)
    with pytest.raises(UserError, match="cannot have 9,223,372,036,854,775,808 heads"):
        heads_each([attention])


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    (attention,) = attentions(SelfAttention(C, H).state_dict(), heads=5)
    with pytest.raises(UserError, match="32 columns, which cannot be divided among 5 heads"):
        attention.remove([0])


def test_a_share_of_heads_is_drawn_for_each_module() -> None:
    module = SelfAttention(C, H)
    tensors = {f"{i}.{n}": t for i in range(20) for n, t in module.state_dict().items()}
    modules = attentions(tensors, heads=H)
    made = RandomHeads(pattern="x", percent=[25, 50], repeats=3, seed=1).of(modules, "x")
    assert [one.name for one in made[:3]] == ["x-25pct-r0", "x-25pct-r1", "x-25pct-r2"]
    widths = [[edit.region.count((C, C)) // C for edit in one.edits] for one in made]
    assert set(itertools.chain(*widths[:3])) == {C // H}
    assert set(itertools.chain(*widths[3:])) == {2 * C // H}
    assert len({edit.region for edit in made[0].edits}) > 1  # modules lose different heads
    assert len({one.digest for one in made}) == 6
    with pytest.raises(UserError, match="10 % of the 4 heads of 0 is less than one"):
        RandomHeads(pattern="x", percent=[10]).of(modules, "x")


def test_each_head_by_itself() -> None:
    made: list[Ablation] = heads_each([one_attention()])
    assert len(made) == H
    assert len({one.digest for one in made}) == H
