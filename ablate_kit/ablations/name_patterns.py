"""Names of tensors: patterns over them, and those that a live model has for them."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ablate_kit.checkpoints.unsupported_tensors import UNSUPPORTED
from ablate_kit.checkpoints.weight_sets import without_wrappers
from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.plural import counted, first_few

LAYER = "{layer}"
MOST_NUMBERS = 100_001  # that a range stands for
# Wildcards of which each may end at several places of a name: all of these are tried, in all
# combinations.
MOST_WILDCARDS = 5

_ACROSS, _WITHIN = ".*", "[^.]*"
_PIECE = re.compile(r"\*\*+|\*|\{layer\}|\{\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*\}|[^*{}]+")


def is_variance(name: str) -> bool:
    """Whether a tensor is the running variance of a batch normalization, which is never below 0."""
    return name.rpartition(".")[2] == "running_var"


@dataclass(frozen=True)
class Pattern:
    """A tensor name, or a module's name for all tensors under it, with wildcards.

    ``*`` stands for anything within one level, ``**`` for anything across levels, ``{0-2,5}`` for
    these numbers, ``{layer}`` for any number.
    """

    text: str

    def __post_init__(self) -> None:
        readable = "".join(_PIECE.findall(self.text)) == self.text
        if not self.text or not readable or self.text.count(LAYER) > 1:
            raise UserError(
                f'cannot read the pattern "{self.text}"; expected names with *, **, {{0-5}} '
                f"or one {LAYER}"
            )
        if sum(self._expressions.count(one) for one in (_ACROSS, _WITHIN)) > MOST_WILDCARDS:
            raise UserError(
                f'the pattern "{self.text}" has more than {MOST_WILDCARDS} wildcards beside those '
                "that stand for a whole level or end one"
            )

    def match(self, name: str) -> re.Match[str] | None:
        return self._expression.fullmatch(name)

    def modules(self, name: str) -> list[str]:
        """Of the modules that a tensor is in, and itself, those whose own name this is."""
        levels = name.split(".")
        if "**" not in self.text:
            return [".".join(levels[: self.text.count(".") + 1])] if self.match(name) else []
        inside = (".".join(levels[:end]) for end in range(1, len(levels) + 1))
        return [one for one in inside if self._whole.fullmatch(one)]

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        return re.compile(rf"{self._body}(?:\..*)?", re.DOTALL)

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        return re.compile(self._body, re.DOTALL)

    @property
    def _body(self) -> str:
        return "".join(self._expressions)

    @cached_property
    def _expressions(self) -> list[str]:
        pieces = _PIECE.findall(self.text)
        return [*map(_translated, pieces, [*pieces[1:], "."])]


def select(
    text: str,
    names: Collection[str],
    where: str,
    layers: Collection[int] | None = None,
    unsupported: Mapping[str, str] | None = None,
    listing: bool = False,
) -> list[str]:
    """The names that a pattern matches, in their order; never none.

    Args:
        text: the pattern.
        names: tensor names.
        where: what holds them, for the error message.
        layers: of ``{layer}`` only these numbers.
        unsupported: why tensors that are not among the names are not; one that the pattern
            matches is refused.
        listing: the names are to be listed, and nothing is done to what they name: then only a
            pattern that matches no others is refused.
    """
    if layers is not None and LAYER not in text:
        raise UserError(f'layers were chosen, but the pattern "{text}" has no {LAYER}')
    pattern = Pattern(text)
    if text == "**" and names and (listing or not unsupported):
        return list(names)
    found = [match for name in names if (match := pattern.match(name))]
    for name, reason in (unsupported or {}).items():
        if not (found and listing) and pattern.match(name):
            raise UserError(f'tensor "{name}" in {where} is {reason}: {UNSUPPORTED}')
    if not found:
        own = without_wrappers(text)
        if own != text and any(map(Pattern(own).match, names)):
            near = f'; without what wraps the model it is "{own}"'
        else:
            near = _nearest(text, names)
        raise UserError(f'no tensor matches "{text}" in {where}{near}')
    if layers is None:
        return [match.string for match in found]
    present = {int(match["layer"]) for match in found}
    for layer in layers:
        if layer not in present:
            raise UserError(f'"{text}" has no layer {layer} in {where}; it has {spans(present)}')
    return [match.string for match in found if int(match["layer"]) in layers]


def spans(numbers: Iterable[int]) -> str:
    """``0-2,5`` for 0, 1, 2, 5."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def file_name(pattern: str, layers: str | None = None) -> str:
    """A pattern as the start of a file name: ``decoder.layers.{layer}.ffn`` and layers 0-2 give
    ``decoder.layers.0-2.ffn``; other wildcards become ``all``."""
    label = pattern.replace("{layer}", layers or "all")
    label = re.sub(r"\*+", "all", label).replace("{", "").replace("}", "")
    return re.sub(r"[^\w.,-]+", "_", label).strip("_") or "variant"


