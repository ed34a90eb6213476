"""Cuts of one network in several blocks and threads."""

import threading
from contextlib import suppress

import pytest
import torch
from torch import nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.edits import Blocks, Edit, Removed
from ablate_kit.errors import UserError
from ablate_kit.models.inference.detect import inference

ROWS = [Ablation(f"row{i}", "test", (Edit("weight", Blocks(0, ((i, i + 1),))),)) for i in range(3)]
WHOLE = Ablation("whole", "test", (Edit("weight", value=2.0),))
GONE = [Ablation(f"gone{i}", "test", (), (Removed("weight", (i,)),)) for i in range(3)]


def layer() -> tuple[nn.Linear, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = nn.Linear(3, 3)
    return made, made.weight.detach().clone()


def test_blocks_within_each_other_give_the_bytes_back_whatever_ends_them() -> None:
    module, before = layer()
    for error in (None, ValueError, KeyboardInterrupt):
        with suppress(ValueError, KeyboardInterrupt), applied(module, ROWS[0]):
            with applied(module, WHOLE), applied(module, ROWS[1]):
                assert module.weight[:, 0].tolist() == [2, 0, 2]
                if error:
                    raise error
            assert torch.equal(module.weight[1:], before[1:])
        assert torch.equal(module.weight, before)


def test_blocks_that_end_in_the_order_they_began_are_told_and_undone_in_the_end() -> None:
    module, before = layer()
    outer, middle, inner = (applied(module, one) for one in (ROWS[0], WHOLE, ROWS[1]))
    for block in (outer, middle, inner):
        block.__enter__()
    with pytest.raises(UserError, match="row0 ended before row1, which began within it"):
        outer.__exit__(None, None, None)
    assert not middle.__exit__(ZeroDivisionError, ZeroDivisionError(), None)  # goes on
    assert module.weight[:, 0].tolist() == [2, 0, 2]
    inner.__exit__(None, None, None)
    assert torch.equal(module.weight, before)
    with applied(module, WHOLE):  # as ever
        assert (module.weight == 2).all()
    assert torch.equal(module.weight, before)


def test_rows_that_are_gone_are_not_counted() -> None:
    """Row 1 of what remains is another one than row 1 was."""
    module, before = layer()
    for inside in (GONE[1], ROWS[1]):
        with applied(module, GONE[0]):
            with pytest.raises(UserError, match="gone0 has taken some away; join the two"):
                applied(module, inside).__enter__()
            assert torch.equal(module.weight, before[1:])
    with applied(module, GONE[0] | GONE[1]):
        assert torch.equal(module.weight, before[2:])
    with applied(module, ROWS[1]), applied(module, GONE[0]):
        assert module.weight[0].tolist() == [0, 0, 0]
    assert torch.equal(module.weight, before)


def test_another_thread_neither_runs_nor_cuts_what_is_cut() -> None:
    module, before = layer()
    refused: list[str] = []

    def elsewhere() -> None:
        for block in (applied(module, ROWS[0]), inference(module)):
            try:
                with block:
                    refused.append("")
            except UserError as error:
                refused.append(str(error))

    for block in (applied(module, WHOLE), inference(module)):
        with block:
            one = threading.Thread(target=elsewhere)
            one.start()
            one.join()
    assert len(refused) == 4
    assert all("open the checkpoint once for each thread" in message for message in refused)
    one = threading.Thread(target=elsewhere)
    one.start()
    one.join()
    assert refused[4:] == ["", ""]
    assert torch.equal(module.weight, before)
