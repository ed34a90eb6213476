"""Runs the commands of the documents and compares what they print with what the pages show.

    python -m pages.printed_outputs [PAGE ...] [--data FOLDER] [--write]

A block whose first line is ``$ ablate ...`` is run, page by page, each page in a folder of its own.
A line ``...`` says that lines are left out, and those that are shown may have another order;
`` ...`` at the end of a line stands for its rest. Times are not compared. Comments, which a reader
of the page does not see, say what else there is to know of the block that follows::

    <!-- before: COMMAND -->    is run first, in the page's folder
    <!-- not run: REASON -->    the block is taken as it is
    <!-- figure: PICTURE FILE -->    a picture of the page, and what the block's commands write: a
                                     picture, or HTML of which a browser shows the top
    <!-- file: NAME -->         any block: what the commands of the page find under that name

With ``--write`` the page gets what is printed now, and its pictures. Of a notebook, what its cells
print is compared.
"""

import argparse
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pages.screenshots import photograph

ROOT = Path(__file__).resolve().parents[1]
LIGHT = {
    "keys", "meta", "diff", "heads", "units", "component", "layers", "queries", "levels", "points",
    "skip", "verify", "apply",
}  # fmt: skip
"""Commands that treat a checkpoint as data: they take no time, and print the same everywhere."""
DATA = ("deimv2_atto", "val2017", "annotations", "VOCdevkit", "yolov2_a", "yolov2_b",
        "instances_val2017.json", "instances_voc2007_test.json.gz")  # fmt: skip
"""What pages take as given, by the names they use; ``--data`` names the folder that holds them."""

ALL_BUT, REST = "...", " ..."
_CELL = "-- cell --"
_BLOCK = re.compile(
    r"((?:^<!-- (?:(?!-->).)*-->\n+)*)^```\w*\n(\$ .*?)^```$", re.DOTALL | re.MULTILINE
)
_FILE = re.compile(r"^<!-- file: (\S+) -->\n+```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TIMES = (
    (re.compile(r"\d[\d.]* ms\b.*"), "T"),  # in a table, what stands behind a latency is of it
    (re.compile(r"\b\d+:\d\d\b|\b\d[\d.]* (?:s|min|h)\b"), "T"),
    (re.compile(r"\b\d+\.\d%(?=$| of running all)"), "T"),  # of the plan of a sweep
    (re.compile(r"-{3,}"), "---"),
    (re.compile(r" {2,}"), " "),
)
_PROGRESS = re.compile(
    r"(?:.*: )?[\d,.]+ of [\d,.]+(?: batches| MB)?, \d+%(?:; .* left)?|reading the files of .*|"
    r"torch\S* .*Warning.*"
)


@dataclass(frozen=True)
class Step:
    """A command of a block as it stands there, and what the page shows of its output."""

    source: str
    shown: tuple[str, ...]

    @property
    def command(self) -> str:
        """Without its prompt, on one line."""
        return re.sub(r"\\\n *", "", self.source.removeprefix("$ "))


@dataclass(frozen=True)
class Block:
    """A block of a page: ``text`` between its fences, and what the comments above say."""

    text: str
    before: tuple[str, ...] = ()
    not_run: str = ""
    figures: tuple[tuple[str, str], ...] = ()  # names from the page, and in its folder

    @property
    def steps(self) -> tuple[Step, ...]:
        steps: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                steps.append((line, []))
            elif not steps[-1][1] and steps[-1][0].endswith("\\"):
                steps[-1] = (f"{steps[-1][0]}\n{line}", [])
            else:
                steps[-1][1].append(line)
        return tuple(Step(source, tuple(shown)) for source, shown in steps)

    @property
    def commands(self) -> tuple[str, ...]:
        return (*self.before, *(step.command for step in self.steps))

    @property
    def light(self) -> bool:
        """Whether it is quick, and prints the same on every machine."""
        return not self.not_run and all(_name(command) in LIGHT for command in self.commands)

    @property
    def data(self) -> set[str]:
        """What of ``DATA`` it needs."""
        return set(re.split(r"[\s/=]+", " ".join(self.commands))) & set(DATA)


def blocks(page: str) -> list[Block]:
    """The blocks of a page that show commands of ``ablate`` with their output."""
    found = []
    for comments, text in _BLOCK.findall(page):
        said = re.findall(r"<!-- (before|not run|figure): (.*?) -->", comments, re.DOTALL)
        before = tuple(what for kind, what in said if kind == "before")
        reasons = [what for kind, what in said if kind == "not run"]
        pairs = [what.split() for kind, what in said if kind == "figure"]
        figures = tuple((picture, file) for picture, file in pairs)
        block = Block(text, before, reasons[0] if reasons else "", figures)
        if any(map(_name, block.commands)):
            found.append(block)
    return found


def run(block: Block, folder: Path) -> list[tuple[Step, list[str]]]:
    """Each command of a block with the lines that it prints, in a page's folder."""
    for command in block.before:
        _printed(command, folder)
    return [(step, _printed(step.command, folder)) for step in block.steps]


