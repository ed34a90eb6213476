"""Object queries of detection transformers, one by one.

A query that is *removed* is gone: the model runs with one query less, so that no other sees it and
it finds nothing. No weight can do that, so it is for live models. A query that is set to *zero*
keeps its place: it runs with an embedding of zeros, and others still attend to it. That is what
published studies do, and a changed checkpoint can hold it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import TensorLike
from ablate_kit.ablations.edits import Blocks, Edit, Removed
from ablate_kit.ablations.factors import Factors
from ablate_kit.ablations.kinds.kind import Kind, KindContext, Naturals, Patterns, listed
from ablate_kit.ablations.name_patterns import select, spans
from ablate_kit.anatomy.anatomy import USUAL, Anatomy
from ablate_kit.anatomy.schemes import scheme_of
from ablate_kit.errors import UserError

How = Literal["removed", "zero"]


@dataclass(frozen=True)
class Tables:
    """The tensors of a checkpoint that have a row per object query."""

    names: tuple[str, ...]
    count: int  # queries
    first: int = 0  # row of the first of them; before it are rows that only training uses


def query_tables(
    tensors: Mapping[str, TensorLike],
    where: str,
    *,
    pattern: Patterns | None = None,
    config: Mapping[str, Any] | None = None,
    anatomy: Anatomy = USUAL,
) -> Tables:
    """The tables of queries, by their usual names or by patterns.

    Raises ``UserError`` where there is none, or where rows do not stand for queries.
    """
    scheme = scheme_of(tensors)
    config = scheme.settings(tensors) if scheme else config or {}
    if _selects(tensors, config, anatomy):
        raise UserError(
            f"{where} selects its queries by the image: a row is not one query there; how few it "
            "needs, ablate knobs --queries says"
        )
    chosen = (
        list(dict.fromkeys(name for one in listed(pattern) for name in select(one, tensors, where)))
        if pattern
        else [name for name in tensors if anatomy.is_query_table(name)]
    )
    if not chosen:
        raise UserError(
            f"no tensor of {where} is known to be a table of object queries, a row for each; give "
            "a pattern if it has one (how few queries a model needs, ablate knobs --queries says)"
        )
    rows = {name: tensors[name].shape[0] if tensors[name].shape else 0 for name in chosen}
    if len(set(rows.values())) != 1:
        counts = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise UserError(f"tables of queries differ in their rows: {counts}")
    total = rows[chosen[0]]
    count = config.get("queries", total) if pattern is None else total
    return Tables(tuple(chosen), min(count, total), max(0, total - count))


def _selects(
    tensors: Mapping[str, TensorLike], config: Mapping[str, Any], anatomy: Anatomy
) -> bool:
    """Whether queries begin as proposals, of the encoder or of the hybrid detector's kinds."""
    if any(config.get(key) is True for key in ("two_stage", "as_two_stage")):
        return True
    if any(config.get(key) for key in ("proposal_queries", "peak_queries", "grid_queries")):
        return True
    layers = {level for name in tensors for level in name.split(".")}
    return not layers.isdisjoint(anatomy.proposals)


@dataclass(frozen=True, kw_only=True)
class Queries(Kind):
    """Object queries, one by one or some at once."""

    kind: Literal["queries"] = "queries"
    pattern: Patterns | None = None  # tables with a row per query; by default those of usual names
    queries: Naturals | None = None  # all by default
    together: bool = False  # one variant without all of these
    how: How = "removed"

    def make(self, source: KindContext) -> list[Ablation]:
        checkpoint = source.checkpoint
        tables = query_tables(
            checkpoint.tensors,
            str(checkpoint),
            pattern=self.pattern,
            config=checkpoint.settings,
            anatomy=source.anatomy,
        )
        chosen = self.queries or list(range(tables.count))
        groups = [chosen] if self.together else [[number] for number in chosen]
        return [self._without(tables, sorted(set(group))) for group in groups]

    def _without(self, tables: Tables, numbers: list[int]) -> Ablation:
        """These queries, all at once."""
        if not numbers:
            raise UserError("no query is chosen")
        for number in numbers:
            if not 0 <= number < tables.count:
                raise UserError(
                    f"there is no query {number}; {tables.names[0]} has {tables.count}, "
                    f"0 to {tables.count - 1}"
                )
        rows = tuple(tables.first + number for number in numbers)
        name = f"query{spans(numbers)}-{self.how}"
        which: Factors = {"query": numbers[0]} if len(numbers) == 1 else {"queries": spans(numbers)}
        factors: Factors = {**which, "how": self.how}
        if self.how == "removed":
            gone = tuple(Removed(table, rows) for table in tables.names)
            return Ablation(name, "queries", (), gone, factors)
        ranges = tuple((row, row + 1) for row in rows)
        edits = tuple(Edit(table, Blocks(0, ranges)) for table in tables.names)
        return Ablation(name, "queries", edits, factors=factors)
