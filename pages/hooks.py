"""What MkDocs calls: the README is the home page, and pages that the code tells are written.

The documents themselves stay as they are read on a code host. Nothing that is made here is kept.
"""

import json
import sys
from pathlib import Path
from typing import get_args

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ablate_kit.cli.commands.schema import Form, schema_of  # noqa: E402
from pages.command_reference import command_reference  # noqa: E402
from pages.gallery import gallery  # noqa: E402
from pages.python_reference import python_reference  # noqa: E402
from pages.recipe_reference import recipe_reference  # noqa: E402
from pages.site_links import FILES, published  # noqa: E402


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is made of the code, and the files of the repository that documents link to."""
    documents = {one.src_uri: one.content_string for one in files.documentation_pages()}
    index = files.get_file_from_path("index.md")
    assert index is not None  # noqa: S101
    files.remove(index)
    made = {
        "index.md": _home(),
        "all-pages.md": documents["index.md"],
        "gallery.md": gallery(documents),
        "reference/commands.md": command_reference(),
        "reference/recipes.md": recipe_reference(),
        "reference/python.md": python_reference(),
    }
    for form in get_args(Form):
        made[f"reference/{form}.schema.json"] = json.dumps(schema_of(form), indent=2)
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    needed = set()
    for name, text in {**documents, "../README.md": _readme()}.items():
        needed |= published(text, f"docs/{name}", ROOT)[1]
    for path in sorted(needed):
        copy = File.generated(config, f"{FILES}/{path}", abs_src_path=str(ROOT / path))
        files.append(copy)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that leave the documents lead to copies in the site."""
    if page.file.src_uri.startswith("reference/") or page.file.src_uri == "index.md":
        return markdown
    return published(markdown, f"docs/{page.file.src_uri}", ROOT)[0]


def _home() -> str:
    return published(_readme(), "README.md", ROOT)[0]


def _readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")
