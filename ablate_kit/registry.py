"""Things by name that other packages add: found when asked for, and imported only then.

The core imports no package that adds to it. Such a package says what it has in ``PROVIDES``: for
each registry the names, and where the thing of a name is, as ``module:attribute``. ``compat`` is
one. A package that is installed besides tells its module as an entry point of the group
``ablate_kit.plugins``, or single things as those of the group ``ablate_kit.adapters``,
``ablate_kit.kinds`` and so on; no file that a command reads can name one.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TypeVar

from ablate_kit.errors import UserError
from detector.extras import extra_of

PACKAGES = ("ablate_kit.compat",)
ENTRY_POINTS = "ablate_kit.plugins"

Thing = TypeVar("Thing")


class Registry(Mapping[str, Thing]):
    """What goes by a name, the core's own things first; a package takes no name that is taken.

    ``places`` are things of the core that are imported when they are asked for, too.
    """

    def __init__(
        self,
        group: str,
        own: Mapping[str, Thing] | None = None,
        *,
        places: Mapping[str, str] | None = None,
    ) -> None:
        self.group = group
        self._own = dict(own or {})
        self._places = dict(places or {})

    def __getitem__(self, name: str) -> Thing:
        if name in self._own:
            return self._own[name]
        place = self._provided()[name]
        module, _, attribute = place.partition(":")
        try:
            found: Thing = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            if isinstance(error, ModuleNotFoundError) and extra_of(error.name):
                raise  # one that an extra brings, which the command line names
            raise UserError(f'"{name}" of {self.group} is not there ({place}): {error}') from error
        return found

    def __iter__(self) -> Iterator[str]:
        return iter({**self._own, **self._provided()})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._provided()

    def _provided(self) -> dict[str, str]:
        found = dict(self._places)
        singly = _installed(f"ablate_kit.{self.group}")
        for provides in (singly, *(one.get(self.group, {}) for one in _packages())):
            for name, place in provides.items():
                found.setdefault(name, place)
        return found


@cache
def _packages() -> tuple[Mapping[str, Mapping[str, str]], ...]:
    installed = sorted(_installed(ENTRY_POINTS).values())
    return tuple(import_module(name).PROVIDES for name in (*PACKAGES, *installed))


@cache
def _installed(group: str) -> Mapping[str, str]:
    """The entry points of a group: where the thing of each name is."""
    from importlib.metadata import entry_points

    return {one.name: one.value for one in sorted(entry_points(group=group))}
