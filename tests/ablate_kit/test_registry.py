"""The core knows no package that adds to it, and imports one when it is asked for what it has."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ablate_kit import registry
from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import REGIONS
from ablate_kit.ablations.kinds.kind_registry import BUILT_IN_KINDS, KINDS
from ablate_kit.anatomy.schemes import SCHEMES
from ablate_kit.errors import UserError
from ablate_kit.gradients.categories import CATEGORIES
from ablate_kit.registry import Registry
from ablate_kit.reports.error_analysis import RESULT_FILES
from ablate_kit.reports.protocols import PROTOCOLS

TOY = '''
"""A kind of ablation in a file of its own."""

from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.kinds.kind import Kind

PROVIDES = {"kinds": {"halved": "toy_kind:Halved"}}


@dataclass(frozen=True, kw_only=True)
class Halved(Kind):
    kind: Literal["halved"] = "halved"
    tensor: str

    def make(self, source):
        return [Ablation(f"{self.tensor}-halved", "halved", (Edit(self.tensor, factor=0.5),))]
'''


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{one.name}" for one in node.names}
    return found


def test_nothing_imports_what_builds_on_it(repository: Path) -> None:
    kit = repository / "ablate_kit"
    core = [path for path in kit.rglob("*.py") if (kit / "compat") not in path.parents]
    assert len(core) > 100
    for path in core:
        assert not any(name.startswith("ablate_kit.compat") for name in imported(path)), path
    # What it adds needs the core, so the test sees imports at all.
    kinds = kit / "compat" / "deep_dissect" / "recipe_kinds.py"
    assert "ablate_kit.ablations.ablation.Ablation" in imported(kinds)


def test_everything_that_is_provided_is_there() -> None:
    known = (KINDS, REGIONS, SCHEMES, CATEGORIES, PROTOCOLS, RESULT_FILES)
    provided = {group for package in registry._packages() for group in package}
    assert provided == {one.group for one in known}
    for one in known:
        assert len(dict(one)) == len(one)  # each can be imported
    assert list(PROTOCOLS) == ["voc", "thesis"]
    published = ["dissect-units", "dissect-heads", "dissect-component", "dissect-progressive"]
    assert list(KINDS) == [*(name for name in KINDS if name not in published), *published]
    assert all(kind.__dataclass_fields__["kind"].default == name for name, kind in KINDS.items())
    assert all(region.by == name for name, region in REGIONS.items())


def test_a_name_of_the_core_is_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    provides = {"kinds": {"units": "os:system", "more": "os:sep"}}
    monkeypatch.setattr(registry, "_packages", lambda: (provides, {"kinds": {"more": "os:name"}}))
    assert KINDS["units"] in BUILT_IN_KINDS
    assert KINDS["more"] == "/"  # the first package's
    assert "other" not in KINDS
    with pytest.raises(KeyError):
        KINDS["other"]
    assert list(Registry("kinds")) == ["units", "more"]


def test_a_file_names_no_draw_but_the_known_ones() -> None:
    edit = {"tensor": "a", "value": 0, "units": 1, "seed": 0, "draw": 0, "by": "os.system"}
    with pytest.raises(UserError, match=r"not an ablation: KeyError 'os.system'"):
        Ablation.from_dict({"name": "a", "kind": "units", "edits": [edit]})


def test_looking_at_a_checkpoint_imports_no_package(hybrid: Path) -> None:
    script = (
        "import sys; from ablate_kit.cli.app import app\n"
        f"app(['keys'])(['keys', {str(hybrid)!r}], standalone_mode=False)\n"
        "print([name for name in sys.modules if name.startswith('ablate_kit.compat')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


READ = """
import sys
from pathlib import Path

from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.sweeps.recipes.sweep_recipe import load_sweep

recipe, checkpoint = map(Path, sys.argv[1:])
with open_checkpoint(checkpoint) as opened:
    print([one.name for one in load_sweep(recipe).make(KindContext(opened))])
try:
    load_sweep(recipe, ["ablations=[{kind: halvd}]"])
except UserError as error:
    print(error)
"""


def test_an_installed_package_adds_a_kind_in_one_file(hybrid: Path, tmp_path: Path) -> None:
    """As pip leaves it: the file, and what says that it is a plug-in."""
    (tmp_path / "toy_kind.py").write_text(TOY)
    about = tmp_path / "toy_kind-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-kind\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[ablate_kit.plugins]\ntoy = toy_kind\n")
    values = {
        "model": {"checkpoint": str(hybrid)},
        "data": {"kind": "shapes"},
        "ablations": [{"kind": "halved", "tensor": "queries.content", "null_cuts": 0}],
    }
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(yaml.safe_dump(values))
    done = subprocess.run(
        [sys.executable, "-c", READ, recipe, hybrid],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    made, refused = done.stdout.splitlines()
    assert made == "['queries.content-halved']"
    assert 'kind is "halvd"' in refused
    assert 'did you mean "halved"?' in refused
