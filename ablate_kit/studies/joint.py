"""What a study cuts besides single parts: random controls, zero beside a mean, and what is free all
at once."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from ablate_kit.ablations.ablation import Ablation, joined
from ablate_kit.ablations.random_controls import random_controls
from ablate_kit.errors import UserError

TOGETHER = "all-free-together"
_CONTROL = "-control0"


def control_name(name: str) -> str:
    return f"{name}{_CONTROL}"


def control(ablation: Ablation, shapes: Mapping[str, tuple[int, ...]]) -> Ablation | None:
    """As many random elements of the same tensors; None of whole tensors, of which there is no
    other cut of the same size."""
    with suppress(UserError):
        (found,) = random_controls(ablation, shapes, 1)
        return found
    return None


def union(
    name: str, ordered: Iterable[str], made: Mapping[str, Ablation], size: int
) -> tuple[Ablation | None, list[str]]:
    """The first ``size`` of these ablations as one, and which they are; without those that say
    something else of an element than one before them."""
    members: list[str] = []
    whole: Ablation | None = None
    for one in ordered:
        if len(members) == size:
            break
        with suppress(UserError):
            whole = joined(whole, made[one]) if whole else made[one]
            members.append(one)
    return (replace(whole, name=name) if whole and len(members) > 1 else None), members


def of_all(together: Mapping[str, Sequence[str]]) -> list[str]:
    """The joint cuts of all that was free when they were made, the last one last."""
    return [name for name in together if name.startswith(TOGETHER)]


def fewer(count: int) -> list[int]:
    """How many parts the joint cuts have that follow where ``count`` together are not free; the
    most telling first."""
    return list(dict.fromkeys(x for part in (2, 3, 1) if (x := count * part // 4) > 1))
