"""Knobs of Hugging Face detectors: their own fields of the configuration and of the processor."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.frameworks.forward import describe_error
from ablate_kit.models.frameworks.hugging_face.hf_folder import without_hub
from ablate_kit.models.frameworks.hugging_face.loading_report import quiet
from ablate_kit.models.frameworks.hugging_face.transformers_adapter import (
    TransformersAdapter,
    check_classes,
)
from ablate_kit.models.model_knobs import Knob, untrained, untrained_boxes

# Of a model that is built for one size: what it computes ahead.
_FIXED_SIZES = ("anchor_image_size", "eval_size")
_COUNTS = ("num_queries", "num_detection_tokens")  # of queries, by the configuration
_HEADS = re.compile(r"(.*\b(?:class_embed|bbox_embed))\.(\d+)\.(.+)")


class TransformersKnobs:
    def __init__(self, adapter: TransformersAdapter) -> None:
        check_classes(adapter, "turning knobs")
        self._adapter = adapter
        self._config = adapter.module.config

    def now(self, knob: Knob) -> int:
        if knob == "depth":
            return self._depth()
        if knob == "queries":
            return int(getattr(self._config, self._field()))
        return _side(self._adapter.processor)

    def configured(self, knob: Knob, value: int) -> Adapter:
        processor = copy.deepcopy(self._adapter.processor)
        if knob == "size":
            processor.size = _resized(processor.size, value, _side(processor))
        import transformers  # which the adapter was opened by

        kind = type(self._adapter.module)
        try:
            with quiet(transformers), without_hub(), torch.random.fork_rng(devices=[]):
                config = self._changed(knob, value)
                module = kind(config)
                module.load_state_dict(self._weights(module, config), assign=True)
        # Any class: the library checks a configuration here and there, and by other libraries.
        except Exception as error:
            raise UserError(
                f"{kind.__name__} cannot be built with {knob} {value}: {describe_error(error)}"
            ) from error
        there = module.state_dict()
        live = {
            name: places
            for name, places in self._adapter.live_names().items()
            if all(place in there for place in places)
        }
        found = TransformersAdapter(module, processor, live, self._adapter.device)
        found.classes = self._adapter.classes  # which the user may have named
        return found

    def note(self, knob: Knob, value: int) -> str | None:
        if knob != "depth":
            return None
        found = None
        biases = getattr(self._head("class_embed", value), "bias", None)
        if isinstance(biases, Tensor):
            found = untrained(value, biases)
        layers = getattr(self._head("bbox_embed", value), "layers", None)
        if found is None and isinstance(layers, nn.ModuleList):
            found = untrained_boxes(value, layers[-1].get_parameter("bias"))
        return found

    def _head(self, name: str, depth: int) -> nn.Module | None:
        heads = getattr(self._adapter.module, name, None)
        if not isinstance(heads, nn.ModuleList):
            return None
        return heads[min(depth, len(heads)) - 1]  # all layers may share one

    def reusable(self, adapter: Adapter) -> Sequence[nn.Module]:
        module = adapter.module
        path = _decoder(module)
        if path is None:
            return []
        # What reads the configuration: the model, the decoder, and what both are in.
        parts = path.split(".")
        inner = {".".join(parts[:i]) for i in range(len(parts) + 1)}
        found: list[nn.Module] = []
        for name in inner:
            for child, one in module.get_submodule(name).named_children():
                if f"{name}.{child}".lstrip(".") not in inner:
                    found += list(one) if isinstance(one, nn.ModuleList) else [one]
        return found

    def _changed(self, knob: Knob, value: int) -> Any:
        """The configuration with a knob turned."""
        config = copy.deepcopy(self._config)
        if knob == "depth" and value == 1:  # the library cannot tie the heads of a single layer
            config.tie_word_embeddings = False
        if knob == "depth":
            config.decoder_layers = value
            if hasattr(config, "eval_idx"):
                config.eval_idx = -1
        if knob == "queries":
            for name in {*_COUNTS, self._field()}:
                if hasattr(config, name):
                    setattr(config, name, value)
        if knob == "size":
            for name in _FIXED_SIZES:
                if (own := getattr(config, name, None)) is not None:
                    setattr(config, name, value if isinstance(own, int) else [value, value])
        return config

    def _depth(self) -> int:
        if _decoder(self._adapter.module) is None:
            raise UserError(
                f"the decoder of {type(self._adapter.module).__name__} cannot be left early: it "
                "has none with layers (decoder.layers, and decoder_layers in its configuration)"
            )
        layers = int(self._config.decoder_layers)
        last = int(getattr(self._config, "eval_idx", -1))
        if last not in (-1, layers - 1):
            raise UserError(
                f"the decoder was trained to be left after layer {last % layers} of {layers} "
                "(eval_idx), with other layers behind it; it cannot be left elsewhere"
            )
        return layers

    def _field(self) -> str:
        """Of the configuration, for the number of queries."""
        if getattr(self._config, "two_stage", False) is True and hasattr(
            self._config, "two_stage_num_proposals"
        ):
            return "two_stage_num_proposals"
        found = next((key for key in _COUNTS if hasattr(self._config, key)), None)
        if found is None:
            raise UserError(
                f"{type(self._adapter.module).__name__} has no number of queries to choose "
                f"({' or '.join(_COUNTS)} in its configuration)"
            )
        return found

    def _weights(self, module: nn.Module, config: Any) -> dict[str, Tensor]:
        """This detector's, as the other takes them."""
        ours = self._adapter.module.state_dict()
        layers, depth = (getattr(one, "decoder_layers", None) for one in (self._config, config))
        before, after = (
            next((getattr(one, key) for key in _COUNTS if hasattr(one, key)), 0)
            for one in (self._config, config)
        )
        found = {}
        for name, like in module.state_dict().items():
            match = _HEADS.fullmatch(name)
            source = name
            if match and int(match[2]) == depth:  # the head that proposes comes after the layers'
                source = f"{match[1]}.{layers}.{match[3]}"
            there = ours[source]
            same = there.shape == like.shape
            found[name] = there if same else _first(there, like, before, after, name)
        return found


