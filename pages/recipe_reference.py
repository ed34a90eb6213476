"""The page of all recipes' keys, from the schemas that recipes are validated by."""

import json
from collections.abc import Mapping
from typing import Any

from ablate_kit.cli.commands.schema import Form, schema_of

_START = """# Recipes

A recipe is a YAML file. Every kind has a JSON schema, from which this page is made. With it an
editor completes keys and marks mistakes while one types. Write it beside the recipe, and name it in
the recipe's first line:

    ablate schema sweep > sweep.schema.json

```yaml
# yaml-language-server: $schema=sweep.schema.json
model: {checkpoint: model.safetensors}
data: {kind: coco, annotations: instances.json, images: val2017}
ablations:
  - {kind: heads, pattern: "decoder.layers.*.self_attn"}
```

Types are those of JSON. `?` stands behind keys that need not be given.

"""
# The kinds, which the pages are called like that say what the keys mean.
_RECIPES: tuple[Form, ...] = ("sweep", "train", "pretrain", "retrain")


def recipe_reference() -> str:
    """The page, in Markdown."""
    parts = [_START]
    for name in _RECIPES:
        schema = schema_of(name)
        parts.append(
            f"## Recipes of `ablate {name}`\n\nWhat they mean: [{name}](../{name}.md).\n\n"
        )
        parts.append(_table(schema, schema))
        for title, part in schema.get("$defs", {}).items():
            parts.append(
                f"### {name}: {_named(title, part)}\n\n{_about(part)}{_table(part, schema)}"
            )
    return "".join(parts)


def _named(title: str, part: Mapping[str, Any]) -> str:
    """What a recipe calls a section: its ``kind``, where it has one."""
    kind = part.get("properties", {}).get("kind", {}).get("const")
    return f"`kind: {kind}`" if kind else title


def _about(part: Mapping[str, Any]) -> str:
    text = " ".join(part.get("description", "").split()).replace("``", "`")
    return f"{text}\n\n" if text else ""


def _table(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    needed = part.get("required", [])
    rows = [
        f"| `{key}`{'' if key in needed else '?'} | {_type(one, schema)} | {_default(one)} |\n"
        for key, one in part.get("properties", {}).items()
        if key != "kind" or "const" not in one  # which the heading says
    ]
    return f"| key | type | default |\n|---|---|---|\n{''.join(rows)}\n" if rows else ""


def _type(one: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A schema in words, short enough for a cell."""
    if "$ref" in one:
        title = one["$ref"].rpartition("/")[2]
        return _named(title, schema["$defs"][title])
    for several in ("anyOf", "oneOf"):
        if several in one:
            return " or ".join(dict.fromkeys(_type(each, schema) for each in one[several]))
    if "const" in one:
        return f"`{one['const']}`"
    if "enum" in one:
        return " or ".join(f"`{each}`" for each in one["enum"])
    kind = str(one.get("type", "anything"))
    if kind == "array":
        return f"list of {_type(one['items'], schema)}" if "items" in one else "list"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {one[key]}" for key, sign in bounds.items() if key in one]
    return " ".join([kind, *limits])


def _default(one: Mapping[str, Any]) -> str:
    found = one.get("default")
    if found is None or found in ([], {}):
        return ""
    return "as below" if isinstance(found, dict) else f"`{json.dumps(found)}`"
