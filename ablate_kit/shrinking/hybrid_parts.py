"""Parts of the hybrid detector that add nothing, taken out: branches, blocks, layers, modules."""

import re
from collections.abc import Collection, Iterator, Mapping

from ablate_kit.ablations.attention import TensorLike
from ablate_kit.shrinking.reduction import Reduction
from ablate_kit.shrinking.structures import RemovedModule
from detector.config import HybridConfig
from detector.network.decoder import refine_scales

# Of each kind of layer, its branches in order: branch i is norm{i}, the module, scale{i}.
BRANCHES = {
    r"encoder\.layers\.\d+": ("self_attn", "ffn"),
    r"decoder\.layers\.\d+": ("self_attn", "cross_attn", "ffn"),
    r"backbone\.stage3\.\d+\.attention[12]\.layers\.\d+": ("attn", "mlp"),
}

NECK_BLOCK = r"neck\.repeats\.\d+\.(?:top|bottom)_blocks\.\d+"


def take_parts(reduction: Reduction, config: HybridConfig) -> None:
    """Takes out what the ablation makes add nothing to its input, and says so in the settings."""
    _take_branches(reduction)
    for stage in (0, 1, 2):
        _take_blocks(reduction, config, stage)
    _take_neck_blocks(reduction)
    _take_modules(reduction, config)
    _take_encoder_layers(reduction, config)
    _take_decoder_layers(reduction, config)


def _take_branches(reduction: Reduction) -> None:
    tensors, zeroed = reduction.tensors, reduction.zeroed
    for layer, parts in _layers(tensors):
        for number, part in enumerate(parts, start=1):
            module, scale = f"{layer}.{part}", f"{layer}.scale{number}"
            # Of deformable attention none: it hands on its query, whatever it attends to.
            known = (f"{module}.{name}" for name in ("out_proj", "proj", "fc2"))
            last = next((one for one in known if f"{one}.weight" in tensors), None)
            silent = zeroed.whole(f"{scale}.weight") or (
                last is not None and zeroed.whole(f"{last}.weight", f"{last}.bias")
            )
            if silent:
                reduction.remove(module, "branch")
                reduction.drop(scale)
                reduction.drop(f"{layer}.norm{number}")


def _layers(tensors: Mapping[str, TensorLike]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for pattern, parts in BRANCHES.items():
        found = dict.fromkeys(
            match[0] for name in tensors if (match := re.match(rf"{pattern}(?=\.)", name))
        )
        yield from ((layer, parts) for layer in found)


def _take_blocks(reduction: Reduction, config: HybridConfig, stage: int) -> None:
    """Residual blocks of a stage: their last norm gives nothing, or the scale after it."""
    count, zeroed = config.depths[stage], reduction.zeroed
    gone = []
    for i in range(count):
        block = f"backbone.stage{stage}.{i}"
        scaled = stage < 2 and zeroed.whole(f"{block}.scale.weight")
        if scaled or zeroed.whole(f"{block}.norm.weight", f"{block}.norm.bias"):
            gone.append(i)
    if stage == 0 and len(gone) == count:
        gone = gone[1:]  # by whose names a checkpoint of this detector is told
    if not gone:
        return
    for i in gone:
        reduction.remove(f"backbone.stage{stage}.{i}", "block")
    _renumber(reduction, f"backbone.stage{stage}", gone)
    depths = list(reduction.settings.get("depths", config.depths))  # type: ignore[call-overload]
    depths[stage] -= len(gone)
    reduction.settings["depths"] = tuple(depths)


def _take_neck_blocks(reduction: Reduction) -> None:
    zeroed = reduction.zeroed
    for name in reduction.tensors:
        match = re.fullmatch(rf"({NECK_BLOCK})\.scale\.weight", name)
        if match and (
            zeroed.whole(name) or zeroed.whole(f"{match[1]}.norm.weight", f"{match[1]}.norm.bias")
        ):
            reduction.remove(match[1], "block")


def _take_modules(reduction: Reduction, config: HybridConfig) -> None:
    zeroed = reduction.zeroed
    if config.csi and zeroed.whole("backbone.csi.norm.weight", "backbone.csi.norm.bias"):
        reduction.remove("backbone.csi", "module")
        reduction.settings["csi"] = False
    left = []
    for stage in config.pgi:
        module = f"backbone.pgi{stage}"
        norms = (f"{module}.{norm}.{end}" for norm in ("main_norm", "aux_norm2")
                 for end in ("weight", "bias"))  # fmt: skip
        if zeroed.whole(*norms):
            reduction.remove(module, "module")
        else:
            left.append(stage)
    if tuple(left) != config.pgi:
        reduction.settings["pgi"] = tuple(left)
        if not left:
            reduction.settings["pgi_in_evaluation"] = False


def _take_encoder_layers(reduction: Reduction, config: HybridConfig) -> None:
    """Those of which no branch is left."""
    layers = range(config.encoder_layers)
    gone = [i for i in layers if not _left(reduction, f"encoder.layers.{i}")]
    _renumber(reduction, "encoder.layers", gone)
    _say_layers(reduction, "encoder.layers", gone)
    if gone:
        reduction.settings["encoder_layers"] = config.encoder_layers - len(gone)


def _take_decoder_layers(reduction: Reduction, config: HybridConfig) -> None:
    """Those of which no branch is left and that move no reference; their heads go with them, for
    which training alone has a use."""
    gone = []
    for i in range(config.decoder_layers):
        layer = f"decoder.layers.{i}"
        left = _left(reduction, layer)
        still = reduction.zeroed.whole(f"{layer}.refine2.weight", f"{layer}.refine2.bias")
        if still and all(name.startswith(f"{layer}.refine") for name in left):
            gone.append(i)
    if len(gone) == config.decoder_layers:
        gone = gone[1:]
    if not gone:
        return
    for i in gone:
        reduction.drop(f"decoder.layers.{i}")
    kept = [i for i in range(config.decoder_layers) if i not in gone]
    _renumber(reduction, "decoder.layers", gone)
    if config.aux_loss:
        # The last layer that is left has the main head.
        heads = [i for i in range(config.decoder_layers - 1) if i not in kept[:-1]]
        for i in heads:
            reduction.drop(f"heads.aux.{i}")
        _renumber(reduction, "heads.aux", heads)
    _say_layers(reduction, "decoder.layers", gone)
    scales = refine_scales(config)
    reduction.settings |= {
        "decoder_layers": len(kept),
        "decoder_points": tuple(config.points[i] for i in kept),
        "decoder_refine": tuple(scales[i] for i in kept),
    }


def _say_layers(reduction: Reduction, base: str, gone: Collection[int]) -> None:
    """A layer that is gone, in place of its branches."""
    for i in gone:
        layer = f"{base}.{i}"
        reduction.structures = [
            one
            for one in reduction.structures
            if not (isinstance(one, RemovedModule) and one.module.startswith(f"{layer}."))
        ]
        reduction.structures.append(RemovedModule(layer, "layer"))


def _left(reduction: Reduction, prefix: str) -> list[str]:
    names = (name for name in reduction.tensors if name not in reduction.dropped)
    return [name for name in names if name.startswith(f"{prefix}.")]


def _renumber(reduction: Reduction, base: str, gone: Collection[int]) -> None:
    for name in reduction.tensors:
        match = re.fullmatch(rf"{re.escape(base)}\.(\d+)\.(.+)", name)
        before = sum(i < int(match[1]) for i in gone) if match else 0
        if match and before and name not in reduction.dropped:
            reduction.renamed[name] = f"{base}.{int(match[1]) - before}.{match[2]}"
