"""The page of every public name of ``ablate_kit``, from the docstrings."""

import ablate_kit


def python_reference() -> str:
    """The page, with a mark for each name that mkdocstrings replaces by its documentation."""
    things = [getattr(ablate_kit, name) for name in ablate_kit.__all__]
    marks = "\n".join(f"::: {one.__module__}.{one.__qualname__}\n" for one in things)
    return f"# Python, every name\n\nAll are names of `ablate_kit` itself.\n\n{marks}"
