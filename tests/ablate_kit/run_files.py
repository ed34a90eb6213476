"""What lies in the folder of a run, to compare two runs byte for byte."""

import re
from pathlib import Path

from ablate_kit.reports.results_file import timeless


def contents(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Of every file but when and with which command the run was begun; ``but``: names of files
    that may differ for other reasons."""
    return {
        str(path.relative_to(folder)): re.sub(
            rb'(?s)<dl id="about">.*?</dl>', b"", path.read_bytes()
        )
        if path.name != "results.json"
        else timeless(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("about.json", *but)
    }
