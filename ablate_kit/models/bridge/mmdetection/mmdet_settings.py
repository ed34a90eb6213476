"""MMDetection's configuration, read so that nothing in it is overlooked."""

from collections.abc import Mapping
from typing import Any

from ablate_kit.errors import UserError


class Settings:
    """A section of a configuration. Each key is taken, or named as one that does not matter here;
    ``close`` refuses what is left, since a setting nobody looked at may change the outputs."""

    def __init__(self, values: Any, path: str) -> None:
        if not isinstance(values, Mapping):
            raise UserError(f"{path} of the configuration is {values!r}; expected settings")
        self.path = path
        self._left = dict(values)

    def take(self, key: str, default: Any = None) -> Any:
        return self._left.pop(key, default)

    def count(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number from ``least`` on, which may be written as 4.0."""
        value = self.take(key, default)
        if type(value) not in (int, float) or value < least or value % 1:
            kind = "positive whole number" if least else "whole number from 0 on"
            raise UserError(f"{self.path}.{key} is {value!r}; expected a {kind}")
        return int(value)

    def counts(self, key: str, default: list[int] | None = None, least: int = 1) -> list[int]:
        """Whole numbers in a list, none less than ``least``."""
        value = self.take(key, default)
        told = value if isinstance(value, list | tuple) else ()
        if not told or any(type(one) is not int or one < least for one in told):
            raise UserError(f"{self.path}.{key} is {value!r}; expected numbers from {least} on")
        return list(told)

    def number(self, key: str, default: float) -> float:
        """From 0 to 1."""
        value = self.take(key, default)
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise UserError(f"{self.path}.{key} is {value!r}; expected a number from 0 to 1")
        return float(value)

    def kind(self, *allowed: str, default: str | None = None) -> str:
        """The class that ``type`` names, without its module; the first of ``allowed`` where it
        names none, or ``default``."""
        name = str(self.take("type", default or allowed[0])).rpartition(".")[2]
        if name not in allowed:
            raise self.refused("type", name, allowed)
        return name

    def must(self, key: str, *allowed: Any, default: Any) -> Any:
        """A setting for which only ``allowed`` values can be carried over."""
        value = self.take(key, default)
        if value not in allowed:
            raise self.refused(key, value, allowed)
        return value

    def section(self, key: str, default: Mapping[str, Any] | None = None) -> "Settings":
        return Settings(self.take(key, default), f"{self.path}.{key}")

    def ignore(self, *keys: str) -> None:
        """Keys that act in training only."""
        for key in keys:
            self._left.pop(key, None)

    def close(self) -> None:
        for key, value in self._left.items():
            raise UserError(
                f"{self.path}.{key} is {value!r}, which this conversion does not know; without it "
                "the outputs might differ"
            )

    def refused(self, key: str, value: Any, allowed: tuple[Any, ...]) -> UserError:
        expected = " or ".join(map(repr, allowed))
        return UserError(
            f"{self.path}.{key} is {value!r}, which has no exact counterpart in transformers; "
            f"expected {expected}"
        )
