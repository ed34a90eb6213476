"""The page of all pictures in the documents: figures of real reports, with their pages."""

import re
from collections.abc import Mapping

_START = """# Gallery

Figures of the commands' own reports. A click leads to the page that says how each was made.

"""


def gallery(documents: Mapping[str, str]) -> str:
    """The page, from the documents' texts by their names in the site."""
    parts = [_START]
    for name, text in sorted(documents.items()):
        pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", text)
        if not pictures:
            continue
        title = re.search(r"^# (.+)$", text, re.MULTILINE)
        parts.append(f"## {title[1] if title else name}\n\n")
        parts += [f"[![{what}]({path})]({name})\n\n*{what}*\n\n" for what, path in pictures]
    return "".join(parts)
