"""What the documents promise is there: links, commands, code."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import typer.main

import ablate_kit
from ablate_kit.cli.app import COMMANDS, app
from pages.printed_outputs import ROOT, Block, blocks, check, difference, furnish, run

PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = ["README.md", "CHANGELOG.md", *(f"docs/{path.name}" for path in PAGES)]
LIGHT = {path.stem: [block for block in blocks(path.read_text()) if block.light] for path in PAGES}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(repository: Path, document: str) -> None:
    path = repository / document
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target
    for picture, _ in (one for block in blocks(path.read_text()) for one in block.figures):
        assert (path.parent / picture).exists(), picture


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if one != "CHANGELOG.md"])
def test_what_documents_name_is_there(repository: Path, document: str) -> None:
    text = (repository / document).read_text()
    folders = "ablate_kit|benchmarks|detector|docs|pages|recipes|tests"
    for path in re.findall(rf"(?<![\w/])(?:{folders})/[\w/-]+\.(?:py|yaml|md|ipynb)\b", text):
        assert (repository / path).exists(), path
    for name in re.findall(r"\bak\.(\w+)", text):
        assert name in ablate_kit.__all__, name
    assert re.findall(r"\bablate\.\w+\(", text) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_their_options_exist(repository: Path, document: str) -> None:
    text = (repository / document).read_text().replace("\\\n", " ")
    for line in re.findall(r"^(?:\$ |    )ablate (\S.*)$", text, re.MULTILINE):
        words = shlex.split(re.split(r" [>#|] ", line)[0])
        if words[0].startswith("-"):
            continue
        assert words[0] in COMMANDS, line
        group = typer.main.get_command(app(words))
        context = group.make_context("ablate", words)
        name, command, rest = group.resolve_command(context, words)
        while hasattr(command, "resolve_command"):
            name, command, rest = command.resolve_command(context, rest)
        if re.search(r" [\[(]|\.\.\. ", line):  # a form, not a command
            known = {option for one in command.params for option in one.opts + one.secondary_opts}
            assert set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", line)) <= known, line
        else:
            command.make_context(name, rest)  # raises where an option or argument is not its own


@pytest.mark.parametrize("page", [page for page, light in LIGHT.items() if light])
def test_quick_commands_print_what_is_shown(repository: Path, tmp_path: Path, page: str) -> None:
    furnish(tmp_path, (repository / f"docs/{page}.md").read_text())
    for block in LIGHT[page]:
        if block.data:
            continue
        for step, printed in run(block, tmp_path):
            assert difference(step.shown, printed) == [], step.command


def test_what_differs_from_a_page_is_found(tmp_path: Path) -> None:
    page = (
        "<!-- before: ablate meta a -->\n"
        "```\n$ ablate keys a \\\n    --stats\none  1 s\nsum ...\n```\n"
        "<!-- not run: takes an hour -->\n```\n$ ablate train b\n$ ls\n```\n\n```\n$ ls\n```\n"
    )
    first, second = blocks(page)
    assert first == Block(
        "$ ablate keys a \\\n    --stats\none  1 s\nsum ...\n", ("ablate meta a",)
    )
    assert Block("$ ablate eval --set a.b=deimv2_atto --images x/val2017\n").data == {
        "deimv2_atto", "val2017",
    }  # fmt: skip
    assert first.commands == ("ablate meta a", "ablate keys a --stats")
    (step,) = first.steps
    assert (step.command, step.shown) == ("ablate keys a --stats", ("one  1 s", "sum ..."))
    assert first.light
    assert not second.light
    assert second.not_run == "takes an hour"
    assert difference(step.shown, ["one 2.5 s", "sum   3"]) == []
    assert difference(step.shown, ["one 1 s", "sun"])[-2:] == ["-sum ...", "+sun"]
    assert difference(step.shown, ["one 1 s", "sum 3", "more"])[-1] == "+more"
    assert difference(["...", "b  2", "a  1"], ["a 1", "c 3", "b 2"]) == []
    assert difference(["b  3", "..."], ["a 1", "b 2"])[-2:] == ["-b 3", "+b 2"]
    furnish(tmp_path, "<!-- file: a.yaml -->\n```yaml\nb: 1\n```\n")
    assert _runs(tmp_path, "cat a.yaml; ls recipes/retrain/modules_tiny.yaml") == [
        "b: 1", "recipes/retrain/modules_tiny.yaml",
    ]  # fmt: skip
    assert _runs(tmp_path, "echo a; ablate keys nothing.pth") == [
        "a", "ablate: cannot open nothing.pth: No such file or directory",
    ]  # fmt: skip


def test_a_file_of_a_page_does_not_hide_the_block_that_follows() -> None:
    page = (
        "<!-- file: a.yaml -->\n```yaml\nb: 1\n```\n\n```\n$ ablate keys a\n```\n\n"
        "<!-- not run: takes an hour -->\n```\n$ ablate train b\n```\n"
    )
    assert [(one.commands, one.not_run) for one in blocks(page)] == [
        (("ablate keys a",), ""), (("ablate train b",), "takes an hour"),
    ]  # fmt: skip


def test_lines_that_are_shown_are_put_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    shown = "4 parts\ntaken out: a 1\ntaken out: b 3\nbytes  10 ...\n| b | 1.00 |\nname  AP\n..."
    shown += "\n1-of-3  7\n3-of-3  8\nlatency  1.5 ms\nlatency  2.5 ms\nwent"
    script = "import sys; print(open(sys.argv[1]).read())"
    now = "5 parts\nmore\ntaken out: b 4\ntaken out: a 1\nbytes   10   12\n"
    rows = "1-of-2   8\n2-of-2   7\nlatency  3.5 ms\nlatency  4.5 ms"
    (tmp_path / "now.txt").write_text(f"{now}| a | 1.00 |\n| b | 2.34 |\nname     AP\n{rows}")
    block = f"$ ablate --version; python3 -c '{script}' {tmp_path / 'now.txt'}\n"
    comments = "<!-- figure: a.png b.png -->\n<!-- before: touch b.png -->\n"
    page.write_text(f"Text.\n\n{comments}```\n{block}{shown}\n```\n")
    told = [line[:7] for line in check(page, None, write=False)]
    assert told == ["differs", "ok     "]
    assert not (tmp_path / "a.png").exists()
    assert [line[:7] for line in check(page, None, write=True)] == told
    assert (tmp_path / "a.png").exists()
    assert page.read_text() == (
        f"Text.\n\n{comments}```\n{block}5 parts\ntaken out: a 1\ntaken out: b 4\nbytes  10 ...\n"
        f"| b | 2.34 |\nname     AP\n...\n{rows}\n```\n"
    )


def _runs(folder: Path, command: str) -> list[str]:
    ((_, printed),) = run(Block(f"$ {command}\n"), folder)
    return printed


def test_the_code_of_the_readme_runs(repository: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=repository, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_readme_quotes_what_the_demo_prints(repository: Path) -> None:
    readme = (repository / "README.md").read_text()
    quoted = " ".join(re.findall(r"^> ?(.*)$", readme, re.MULTILINE))
    sentences = [" ".join(one.split()) for one in quoted.split("* ")[1:]]
    assert len(sentences) > 3
    printed = (repository / "docs/first-steps.md").read_text()
    for one in sentences:
        assert one.removesuffix(" ...") in printed, one


def test_the_readme_stays_short(repository: Path) -> None:
    assert len((repository / "README.md").read_text().splitlines()) <= 150


def test_one_version_everywhere(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    changelog = (repository / "CHANGELOG.md").read_text()
    citation = (repository / "CITATION.cff").read_text()
    newest = re.search(r"^## \[(\d.*)\] - (\d{4}-\d\d-\d\d)$", changelog, re.M)
    assert newest
    assert project["version"] == ablate_kit.__version__ == newest[1]
    assert f"\nversion: {newest[1]}\ndate-released: {newest[2]}\n" in citation


def test_the_changelog_has_the_usual_sections(repository: Path) -> None:
    text = (repository / "CHANGELOG.md").read_text()
    usual = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for version in text.split("\n## ")[1:]:
        sections = re.findall(r"^### (.*)$", version, re.M)
        assert set(sections) <= usual
        assert len(sections) == len(set(sections)), version[:20]


def imports_of(repository: Path) -> dict[str, set[str]]:
    """What each module of both packages imports, also within a function, or for types alone; of
    the front door all take the version."""
    modules = {
        ".".join(path.relative_to(repository).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ("ablate_kit", "detector")
        for path in (repository / package).rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        named = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
        named |= {
            f"{node.module}.{one.name}"
            for node in nodes
            if isinstance(node, ast.ImportFrom)
            for one in node.names
        } - {"ablate_kit.__version__"}
        found[module] = {one if one in modules else one.rpartition(".")[0] for one in named}
    return found


def test_imports_go_the_way_that_the_map_of_the_code_says(repository: Path) -> None:
    text = (repository / "docs/code-map.md").read_text()
    (said,) = re.findall(r"Imports go one way: (.*?);", text, re.S)
    levels = [re.findall(r"`(\w+)`", level) for level in said.split("→")]
    level_of = {room: number for number, level in enumerate(levels) for room in level}
    kit = repository / "ablate_kit"
    assert {path.name for path in kit.iterdir() if (path / "__init__.py").exists()} == {
        *level_of,
        "compat",
    }
    leaves = {path.stem for path in kit.glob("[a-z]*.py")}
    for module, imports in imports_of(repository).items():
        package, own = f"{module}.".split(".")[:2]
        for one in imports:
            other, room = f"{one}.".split(".")[:2]
            if other != "ablate_kit":
                continue
            assert package == "ablate_kit", f"{module} imports {one}"
            if room in ("", own) or room in leaves or own in ("", "__main__", "compat"):
                continue
            assert own not in leaves, f"{module} imports {one}, and is a leaf"
            assert level_of[own] < level_of.get(room, -1), f"{module} imports {one}"


PROGRAM = """
import importlib
import pkgutil
import sys

