"""Usual names of the parts of detection transformers that are no attention modules."""

QUERY_TABLES = (
    "query_position_embeddings.weight",  # Hugging Face: DETR, Conditional and Deformable DETR
    "query_refpoint_embeddings.weight",  # ... DAB-DETR
    "query_embed.weight",  # the original repositories
    "refpoint_embed.weight",
    "tgt_embed.weight",
    "query_embedding.weight",  # MMDetection
    "queries.content",  # the hybrid detector
    "queries.position",
    "decoder.query_feat.weight",  # ... and the notebooks
    "decoder.query_pos.weight",
)
"""Tables with a row per query, from a dot or the beginning on."""

LEVEL_LISTS = (
    "encoder_input_proj",  # Hugging Face: RT-DETR, D-FINE, DEIM; backbone to encoder
    "decoder_input_proj",  # ... encoder to decoder
    "input_proj",  # Deformable DETR and DINO
    "inputs",  # the hybrid detector's neck
    "convs",  # MMDetection's ChannelMapper
)
"""Lists of projections, one per level of the feature pyramid."""

LEVEL_COUNTS = ("num_feature_levels", "decoder_n_levels", "num_levels", "n_levels")
"""Keys of configurations that tell on how many levels attention samples."""

SCALED_ATTENTIONS = ("self_attn", "attn", "cross_attn")
"""The residual branches of the hybrid detector's layers, in order; each has a layer scale."""

FEED_FORWARDS = ("ffn", "mlp")
"""The last branch of such a layer."""

LAST_LAYERS = ("fc2", "down_proj", "linear2", "layers.1")
"""Of a feed-forward branch, where shapes do not tell which layer is last."""