def furnish(folder: Path, page: str, data: Path | None = None) -> None:
    """Puts there what a page's commands name: its files, the project's recipes, the given data."""
    for name, text in _FILE.findall(page):
        (folder / name).write_text(text)
    for name in ("detector", "recipes", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    for name in DATA if data else ():
        if data and (data / name).exists():
            (folder / name).symlink_to((data / name).resolve())


def difference(shown: Sequence[str], printed: Sequence[str]) -> list[str]:
    """Lines of a diff, none where the page shows what was printed."""
    wanted, found = [_plain(line) for line in shown], [_plain(line) for line in printed]
    if ALL_BUT in wanted:
        lacking = [line for line in wanted if not any(_same(line, one) for one in found)]
        wanted, found = [line for line in lacking if line != ALL_BUT], _nearest(lacking, found)
    elif len(wanted) == len(found) and all(map(_same, wanted, found)):
        return []
    return list(difflib.unified_diff(wanted, found, "shown", "printed", lineterm="", n=1))


def _same(want: str, line: str) -> bool:
    return line.startswith(want[: -len(REST)]) if want.endswith(REST) else line == want


def _nearest(lines: list[str], among: list[str]) -> list[str]:
    found = [difflib.get_close_matches(line, among, 1, 0.3) for line in lines if line != ALL_BUT]
    return [line for near in found for line in near]


def _plain(line: str) -> str:
    for pattern, to in _TIMES:
        line = pattern.sub(to, line)
    return line.strip()


def _name(command: str) -> str:
    words = command.split()
    return words[1] if words[0] == "ablate" else ""


def _printed(command: str, folder: Path) -> list[str]:
    program = f'ablate() {{ "{sys.executable}" -m ablate_kit "$@"; }}; {command}'
    places = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        ["bash", "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": places, "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return [line for line in done.stdout.splitlines() if not _PROGRESS.fullmatch(line)]


def check(path: Path, data: Path | None, write: bool) -> Iterator[str]:
    """Tells of each command of a page whether it prints what is shown, and puts it anew there."""
    page = path.read_text()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        furnish(folder, page, data)
        for block in blocks(page):
            lacking = {one for one in block.data if not (folder / one).exists()}
            if block.not_run or lacking:
                why = block.not_run or f"--data lacks {', '.join(sorted(lacking))}"
                yield f"not run  {path.name}: {block.steps[0].command[:70]}  ({why})\n"
                continue
            text = block.text
            for step, printed in run(block, folder):
                lines = difference(step.shown, printed)
                told = "differs" if lines else "ok     "
                yield "\n".join([f"{told}  {path.name}: {step.command}", *lines, ""])
                if lines:
                    shown = "".join(f"\n{line}" for line in (step.source, *step.shown))
                    now = "".join(f"\n{line}" for line in (step.source, *_anew(step, printed)))
                    text = f"\n{text}".replace(f"{shown}\n", f"{now}\n", 1)[1:]
            if write and text != block.text:
                page = page.replace(block.text, text, 1)
                path.write_text(page)
            for picture, file in block.figures:
                drawn = (folder / file).exists()
                yield f"{'ok     ' if drawn else 'differs'}  {path.name}: {file}\n"
                if write and drawn:
                    _draw(folder / file, path.parent / picture)


def _draw(file: Path, picture: Path) -> None:
    if file.suffix != ".html":
        shutil.copyfile(file, picture)
    elif not photograph(file, picture):
        sys.stderr.write(f"{picture} is as it was: there is no browser to show {file.name}\n")


def _anew(step: Step, printed: list[str]) -> list[str]:
    """What the page should show: all that is printed, or of the lines that are shown those of now.

    A line that has changed is that which begins with the same word, of several the most like it; or
    else the next with other numbers in that word, or else the most like it. Others are gone.
    """
    if ALL_BUT not in step.shown:
        return printed
    own = [[one for one in printed if _same(_plain(line), _plain(one))] for line in step.shown]
    left = [one for one in printed if not any(one in same for same in own)]
    lines = []
    for line, same in zip(step.shown, own, strict=True):
        if line == ALL_BUT or line in same or (same and line.endswith(REST)):
            lines.append(line)
            continue
        now = [one for one in same if one not in lines][:1] or same[:1] or _nearest_of(line, left)
        left = [one for one in left if one not in now]
        lines += now
    return lines


def _nearest_of(line: str, among: list[str]) -> list[str]:
    """One line or none."""
    word = _first_word(line)
    alike = [one for one in among if _first_word(one) == word]
    if not alike:
        masked = [one for one in among if _masked(_first_word(one)) == _masked(word) != "#"]
        if masked:
            return masked[:1]
    return alike if len(alike) == 1 else difflib.get_close_matches(line, alike or among, 1)


def _masked(word: str) -> str:
    return re.sub(r"\d+", "#", word)


def _first_word(line: str) -> str:
    return line.strip("| ").split(" ")[0]


def _check_notebook(path: Path) -> Iterator[str]:
    cells = [one for one in json.loads(path.read_text())["cells"] if one["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    program = "\n".join(f"print({_CELL!r}, flush=True)\n{source}" for source in sources)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
        )
    printed = done.stdout.split(f"{_CELL}\n")[1:]
    for number, cell in enumerate(cells):
        streams = [
            "".join(one["text"]) for one in cell["outputs"] if one["output_type"] == "stream"
        ]
        found = printed[number] if number < len(printed) else done.stderr
        lines = difference("".join(streams).splitlines(), found.splitlines())
        told = "differs" if lines else "ok     "
        yield "\n".join([f"{told}  {path.name}: cell {number + 1}", *lines, ""])


def main() -> int:
    """Exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(description="Compare what pages show with what is printed.")
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="all of docs/")
    parser.add_argument("--data", type=Path, help=f"a folder with {', '.join(DATA)}")
    parser.add_argument("--write", action="store_true", help="put what is printed into the pages")
    given = parser.parse_args()
    differs = False
    docs = ROOT / "docs"
    for path in given.pages or [*sorted(docs.glob("*.md")), *sorted(docs.glob("*/*.ipynb"))]:
        notebook = path.suffix == ".ipynb"
        for line in _check_notebook(path) if notebook else check(path, given.data, given.write):
            differs |= line.startswith("differs")
            sys.stdout.write(line)
            sys.stdout.flush()
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