for room in sys.argv[1:]:
    found = importlib.import_module(f"ablate_kit.{room}")
    for one in pkgutil.walk_packages(found.__path__, f"{found.__name__}."):
        importlib.import_module(one.name)
        assert "torch" not in sys.modules, one.name
"""


def test_what_is_stored_is_read_and_told_without_pytorch(repository: Path) -> None:
    text = (repository / "docs/code-map.md").read_text()
    (said,) = re.findall(r"Nothing that is imported with (.*?) loads PyTorch", text, re.S)
    rooms = [one.replace("/", ".") for one in re.findall(r"`([\w/]+)`", said)]
    assert "reports" in rooms
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *rooms], cwd=repository, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_no_file_imports_what_imports_it(repository: Path) -> None:
    TopologicalSorter(imports_of(repository)).prepare()  # raises where there is a circle


def test_no_two_files_of_the_kit_have_one_name(repository: Path) -> None:
    names = Counter(path.name for path in (repository / "ablate_kit").rglob("*.py"))
    assert {name for name, count in names.items() if count > 1} == {"__init__.py"}


def test_the_map_of_the_code_names_what_is_there(repository: Path) -> None:
    text = (repository / "docs/code-map.md").read_text()
    packages = {"ablate_kit": [], "detector": []}  # type: dict[str, list[str]]
    for package, names in packages.items():
        part = text.split(f"## `{package}`")[1].split("\n## ")[0]
        names += re.findall(r"`([a-z_/]+/)`", "\n".join(re.findall(r"^\| (.*?) \|", part, re.M)))
        assert names
        for name in names:
            assert (repository / package / name).is_dir(), name
        folders = {path.parent for path in (repository / package).rglob("*.py")}
        for folder in folders - {repository / package}:
            found = f"{folder.relative_to(repository / package).as_posix()}/"
            assert any(found.startswith(name) for name in names), found
            assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder
    for path in re.findall(r"`((?:ablate_kit|detector)/[\w/]+(?:\.py|/))`", text):
        assert (repository / path).exists(), path
