"""Where a framework's detectors keep their parts: one value, whose defaults are the usual names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ablate_kit.anatomy import head_counts
from ablate_kit.anatomy.layouts import LAYOUTS, Layout

QUERY_TABLES = (
    "query_position_embeddings.weight",  # Hugging Face: DETR, Conditional and Deformable DETR
    "query_refpoint_embeddings.weight",  # ... DAB-DETR
    "query_feat.weight",  # ... LW-DETR, RF-DETR
    "reference_point_embed.weight",
    "query_embed.weight",  # the original repositories
    "refpoint_embed.weight",
    "tgt_embed.weight",
    "query_embedding.weight",  # MMDetection
    "query_pos.weight",  # of one's own, as a table or a parameter
    "query_pos",
    "query_feat",
    "query_embed",
    "queries.weight",
    "object_queries.weight",
    "object_queries",
    "queries.content",  # the hybrid detector
    "queries.position",
)

PROPOSALS = ("enc_output", "memory_trans_fc")  # elsewhere, MMDetection

LEVEL_LISTS = (
    "encoder_input_proj",  # Hugging Face: RT-DETR, D-FINE, DEIM; backbone to encoder
    "decoder_input_proj",  # ... encoder to decoder
    "input_proj",  # Deformable DETR and DINO
    "inputs",  # the hybrid detector's neck
    "convs",  # MMDetection's ChannelMapper
    "inner_blocks",  # torchvision's FPN
)

LEVEL_COUNTS = ("num_feature_levels", "decoder_n_levels", "num_levels", "n_levels")
_OF_HYBRID = 4  # levels of the hybrid detector, whose config tells the number of its queries


def sampling_points(total: int, config: Mapping[str, Any]) -> tuple[int, ...] | None:
    """How the points of a head are divided among levels, by the usual keys."""
    listed = config.get("decoder_n_points")
    if isinstance(listed, list) and sum(listed) == total:
        return tuple(listed)
    count = next((config[key] for key in LEVEL_COUNTS if config.get(key)), None)
    if count is None and "position" in config and "queries" in config:
        count = _OF_HYBRID
    return evenly(total, count)


def evenly(total: int, levels: object) -> tuple[int, ...] | None:
    """As many on each level, if that is possible."""
    if type(levels) is not int or levels < 1 or total % levels:
        return None
    return (total // levels,) * levels


@dataclass(frozen=True)
class Anatomy:
    """What is known of models by the names of their tensors and the keys of their configurations.

    Attributes:
        layouts: under which names attention modules keep their weights.
        heads: what a configuration says of how many heads the attention at a prefix, of a layout
            by its name, has: by the key that says so.
        query_tables: tables with a row per object query, from a dot or the beginning on.
        proposals: layers that only a model has which selects its queries by the image, among the
            tokens of its encoder.
        level_lists: lists of projections, one per level of the feature pyramid.
        sampling_points: what a configuration says of how many of a head's points, so many in all,
            lie on each level; None where it does not tell.
        scaled_attentions: the residual branches of layers with a layer scale for each, in order.
        feed_forwards: the last branch of such a layer.
        last_layers: of a feed-forward branch, where shapes do not tell which layer is last.
    """

    layouts: tuple[Layout, ...] = LAYOUTS
    heads: Callable[[str, str, Mapping[str, Any]], dict[str, int]] = head_counts.of_config
    query_tables: tuple[str, ...] = QUERY_TABLES
    proposals: tuple[str, ...] = PROPOSALS
    level_lists: tuple[str, ...] = LEVEL_LISTS
    sampling_points: Callable[[int, Mapping[str, Any]], tuple[int, ...] | None] = sampling_points
    scaled_attentions: tuple[str, ...] = ("self_attn", "attn", "cross_attn")
    feed_forwards: tuple[str, ...] = ("ffn", "mlp")
    last_layers: tuple[str, ...] = ("fc2", "down_proj", "linear2", "dense2", "layers.1")

    def is_query_table(self, name: str) -> bool:
        return any(name == one or name.endswith(f".{one}") for one in self.query_tables)


USUAL = Anatomy()
