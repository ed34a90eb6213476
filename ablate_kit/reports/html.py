"""Pages from templates: whatever a name holds, it is text of the page."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ablate_kit.text import lines


def render(template: str, **values: Any) -> str:
    """A page of ``reports/templates``: text is escaped, and what is not printable is spelled."""
    environment = Environment(
        loader=PackageLoader("ablate_kit.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=_safe,
    )
    return environment.get_template(template).render(values)


def _safe(value: Any) -> Any:
    return lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value
