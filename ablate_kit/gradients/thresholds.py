"""From where on a number is a finding."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from ablate_kit.errors import UserError, did_you_mean


@dataclass(frozen=True)
class GradientThresholds:
    """The thesis notebook's thresholds, and scale-free ones beside them.

    A gradient's norm grows with the number of elements and a change with the weights' size, so a
    fixed limit means another thing for every tensor; those marked * do not depend on either.
    """

    vanishing: float = 1e-7  # gradient norm below
    low: float = 1e-5  # gradient norm below
    high: float = 10.0  # gradient norm above
    change: float = 1e-8  # largest change of an element in a step, above
    ratio: float = 1e-7  # * or: norm of the step over norm of the weights, above
    start: float = 1e-6  # largest change of an element since the start, at most, and ...
    start_ratio: float = 1e-6  # * ... over the largest weight at the start
    faint: float = 1e-6  # * largest gradient of a row over that of its tensor, below
    vanishing_share: float = 0.5  # of the steps with a gradient that is not zero, more than
    low_share: float = 0.5  # of the steps with a gradient that is not zero, more than
    high_share: float = 0.1  # of the steps with a gradient that is not zero, more than
    no_update_share: float = 0.5  # of the steps with a gradient that is not zero, more than
    lost_share: float = 0.5  # * of the elements with a gradient, more than (mean over steps)
    idle_share: float = 0.5  # of all steps, more than


def parse_thresholds(settings: Iterable[str]) -> GradientThresholds:
    """Thresholds changed by ``NAME=NUMBER`` settings."""
    names = [field.name for field in fields(GradientThresholds)]
    changes: dict[str, float] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f'cannot read --threshold "{setting}"; expected NAME=NUMBER')
        if name not in names:
            known = did_you_mean(name, names) or f"; expected one of {', '.join(names)}"
            raise UserError(f'unknown threshold "{name}"{known}')
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf or (name.endswith("_share") and value > 1):
            expected = "a share from 0 to 1" if name.endswith("_share") else "a number from 0 on"
            raise UserError(f'threshold {name} is "{text}"; expected {expected}')
        changes[name] = value
    chosen = replace(GradientThresholds(), **changes)
    if not chosen.vanishing <= chosen.low <= chosen.high:
        raise UserError(
            f"thresholds vanishing {chosen.vanishing:g}, low {chosen.low:g} and high "
            f"{chosen.high:g} must not decrease"
        )
    return chosen
