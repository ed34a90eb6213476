"""A removed query is seen by no other and finds nothing; one set to zero keeps its place."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied, check_fits
from ablate_kit.ablations.edits import Blocks, Edit, Removed
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.queries import Queries, query_tables
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError

Open = Callable[[str], Any]  # see conftest.Live


def without(found: dict[str, Tensor], query: int) -> dict[str, Tensor]:
    kept = [i for i in range(found["logits"].shape[1]) if i != query]
    return {name: value[:, kept] for name, value in found.items()}


def test_other_queries_of_the_hybrid_detector_do_not_see_a_removed_one(live: Open) -> None:
    one = live("hybrid")
    full = one.run()
    count = full["logits"].shape[1]
    blocked = torch.zeros(count, count, dtype=torch.bool)
    blocked[:, 3] = True
    with one.module.decoder.register_forward_pre_hook(lambda _, args: (*args[:5], blocked)):
        expected = without(one.run(), 3)
    (ablation,) = one.make(Queries(queries=[3]))
    assert one.difference(one.run(ablation), expected) < 1e-12
    assert one.difference(without(full, 3), expected) > 1e-6
    assert one.difference(one.run(), full) == 0


def test_nor_do_those_of_detr(live: Open) -> None:
    one = live("detr")
    mask = torch.ones(2, 10)
    mask[:, 7] = 0
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(3)).double()
    with torch.no_grad():
        masked = one.module(images, decoder_attention_mask=mask)
        (ablation,) = one.make(Queries(queries=[7]))
        with applied(one.module, ablation, one.names):
            found = one.module(images)
    expected = without({"logits": masked.logits, "boxes": masked.pred_boxes}, 7)
    assert one.difference({"logits": found.logits, "boxes": found.pred_boxes}, expected) < 1e-12


def test_tables_of_names_that_no_one_pattern_has_are_listed() -> None:
    tensors = {name: SimpleNamespace(shape=(12, 4)) for name in ("query", "anchors", "heads")}
    found = query_tables(tensors, "own.pth", pattern=["query", "anchors", "q*"])
    assert (found.names, found.count) == (("query", "anchors"), 12)
    with pytest.raises(UserError, match='no tensor matches "ancors"'):
        query_tables(tensors, "own.pth", pattern=["query", "ancors"])


def test_every_query_is_a_variant_or_some_at_once(live: Open) -> None:
    one = live("detr")
    assert [each.name for each in one.make(Queries())][::9] == ["query0-removed", "query9-removed"]
    (some,) = one.make(Queries(queries=[1, 2, 5], together=True, how="zero"))
    assert some == Ablation(
        "query1-2,5-zero",
        "queries",
        (Edit("model.query_position_embeddings.weight", Blocks(0, ((1, 2), (2, 3), (5, 6)))),),
        factors={"queries": "1-2,5", "how": "zero"},
    )


def test_a_removed_query_is_for_live_models(live: Open) -> None:
    one = live("detr")
    (ablation,) = one.make(Queries(queries=[7]))
    assert Ablation.from_dict(ablation.to_dict()) == ablation
    (other,) = one.make(Queries(queries=[6]))
    assert ablation.digest != other.digest
    with (
        open_checkpoint(one.path) as checkpoint,
        pytest.raises(UserError, match="query7-removed is for live models, in a sweep: it takes"),
    ):
        check_fits(checkpoint, ablation)


def test_a_table_whose_rows_the_model_counts_on_is_refused(live: Open) -> None:
    one = live("hybrid")
    pattern = "decoder.layers.0.ffn.fc1.weight"
    ablation = one.make(Queries(pattern=pattern, queries=[0]))[0]
    with pytest.raises(UserError, match=f"does not run with .* rows of {pattern}"):
        one.run(ablation)
    one.run()  # all rows are there again


def test_a_query_of_one_of_two_tables_is_refused_with_the_other(live: Open) -> None:
    one = live("hybrid")
    (ablation,) = one.make(Queries(pattern="queries.content", queries=[0]))
    told = r"rows of queries.content: queries.position has a row for each query, too"
    with pytest.raises(UserError, match=told):
        one.run(ablation)
    (both,) = one.make(Queries(pattern=["queries.content", "queries.position"], queries=[0]))
    one.run(both)


def test_queries_that_have_no_weights_are_refused(live: Open) -> None:
    for name in ("rt_detr_v2", "deformable_detr", "lw_detr", "rf_detr"):
        with pytest.raises(UserError, match=f"{name} selects its queries by the image"):
            live(name).make(Queries())
    with pytest.raises(UserError, match="yolos is known to be a table of object queries"):
        live("yolos").make(Queries())
    with pytest.raises(UserError, match=r"no query 10; model\.query_position_embeddings"):
        live("detr").make(Queries(queries=[10]))
    table = {"queries.content": torch.ones(20, 4), "queries.position": torch.ones(20, 4)}
    for config in ({"queries": 20, "proposal_queries": 4}, {"as_two_stage": True}):
        with pytest.raises(UserError, match="selects its queries by the image"):
            query_tables(table, "x", config=config)
    with pytest.raises(UserError, match="differ in their rows"):
        query_tables(table | {"queries.position": torch.ones(3, 4)}, "x")


def test_rows_of_proposals_are_no_queries_whatever_a_file_is_named_after() -> None:
    """LW-DETR, RF-DETR and DINO, as their own repositories save them, without a configuration."""
    tables = {"refpoint_embed.weight": torch.ones(26, 4), "query_feat.weight": torch.ones(26, 8)}
    assert query_tables(tables, "x").count == 26
    for layer in ("transformer.enc_output.weight", "transformer.enc_output.0.weight"):
        with pytest.raises(UserError, match="selects its queries by the image"):
            query_tables(tables | {layer: torch.ones(8, 8)}, "x")


def test_rows_that_only_training_uses_are_no_queries() -> None:
    table = {"queries.content": torch.ones(20, 4), "queries.position": torch.ones(20, 4)}
    checkpoint: Any = SimpleNamespace(tensors=table, settings={"queries": 12})
    (one,) = Queries(queries=[0]).make(KindContext(checkpoint))
    (content, position) = one.live
    assert (content, position.rows) == (Removed("queries.content", (8,)), (8,))
    with (
        pytest.raises(UserError, match="no row left"),
        applied(torch.nn.Embedding(1, 2), Ablation("x", "x", (), (Removed("weight", (0,)),))),
    ):
        pass  # fmt: skip


@pytest.mark.parametrize("names", [("query_feat.weight", "query_pos.weight"), ("queries.weight",)])
def test_all_tables_of_ones_own_are_found(names: tuple[str, ...]) -> None:
    tensors = {f"head.{name}": torch.ones(20, 8) for name in names}
    found = query_tables(tensors | {"head.query_proj.weight": torch.ones(8, 8)}, "x")
    assert (found.names, found.count) == (tuple(tensors), 20)
    with pytest.raises(UserError, match="differ in their rows"):  # which a batch may come before
        query_tables(tensors | {"head.query_pos": torch.ones(1, 20, 8)}, "x")
