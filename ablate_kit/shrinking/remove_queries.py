"""Object queries, taken out of the tables that have a row for each."""

from collections.abc import Mapping

from ablate_kit.ablations.attention import TensorLike
from ablate_kit.errors import UserError
from ablate_kit.shrinking.reduction import Reduction
from ablate_kit.shrinking.structures import RemovedQueries
from ablate_kit.shrinking.zeroed import Zeroed


def take_queries(reduction: Reduction, zeroed: Zeroed, tensors: Mapping[str, TensorLike]) -> None:
    """Takes out the rows that the ablation takes away.

    Raises ``UserError`` where none would be left.
    """
    for table, rows in zeroed.rows.items():
        if len(rows) >= tensors[table].shape[0]:
            raise UserError(f"{table} would have no row left of {tensors[table].shape[0]}")
        reduction.take(table, 0, rows)
    if zeroed.rows:
        table, rows = next(iter(zeroed.rows.items()))
        reduction.structures.append(RemovedQueries(rows, tensors[table].shape[0]))
