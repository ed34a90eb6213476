"""Who cuts and runs a network: one thread at a time, and cuts end in the reverse of their order.

An ablation is written into the weights. Another thread that runs the network meanwhile would run it
as it is cut, and one that cuts it, too, would keep what is cut for what was there before.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Removed
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from torch import nn


@dataclass(eq=False)
class _Cut:
    ablation: Ablation
    undo: ExitStack = field(default_factory=ExitStack)
    ended: bool = False


@dataclass
class _Use:
    """Of a network: by whom, how many blocks deep, and its cuts, the last one innermost."""

    thread: int
    depth: int = 0
    cuts: list[_Cut] = field(default_factory=list)


_USES: "WeakKeyDictionary[nn.Module, _Use]" = WeakKeyDictionary()
_LOCK = threading.RLock()  # a block may end wherever memory is collected


@contextmanager
def used(module: "nn.Module") -> Iterator[None]:
    """A block in which no other thread cuts or runs ``module``.

    Raises ``UserError`` while another one does.
    """
    with _LOCK:
        use = _USES.setdefault(module, _Use(threading.get_ident()))
        if use.depth and use.thread != threading.get_ident():
            raise UserError(
                "the model is cut or run in another thread, and every thread would see what the "
                "other cuts; open the checkpoint once for each thread"
            )
        use.thread = threading.get_ident()
        use.depth += 1
    try:
        yield
    finally:
        with _LOCK:
            use.depth -= 1


@contextmanager
def cut(module: "nn.Module", ablation: Ablation) -> Iterator[ExitStack]:
    """A block in which ``module`` is cut; what is entered into the stack, ends with it.

    Raises ``UserError`` in another thread than the network is used in, for rows of a table that a
    block around has taken some of, and where a block that began later has not ended: what is cut
    stays until it has.
    """
    with used(module):
        cuts = _USES[module].cuts
        _check_rows(ablation, [one.ablation for one in cuts])
        own = _Cut(ablation)
        cuts.append(own)
        try:
            yield own.undo
        except BaseException:
            if not _end(cuts, own, last_error=True):
                raise
        else:
            _end(cuts, own, last_error=False)


def _end(cuts: list[_Cut], own: _Cut, *, last_error: bool) -> bool:
    """Undoes a cut, and those around it that were to end before; whether an error is settled."""
    own.ended = True
    if cuts[-1] is not own:
        if last_error:
            return False
        raise UserError(
            f"{own.ablation.name} ended before {cuts[-1].ablation.name}, which began within it; "
            "both stay cut until that ends"
        )
    try:
        return bool(own.undo.__exit__(*(sys.exc_info() if last_error else (None, None, None))))
    finally:
        cuts.pop()
        while cuts and cuts[-1].ended:
            cuts.pop().undo.close()


def _check_rows(ablation: Ablation, around: list[Ablation]) -> None:
    touched = {edit.tensor for edit in ablation.edits} | {one.tensor for one in ablation.live}
    for other in around:
        taken = {one.tensor for one in other.live if isinstance(one, Removed)}
        for tensor in touched & taken:
            raise UserError(
                f"{ablation.name} counts the rows of {tensor} as they were, and {other.name} has "
                f"taken some away; join the two ablations (a | b in Python) in one block"
            )
