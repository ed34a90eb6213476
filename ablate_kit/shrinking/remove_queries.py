"""Object queries, taken out of the tables that have a row for each."""

from ablate_kit.errors import UserError
from ablate_kit.shrinking.reduction import Reduction
from ablate_kit.shrinking.structures import RemovedQueries


def take_queries(reduction: Reduction) -> None:
    """Takes out the rows that the ablation takes away.

    Raises ``UserError`` where none would be left.
    """
    taken = reduction.zeroed.rows
    for table, rows in taken.items():
        count = reduction.tensors[table].shape[0]
        if len(rows) >= count:
            raise UserError(f"{table} would have no row left of {count}")
        reduction.take(table, 0, rows)
    if taken:
        table, rows = next(iter(taken.items()))
        reduction.structures.append(RemovedQueries(rows, reduction.tensors[table].shape[0]))
