"""Parts of a model, by the names of its parameters."""


def region(name: str, depth: int) -> str:
    """The first ``depth`` levels of a name; a parameter of the model itself is its own region."""
    levels = name.split(".")
    return ".".join(levels[: min(depth, max(len(levels) - 1, 1))])
