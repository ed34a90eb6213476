"""Things by name that other packages add: found when asked for, and imported only then.

The core imports no package that adds to it. Such a package says what it has in ``PROVIDES``: for
each registry the names, and where the thing of a name is, as ``module:attribute``. ``compat`` is
one. A package that is installed besides tells its module as an entry point of the group
``ablate_kit.plugins``; no file that a command reads can name one.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TypeVar

PACKAGES = ("ablate_kit.compat",)
ENTRY_POINTS = "ablate_kit.plugins"

Thing = TypeVar("Thing")


class Registry(Mapping[str, Thing]):
    """What goes by a name, the core's own things first; a package takes no name that is taken."""

    def __init__(self, group: str, own: Mapping[str, Thing] | None = None) -> None:
        self.group = group
        self._own = dict(own or {})

    def __getitem__(self, name: str) -> Thing:
        if name in self._own:
            return self._own[name]
        module, _, attribute = self._provided()[name].partition(":")
        found: Thing = getattr(import_module(module), attribute)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter({**self._own, **self._provided()})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._provided()

    def _provided(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for provides in _packages():
            for name, place in provides.get(self.group, {}).items():
                found.setdefault(name, place)
        return found


@cache
def _packages() -> tuple[Mapping[str, Mapping[str, str]], ...]:
    from importlib.metadata import entry_points

    installed = sorted(one.value for one in entry_points(group=ENTRY_POINTS))
    return tuple(import_module(name).PROVIDES for name in (*PACKAGES, *installed))