def _decoder(module: nn.Module) -> str | None:
    """The name of what has ``decoder_layers`` layers."""
    count = getattr(module.config, "decoder_layers", None)
    for name, one in module.named_modules():
        layers = getattr(one, "layers", None)
        own = name.rsplit(".", 1)[-1] == "decoder"
        if own and isinstance(layers, nn.ModuleList) and len(layers) == count:
            return name
    return None


def _first(table: Tensor, like: Tensor, before: int, after: int, name: str) -> Tensor:
    """The first rows of a table of queries, or of each of several tables in one. Of YOLOS's tokens
    for queries, the first, which lie behind those of the image."""
    (axis,) = (i for i in range(table.ndim) if table.shape[i] != like.shape[i])
    if axis:
        return table.narrow(axis, 0, like.shape[axis]).contiguous()
    if not before or table.shape[0] % before or after > before:
        raise ValueError(f'"{name}" has {table.shape[0]} rows, for {before} queries')
    groups = table.reshape(-1, before, *table.shape[1:])
    return groups[:, :after].reshape(-1, *table.shape[1:])


def _side(processor: Any) -> int:
    """The height and width of prepared images, or the shorter of them."""
    size = dict(processor.size or {})
    if not getattr(processor, "do_resize", True):
        raise UserError("the image processor does not resize images (do_resize)")
    if "shortest_edge" in size:
        return int(size["shortest_edge"])
    if size.get("height") is None or size.get("height") != size.get("width"):
        raise UserError(
            f"the image processor's size is {size}; expected one side, or height and width alike"
        )
    return int(size["height"])


def _resized(size: Any, value: int, before: int) -> dict[str, int]:
    """The longest edge grows and shrinks with the shortest one."""
    scaled: Mapping[str, int | None] = dict(size)
    return {
        name: value if name != "longest_edge" else round(old * value / before)
        for name, old in scaled.items()
        if old is not None
    }
