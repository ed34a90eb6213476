"""Puts other values in place of parts of nested containers."""

from collections.abc import Callable
from typing import Any


def replaced(value: Any, by: Callable[[Any], Any]) -> Any:
    """``value`` with what ``by`` gives in place of its parts, where that is something.

    Containers may be shared and hold themselves: each is changed once, where it is.
    """
    top = [value]
    waiting: list[Any] = [top]
    seen = {id(top)}
    while waiting:
        container = waiting.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, item in list(items):
            new = by(item)
            if new is not None:
                if not isinstance(container, tuple):
                    container[key] = new
            elif isinstance(item, dict | list | tuple) and id(item) not in seen:
                seen.add(id(item))
                waiting.append(item)
    return top[0]
