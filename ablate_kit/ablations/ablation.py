"""An ablation as a value: which elements of which tensors become what."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_
from typing import Any

from ablate_kit.ablations.edits import (
    Edit,
    Intervention,
    Random,
    live_from_dict,
    live_to_dict,
    region_to_dict,
)
from ablate_kit.ablations.factors import Factor, Factors, factors_from, members_in, of_members
from ablate_kit.ablations.union import disagreement, live_disagreement, live_united, united
from ablate_kit.errors import UserError

_OF_ONE = ("control_of", "repeat_of", "draw")  # factors that a join of several never has


@dataclass(frozen=True)
class Ablation:
    """A named set of edits. ``kind`` says of what kind it is; ``name`` tells it apart.

    Edits apply in order; where two touch one element, the later one counts. ``live`` is what only
    a running model can undergo; no file can hold it. ``factors`` are its coordinates, by which
    reports group it; they play no part in what it does.
    """

    name: str
    kind: str
    edits: tuple[Edit, ...]
    live: tuple[Intervention, ...] = ()
    factors: Factors = field(default_factory=dict, hash=False)

    def __or__(self, other: "Ablation") -> "Ablation":
        """Both at once, of the kind ``joined``, with the factors in which they agree.

        Raises ``UserError`` where they disagree; see ``union``.
        """
        names = tuple(dict.fromkeys([*_members(self), *_members(other)]))
        same = self.digest == other.digest
        if same and names == _members(self):
            return self
        edits, live = self.edits, self.live
        if not same:
            unlike = disagreement(self.edits, other.edits) or live_disagreement(live, other.live)
            if unlike:
                raise UserError(
                    f'"{self.name}" and "{other.name}" cannot be joined: they differ in {unlike}'
                )
            edits = united(edits, other.edits)
        live = live_united(live, other.live)
        return Ablation("+".join(names), "joined", edits, live, _shared(self, other, names))

    @property
    def drawn(self) -> bool:
        """Whether some elements, or what they become, are random."""
        return any(edit.noise or isinstance(edit.region, Random) for edit in self.edits)

    @property
    def digest(self) -> str:
        """SHA-256 of the edits: two ablations that do the same have the same, whatever their
        names."""
        values = self.to_dict()
        parts = [values["edits"], *([values["live"]] if self.live else [])]
        text = "\n".join(json.dumps(part, sort_keys=True) for part in parts)
        return hashlib.sha256(text.encode()).hexdigest()

    def selected(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """SHA-256 of which elements are set, for tensors of these shapes.

        Of drawn elements it takes the positions (int64, little-endian), so that a program that
        draws others is found out; of other regions what they say.
        """
        hashed = hashlib.sha256()
        for edit in self.edits:
            shape = shapes[edit.tensor]
            region = region_to_dict(edit.region)
            hashed.update(json.dumps([edit.tensor, list(shape), region], sort_keys=True).encode())
            if isinstance(edit.region, Random):
                for part in edit.region.parts(edit.tensor, shape):
                    hashed.update(part.astype("<i8").tobytes())
        return hashed.hexdigest()

    def to_dict(self) -> dict[str, Any]:
        edits = [edit.to_dict() for edit in self.edits]
        values: dict[str, Any] = {"name": self.name, "kind": self.kind, "edits": edits}
        if self.live:
            values["live"] = [live_to_dict(one) for one in self.live]
        if self.factors:
            values["factors"] = dict(self.factors)
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Ablation":
        try:
            edits = tuple(map(Edit.from_dict, values["edits"]))
            live = tuple(map(live_from_dict, values.get("live", ())))
            factors = factors_from(values.get("factors", {}))
            return Ablation(str(values["name"]), str(values["kind"]), edits, live, factors)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"not an ablation: {type(error).__name__} {error}") from None


def joined(*ablations: Ablation, name: str = "") -> Ablation:
    """All of them at once (see ``Ablation.__or__``); under another ``name`` without factors."""
    if not ablations:
        raise UserError("no ablations to join")
    found = reduce(or_, ablations)
    return replace(found, name=name, factors={}) if name else found


def _members(one: Ablation) -> tuple[str, ...]:
    """The names of those that a join was made of, or its own."""
    return members_in(one.factors) or (one.name,)


def _shared(one: Ablation, other: Ablation, names: Sequence[str]) -> dict[str, Factor]:
    """The factors of a join: those in which both agree, and the names of its members."""
    alike: dict[str, Factor] = {
        name: value
        for name, value in one.factors.items()
        if other.factors.get(name) == value
        and name not in _OF_ONE
        and not name.startswith("member_")
    }
    return alike | of_members(names)
