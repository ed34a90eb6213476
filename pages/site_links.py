"""Links of the documents, as they are in the site: files of the repository come along."""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s]+)((?:#[^)]*)?\))")
FILES = "files"
"""The site's folder of files that are not documents."""


def published(text: str, page: str, root: Path) -> tuple[str, set[str]]:
    """A document's text with the site's links, and which files of the repository these need.

    ``page`` is where the document lies in the repository. A link to another document leads to its
    page, one to anything else to a copy of the file below ``files``.
    """
    needed = set()
    folder = posixpath.dirname(page)

    def link(found: re.Match[str]) -> str:
        start, target, end = found.groups()
        if "://" in target:
            return found[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        if path == "docs/index.md":
            path = "docs/all-pages.md"
        if path.startswith("docs/"):
            return f"{start}{path.removeprefix('docs/')}{end}"
        if not (root / path).is_file():
            return found[0]  # which the site's strict build tells
        needed.add(path)
        return f"{start}{FILES}/{path}{end}"

    return _outside_code(text, link), needed


def _outside_code(text: str, link: Callable[[re.Match[str]], str]) -> str:
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(one if one.startswith("```") else _LINK.sub(link, one) for one in parts)
