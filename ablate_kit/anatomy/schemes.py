"""Checkpoints of known models under other names, whose files hold no configuration."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablate_kit.anatomy.head_counts import Shaped
from ablate_kit.registry import Registry

if TYPE_CHECKING:
    from detector.config import HybridConfig


@dataclass(frozen=True)
class Scheme:
    """Names that tell whose checkpoint it is, and what is known of all of these."""

    what: str  # a checkpoint of these names is
    recognizes: Callable[[Iterable[str]], bool]
    heads: Mapping[str, int]  # of every attention module, by what tells so
    levels: int  # on which attention samples
    settings: Callable[[Mapping[str, Shaped]], dict[str, Any]]
    """The configuration, by the tensors' shapes."""
    renamed: "Callable[[Iterable[str], HybridConfig], dict[str, str]]"
    """The hybrid detector's name of each tensor; foreign ones keep theirs."""


SCHEMES: Registry[Scheme] = Registry("naming schemes")


def scheme_of(names: Iterable[str]) -> Scheme | None:
    """The scheme that a checkpoint's names follow, if any."""
    return next((scheme for scheme in SCHEMES.values() if scheme.recognizes(names)), None)
