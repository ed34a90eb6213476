"""Switching modules of the hybrid detector: the same weights under another config."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ablate_kit.errors import UserError, did_you_mean
from detector.config import CONTRASTIVE_DENOISING, HybridConfig
from detector.network.decode import query_scores
from detector.network.encoder import EncoderLayer
from detector.network.layers import LayerScale
from detector.network.model import HybridDetector
from detector.network.modules.csi import CSI
from detector.network.modules.pgi import PGI
from detector.yaml_values import LARGEST, YamlError, read_yaml

Init = Literal["identity", "fresh"]

# Words for what takes several settings, or a list.
WORDS: dict[str, dict[bool, dict[str, Any]]] = {
    "gate_fuse": {
        True: {"stage2": "gate"},
        False: {
            "stage2": "dcn",
            "stage2_dropout": False,
            "gate_kernels": True,
            "gate_spatial": True,
            "gate_deform_share": True,
        },
    },
    "denoising": {
        True: CONTRASTIVE_DENOISING,
        False: {name: getattr(HybridConfig, name) for name in CONTRASTIVE_DENOISING},
    },
    "pgi": {True: {"pgi": [1, 2, 3]}, False: {"pgi": [], "pgi_in_evaluation": False}},
}


@dataclass(frozen=True)
class Swap:
    """A model with switches set anew, and where each of its tensors comes from."""

    model: HybridDetector
    kept: dict[str, int]  # elements by name
    new: dict[str, int]
    dropped: dict[str, int]
    change: float  # greatest difference of scores and boxes from the original's, on one image


def parse_switches(texts: Sequence[str], config: HybridConfig) -> dict[str, Any]:
    """Settings of ``HybridConfig`` from words such as ``csi=off``, ``pgi=[1,3]``, ``stage2=sum``.

    ``on`` and ``off`` are true and false. Raises ``UserError`` for an unknown switch, for a value
    that cannot be read and for a switch that is so already.
    """
    known = [*config.to_dict(), *WORDS]
    changes: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f'cannot read the switch "{text}"; expected NAME=VALUE, as in csi=off')
        if name not in known:
            raise UserError(f'unknown switch "{name}"{did_you_mean(name, known)}')
        try:
            parsed = {"on": True, "off": False}.get(value, read_yaml(value[:LARGEST]).value)
        except YamlError as error:
            raise UserError(
                f'cannot read the value of the switch "{text[:60]}", column {error.column}: '
                f"{error.problem}"
            ) from None
        if name == "denoising" and parsed == "none":  # its settings go with it
            parsed = False
        if name in WORDS and isinstance(parsed, bool):
            changes |= WORDS[name][parsed]
        elif name == "gate_fuse":
            raise UserError(f'gate_fuse is "{value}"; expected on or off')
        else:
            changes[name] = parsed
    if config.replace(**changes) == config:
        raise UserError(f"nothing to swap: {' '.join(texts)} is what the checkpoint has")
    return changes


def swap(
    original: HybridDetector, changes: Mapping[str, Any], init: Init = "identity", seed: int = 0
) -> Swap:
    """The model of the changed config, with every tensor that both have, bit for bit.

    Tensors that only the new model has are initialized from ``seed``; so are those of another
    shape than before. ``identity`` then sets those modules that can do so to add nothing: CSI,
    PGI, and layers appended to the encoder. ``Swap.change`` says what came of it.
    """
    model = HybridDetector(original.config.replace(**changes), seed=seed)
    before, after = original.state_dict(), model.state_dict()
    kept = {
        name: tensor
        for name, tensor in before.items()
        if name in after and after[name].shape == tensor.shape
    }
    if init == "identity":
        for name, module in model.named_modules():
            if not any(tensor.startswith(f"{name}.") for tensor in before):
                _silence(module)
        after = model.state_dict()
    model.load_state_dict(after | kept)
    partly = _keep_query_rows(original, model)
    return Swap(
        model=model,
        kept=_elements(kept) | partly,
        new=_remaining(after, _elements(kept) | partly),
        dropped=_remaining(before, _elements(kept) | partly),
        change=_difference(original, model),
    )


def grouped(names: Mapping[str, int], others: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Tensors and elements by the largest modules that hold none of the ``others``.

    Numbers of blocks and layers are written as ``*``.
    """
    shared = {name[:end] for name in others for end in _ends(name)}
    groups: dict[str, tuple[int, int]] = {}
    for name, count in names.items():
        own = (name[:end] for end in _ends(name) if name[:end] not in shared)
        module = re.sub(r"\.\d+", ".*", next(own, name))
        tensors, elements = groups.get(module, (0, 0))
        groups[module] = (tensors + 1, elements + count)
    return groups


def _ends(name: str) -> list[int]:
    """Where the names of the modules that a tensor is in end, outermost first."""
    return [match.start() for match in re.finditer(r"\.", name)]


def _silence(module: nn.Module) -> None:
    """Makes a module that adds to its input add zero, where its weights can."""
    silent: list[nn.Parameter] = []
    if isinstance(module, CSI):
        silent += module.norm.parameters()
    elif isinstance(module, PGI):
        silent += [*module.main_norm.parameters(), *module.aux_norm2.parameters()]
    elif isinstance(module, EncoderLayer):
        silent += [one.weight for one in module.children() if isinstance(one, LayerScale)]
    with torch.no_grad():
        for parameter in silent:
            parameter.zero_()


@torch.no_grad()
def _keep_query_rows(original: HybridDetector, model: HybridDetector) -> dict[str, int]:
    """Keeps the queries' own rows where rows for denoising before them come or go.

    Returns the elements kept so, by tensor.
    """
    one, other = original.queries, model.queries
    count, channels = original.config.queries, original.config.d_model
    same = (count, channels) == (model.config.queries, model.config.d_model)
    if not same or one.denoising_rows == other.denoising_rows:
        return {}
    other.content[-count:] = one.content[-count:]
    other.position[-count:] = one.position[-count:]
    return {f"queries.{name}": count * channels for name in ("content", "position")}


def _remaining(tensors: Mapping[str, torch.Tensor], kept: Mapping[str, int]) -> dict[str, int]:
    """Elements by name, less those kept; tensors kept as a whole are left out."""
    rest = {name: tensor.numel() - kept.get(name, 0) for name, tensor in tensors.items()}
    return {name: count for name, count in rest.items() if count or name not in kept}


def _elements(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    return {name: tensor.numel() for name, tensor in tensors.items()}


@torch.inference_mode()
def _difference(one: HybridDetector, other: HybridDetector) -> float:
    """Greatest difference of scores and boxes on a random image, both models in evaluation.

    Infinite where the outputs have different shapes.
    """
    size = one.config.image_size
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    pairs = list(zip(_outputs(one, image), _outputs(other, image), strict=True))
    if any(x.shape != y.shape for x, y in pairs):
        return float("inf")
    return max(float((x - y).abs().max()) for x, y in pairs)


def _outputs(model: HybridDetector, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    out, config = model.eval()(image), model.config
    scores = query_scores(out, background_gate=config.background_gate, iou_gamma=config.iou_gamma)
    return scores, out["boxes"]
