"""Which settings of which knobs, and the detectors that they make."""

from collections.abc import Sequence
from dataclasses import dataclass

from ablate_kit.errors import UserError
from ablate_kit.models.model_knobs import KNOBS, Knob, Knobs


@dataclass(frozen=True)
class Setting:
    """One knob turned, all others left."""

    knob: Knob
    value: int

    @property
    def name(self) -> str:
        return f"{self.knob} {self.value}"


@dataclass(frozen=True)
class Asked:
    """What is to be tried: all depths, or none; so many queries; sizes of images."""

    depth: bool = False
    queries: Sequence[int] = ()
    size: Sequence[int] = ()

    def settings(self, knobs: Knobs) -> list[Setting]:
        """Those that are others than the detector's own.

        Raises:
            UserError: the detector has no such knob, or nothing is left to try.
        """
        wanted: dict[Knob, Sequence[int]] = {"queries": self.queries, "size": self.size}
        if self.depth:
            wanted["depth"] = range(1, knobs.now("depth"))
        found: list[Setting] = []
        own: list[str] = []
        for knob in KNOBS:
            if not wanted.get(knob) and not (knob == "depth" and self.depth):
                continue
            now = knobs.now(knob)
            own.append(f"{knob} {now}")
            if knob != "size" and (most := max(wanted[knob], default=now)) > now:
                raise UserError(f"{knob} {most}: the detector has {now}; give fewer")
            values = dict.fromkeys(one for one in wanted[knob] if one != now)
            found += [Setting(knob, value) for value in values]
        if not found:
            raise UserError(f"nothing to try: the detector has {', '.join(own)} as it is")
        return found
