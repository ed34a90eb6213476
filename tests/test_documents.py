"""What the documents promise is there: links, commands, code."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ablate_kit
from ablate_kit.cli.app import COMMANDS

DOCUMENTS = ["README.md", "CHANGELOG.md", *(f"docs/{p.name}" for p in sorted(
    (Path(__file__).resolve().parents[1] / "docs").glob("*.md")))]  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(repository: Path, document: str) -> None:
    path = repository / document
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_exist(repository: Path, document: str) -> None:
    text = (repository / document).read_text()
    for command in re.findall(r"^(?:\$ |    |`)?ablate ([a-z]+) ", text, re.MULTILINE):
        assert command in COMMANDS, command


def test_the_code_of_the_readme_runs(repository: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=repository, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


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
    for path in re.findall(r"`((?:ablate_kit|detector)/[\w/]+(?:\.py|/))`", text):
        assert (repository / path).exists(), path
