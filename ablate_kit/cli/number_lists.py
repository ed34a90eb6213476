"""Numbers in the value of an option."""

from ablate_kit.errors import UserError


def numbers(text: str, what: str, example: str = "5,10") -> list[float]:
    """[5.0, 10.0] for "5,10"."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f'cannot read {what} "{text}"; expected numbers such as {example}'
        ) from None


def whole_numbers(text: str | None, what: str) -> tuple[int, ...]:
    """(300, 200) for "300,200"."""
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) < 2**31 for part in parts):
        raise UserError(f'cannot read {what} "{text}"; expected numbers such as 300,200,100')
    return tuple(map(int, parts))


def spans_of(text: str | None, what: str) -> list[int] | None:
    """[0, 3, 4] for "0,3-4"."""
    from ablate_kit.ablations.name_patterns import parse_spans

    return None if text is None else parse_spans(text, what)
