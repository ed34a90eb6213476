"""Shares of a number of things, in percent."""

from ablate_kit.errors import UserError


def share(total: int, percent: float) -> int:
    """So many percent of ``total``, rounded down."""
    # 7 % of 100 is 7, though 100 * 7 / 100 might come out as 6.999...
    return int(total * percent / 100 + 1e-9)


def check_percent(percent: float) -> None:
    """Raises ``UserError`` for a share that cuts nothing, or more than there is."""
    if not 0 < percent <= 100:
        raise UserError(f"percent is {percent:g}; expected more than 0 and at most 100")
