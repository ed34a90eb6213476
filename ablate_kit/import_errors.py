"""Packages that are installed and do not load. A leaf."""

_LONGEST = 200


def broken_package(error: BaseException, what: str) -> str | None:
    """What is told where transformers found a package that it cannot import, such as a torchvision
    that was made for another torch; None where that is not the reason."""
    cause = error.__cause__
    if not isinstance(error, ImportError) or cause is None:
        return None
    text = " ".join(str(cause).split())
    told = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    why = f"{type(cause).__name__}: {told}"
    return f"transformers cannot import what {what} needs ({why}); mend or remove that package"
