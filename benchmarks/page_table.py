"""A table that a benchmark prints line by line, and that a page of the docs has."""

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path

_TABLE = re.compile(r"(?m)(^\|.*\n)+")


def print_table(description: str, names: str, table: Callable[[list[str]], Iterable[str]]) -> None:
    """The benchmark's command line: prints the lines of ``table``, of all or of what is named.

    Args:
        names: what is told of the names that may be given.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("names", nargs="*", help=names)
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    options = parser.parse_args()
    page = options.write.read_text() if options.write else ""
    if options.write and not _TABLE.search(page):
        parser.error(f"{options.write} has no table to replace")
    lines = []
    for line in table(options.names):
        print(line, flush=True)
        lines.append(line)
    if options.write:
        table_now = "".join(f"{line}\n" for line in lines)
        options.write.write_text(_TABLE.sub(lambda _: table_now, page, count=1))