def parse_spans(text: str, what: str) -> list[int]:
    """[0, 1, 2, 5] for ``0-2,5``."""
    numbers: dict[int, None] = {}
    left = MOST_NUMBERS
    shown = text if len(text) <= 60 else f"{text[:60]}..."
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part)
        if match is None:
            raise UserError(f'cannot read {what} "{shown}"; expected numbers such as 0,3 or 0-5')
        start, stop = int(match[1]), int(match[2] or match[1])
        left -= stop - start + 1
        if stop < start or left < 0:
            raise UserError(f'cannot read {what} "{shown}": {part.strip()} is no range')
        numbers |= dict.fromkeys(range(start, stop + 1))
    return list(numbers)


def _translated(piece: str, following: str) -> str:
    if piece.startswith("**"):
        return _ACROSS
    if piece == "*":  # up to the end of a level there is only one way
        return f"{_WITHIN}+" if following.startswith(".") else _WITHIN
    if piece == LAYER:
        return r"(?P<layer>\d+)"
    if piece.startswith("{"):
        numbers = parse_spans(piece[1:-1], "the range")
        return "(?:" + "|".join(map(str, numbers)) + ")"
    return re.escape(piece)


def _nearest(text: str, names: Collection[str]) -> str:
    """A pattern close to ``text`` that matches something: each misspelled level mended in turn."""
    if text == "all":
        return '; "**" matches all'
    if "," in re.sub(r"\{.*?\}", "", text):
        return "; a pattern holds no commas: give several, each by itself"
    levels = text.split(".")
    for i in range(len(levels)):
        start = ".".join(levels[: i + 1])
        if start and any(Pattern(start).match(name) for name in names):
            continue
        options = _levels(names, levels[:i])
        close = did_you_mean(levels[i], options)
        if not close:
            known = levels[:i]
            while len(options) == 1 and (below := _levels(names, [*known, *options])):
                known, options = [*known, *options], below
            under = f' under "{".".join(known)}"' if known else ""
            few = ", ".join(options[:8]) + (", ..." if len(options) > 8 else "")
            return f"; the names{under} are {few}"
        levels[i] = close.split('"')[1]
    mended = ".".join(levels)
    count = sum(1 for name in names if Pattern(mended).match(name))
    return f'; did you mean "{mended}" ({counted(count, "tensor")})?'


def _levels(names: Collection[str], above: list[str]) -> list[str]:
    """What follows ``above`` in the names that go on below it."""
    before = Pattern(".".join(above)) if above else None
    return sorted(
        {
            levels[len(above)]
            for name in names
            if len(levels := name.split(".")) > len(above)
            and (before is None or before.match(name))
        }
    )


class InModel(dict[str, tuple[str, ...]]):
    """For each tensor of a checkpoint its names in the running model.

    Attributes:
        parts: of a tensor that the model holds in several, or turned, their names: there it can be
            cut only as a whole.
    """

    def __init__(
        self, names: Mapping[str, tuple[str, ...]], parts: Mapping[str, tuple[str, ...]]
    ) -> None:
        super().__init__(names)
        self.parts = parts


def parts_in_model(live_names: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    return live_names.parts if isinstance(live_names, InModel) else {}


def to_model_keys(
    tensor: str,
    tensors: Iterable[str],
    live_names: Mapping[str, Sequence[str]] | None,
    *,
    whole: bool = False,
) -> Sequence[str]:
    """The live names of a checkpoint's tensor; by default its own, one of ``tensors``.

    ``whole``: what is done to it is done to all of its elements alike.
    """
    known = {name: (name,) for name in tensors} if live_names is None else live_names
    if found := known.get(tensor):
        return found
    if parts := parts_in_model(known).get(tensor):
        if whole:
            return parts
        raise UserError(
            f"the running model holds {tensor} as {first_few(parts, 3)}, where only the whole of "
            "it can be cut; a changed copy can be without any part of it"
        )
    if tensor in known:
        raise UserError(f"the running model has no {tensor}; only a changed copy can be without it")
    raise UserError(f'the model has no tensor "{tensor}"{did_you_mean(tensor, known)}')
