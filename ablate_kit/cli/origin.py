"""What a command was given, as its results note it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate_kit.cli.output import this_command
from detector.disk.visible import visible

if TYPE_CHECKING:
    from ablate_kit.reports.results_file import Origin, Source


def origin(
    sources: "Iterable[Source]", data: Mapping[str, Any], models: Sequence[str] = ()
) -> "Origin":
    """``models``: the frameworks that ran them."""
    from ablate_kit.reports.results_file import Origin
    from ablate_kit.versions import versions_here

    packages: tuple[str, ...] = ()
    if models:
        from ablate_kit.models.opening.framework_registry import packages_of

        packages = packages_of(models)
    runs = ", ".join(models) or None
    return Origin(this_command(), runs, list(sources), data, versions=versions_here(packages))


def source(role: str, path: Path) -> "Source":
    """A file, or the files in a folder, with their digest; a pipe has none."""
    from ablate_kit.checkpoints.digest import digest
    from ablate_kit.reports.results_file import Source

    files = [path] if path.is_file() else []
    if path.is_dir():
        files = [one for one in visible(path) if one.is_file()]
    return Source(role, str(path), digest(files) if files else None)
