"""The documentation's site: every page is in its menu, and what the code tells is there."""

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import ablate_kit
from ablate_kit.ablations.kinds.kind_registry import KINDS
from ablate_kit.cli.app import COMMANDS
from ablate_kit.cli.commands.schema import Form, schema_of
from ablate_kit.cli.examples import EXAMPLES
from pages.command_reference import command_reference
from pages.gallery import gallery
from pages.recipe_reference import recipe_reference
from pages.site_links import published

# Pages that are made when the site is built.
MADE = {"all-pages.md", "gallery.md"} | {
    f"reference/{name}.md" for name in ("commands", "recipes", "python")
}


def leaves(part: Any) -> list[str]:
    if isinstance(part, str):
        return [part]
    return [one for each in (part.values() if isinstance(part, dict) else part)
            for one in leaves(each)]  # fmt: skip


def test_the_menu_has_every_page_once(repository: Path) -> None:
    pages = leaves(yaml.safe_load((repository / "mkdocs.yml").read_text())["nav"])
    assert len(pages) == len(set(pages))
    documents = {path.name for path in (repository / "docs").glob("*.md")}
    assert set(pages) == documents | MADE
    listed = (repository / "docs/index.md").read_text()
    assert [name for name in documents - {"index.md"} if f"({name}" not in listed] == []


def test_the_reference_has_every_command_with_its_options() -> None:
    text = command_reference()
    for name in COMMANDS:
        assert f"\n### ablate {name}\n" in text
    assert "\n#### ablate data convert\n" in text
    for example in EXAMPLES["sweep"]:
        assert f"\n{example}\n" in text
    assert "<code>-o, --output &lt;path&gt;</code>" in text
    assert "<code>--format &lt;table&#124;tree&#124;json&gt;</code> | How to print. | " in text


def test_the_reference_has_every_kind_with_its_keys() -> None:
    text = recipe_reference()
    for name, kind in KINDS.items():
        part = text.split(f"### sweep: `kind: {name}`\n")[1].split("\n###")[0]
        for key in kind.__dataclass_fields__:
            assert key == "kind" or f"| `{key}`" in part, (name, key)
    assert "| `margin`? | number ≥ 0 ≤ 1 | `0.01` |" in text


@pytest.mark.parametrize("form", [form for form in get_args(Form) if form != "results"])
def test_an_editor_accepts_the_shipped_recipes(repository: Path, form: Form) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    check = jsonschema.Draft202012Validator(schema_of(form))
    files = sorted((repository / "recipes" / form).glob("*.yaml"))
    assert files
    for path in files:
        errors = [one.message for one in check.iter_errors(yaml.safe_load(path.read_text()))]
        assert errors == [], path
    assert not check.is_valid({"ablation": [], "modle": {}})


def test_the_example_of_an_editors_hint_is_a_recipe(tmp_path: Path) -> None:
    (example,) = [one for one in recipe_reference().split("```") if one.startswith("yaml\n")]
    recipe = yaml.safe_load(example.removeprefix("yaml\n"))
    made = ablate_kit.sweeps.recipes.sweep_recipe.SweepRecipe.model_validate(recipe)
    assert made.ablations[0].kind == "heads"


def test_links_lead_to_pages_or_come_along(repository: Path) -> None:
    text = (
        "[a](docs/cut.md#heads) [b](docs/index.md) ![c](docs/figures/demo.png) [d](CITATION.cff) "
        "[e](https://example.org) [f](#here)\n```\n[g](docs/cut.md)\n```\n"
    )
    found, needed = published(text, "README.md", repository)
    assert found == (
        "[a](cut.md#heads) [b](all-pages.md) ![c](figures/demo.png) [d](files/CITATION.cff) "
        "[e](https://example.org) [f](#here)\n```\n[g](docs/cut.md)\n```\n"
    )
    assert needed == {"CITATION.cff"}
    inner, needed = published(
        "[x](../recipes/sweep/detr.yaml) [y](cut.md)", "docs/a.md", repository
    )
    assert inner == "[x](files/recipes/sweep/detr.yaml) [y](cut.md)"
    assert needed == {"recipes/sweep/detr.yaml"}


def test_the_gallery_has_every_picture() -> None:
    text = gallery({"a.md": "# A\n\n![What it shows](figures/a.png)\n", "b.md": "# B\n"})
    assert "## A\n\n[![What it shows](figures/a.png)](a.md)" in text
    assert "## B" not in text
