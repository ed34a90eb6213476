"""Knobs of the hybrid detector."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from ablate_kit.models.model_knobs import Knob, untrained
from detector.config import HybridConfig
from detector.network.decoder import refine_scales
from detector.network.model import HybridDetector
from detector.network.modules.query_selection import allocate
from detector.settings import LAYER_SIZES

_TABLES = ("queries.content", "queries.position")
_PER_LAYER = tuple(name for name in LAYER_SIZES if name.startswith("decoder_"))
_CHOSEN = ("proposal_queries", "peak_queries", "grid_queries")


class HybridKnobs:
    def __init__(self, adapter: HybridAdapter) -> None:
        self._adapter = adapter
        self._config: HybridConfig = adapter.module.config

    def now(self, knob: Knob) -> int:
        if knob == "size":
            return self._config.image_size
        if knob == "queries":
            return self._config.queries
        if not self._config.aux_loss and self._config.decoder_layers > 1:
            raise UserError(
                "the decoder cannot be left early: the model was made without heads on its earlier "
                "layers (aux_loss is false)"
            )
        return self._config.decoder_layers

    def configured(self, knob: Knob, value: int) -> Adapter:
        config = self._config.replace(**_changes(self._config, knob, value))
        module = HybridDetector(config)
        module.load_state_dict(self._weights(config), assign=True)
        names = module.state_dict()
        live = {
            name: there
            for name, there in self._adapter.live_names().items()
            if all(one in names for one in there)
        }
        return HybridAdapter(module, self._adapter.classes, live, self._adapter.device)

    def note(self, knob: Knob, value: int) -> str | None:
        aux = self._adapter.module.heads.aux
        if knob != "depth" or value > len(aux):
            return None
        return untrained(value, aux[value - 1].class_head.bias[:-1])  # type: ignore[union-attr,index]

    def reusable(self, adapter: Adapter) -> Sequence[nn.Module]:
        module = adapter.module
        assert isinstance(module, HybridDetector)  # noqa: S101 - one of ``configured``
        return [
            *(module.backbone, module.neck, module.encoder, module.queries),
            *module.decoder.layers,
        ]

    def _weights(self, config: HybridConfig) -> dict[str, Tensor]:
        found = self._adapter.module.state_dict()
        depth = config.decoder_layers
        if depth < self._config.decoder_layers:
            found = _renamed(found, depth)
        if config.queries != self._config.queries:
            rows = torch.tensor(_rows(self._config, config), device=self._adapter.device)
            found |= {name: found[name][rows] for name in _TABLES}
        return found


def _changes(config: HybridConfig, knob: Knob, value: int) -> dict[str, Any]:
    if knob == "size":
        return {"image_size": value}
    if knob == "depth":
        # Only training knows the copies that denoising compares; one layer alone has no "all".
        alone = {"denoising_layers": "last"} if value == 1 else {}
        per_layer = {name: getattr(config, name) for name in _PER_LAYER}
        return {
            "decoder_layers": value,
            "decoder_points": config.points[:value],
            **{name: None if own is None else own[:value] for name, own in per_layer.items()},
            # By default it goes with a layer's place among all layers that there are.
            "decoder_refine": refine_scales(config)[:value],
            **alone,
        }
    counts = _counts(config)
    shares = dict(zip(counts, allocate(value, list(counts.values())), strict=True))
    return {"queries": value, **{name: shares[name] for name in _CHOSEN}}


def _counts(config: HybridConfig) -> dict[str, int]:
    """Of each kind of queries."""
    chosen = {name: int(getattr(config, name)) for name in _CHOSEN}
    return {**chosen, "learned": config.queries - sum(chosen.values())}


def _rows(before: HybridConfig, after: HybridConfig) -> list[int]:
    """Of the tables of queries, those that stay: the first ones of each kind."""
    row = before.denoising_queries if before.denoising == "thesis" else 0
    kept = list(range(row))
    # As ``detector.network.queries`` lays them out; proposals have rows that nothing reads.
    old, new = _counts(before), _counts(after)
    for name in ("peak_queries", "grid_queries", "learned", "proposal_queries"):
        kept += range(row, row + new[name])
        row += old[name]
    return kept


def _renamed(weights: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Those of the first layers, and of the last one's own head as the detector's."""
    found = {}
    for name, tensor in weights.items():
        part, _, rest = name.partition(".")
        own, _, inner = rest.partition(".")
        if part == "decoder" and own == "layers":
            if int(inner.split(".")[0]) < depth:
                found[name] = tensor
        elif part == "heads" and own == "aux":
            number, _, leaf = inner.partition(".")
            if int(number) < depth - 1:
                found[name] = tensor
            elif int(number) == depth - 1:
                found[f"heads.main.{leaf}"] = tensor
        elif not (part == "heads" and own == "main"):
            found[name] = tensor
    return found
