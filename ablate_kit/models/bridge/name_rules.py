"""Rules that say where each tensor of one implementation goes in another.

In a pattern ``{layer}`` stands for a number, ``{layer+1}`` for one more than it, ``{p}`` for
``weight`` or ``bias``, ``{qv}`` for ``q`` or ``v``, ``{norm}`` for what a batch norm holds,
``{bn}`` with its counter, and ``{any}`` for whatever is there.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ablate_kit.errors import UserError

PLACEHOLDER = re.compile(r"\{(\w+)(?:\+(\d+))?\}")
CHOICES = {
    "p": "weight|bias",
    "norm": "weight|bias|running_mean|running_var",
    "qv": "q|v",
    "any": ".+",
    "bn": "weight|bias|running_mean|running_var|num_batches_tracked",
}
COUNTER = "num_batches_tracked"  # which old files and frozen norms do without


@dataclass(frozen=True)
class NameRule:
    """Tensors ``source`` become ``targets``: one, or equal parts of the rows in this order, of
    which one without a name goes nowhere.

    Of ``tied`` sources, which are one tensor in the model, the last is taken: it is what remains
    after loading.
    """

    source: str
    targets: tuple[str, ...]
    tied: bool = False


@dataclass(frozen=True)
class TensorOrigin:
    """Part number ``part`` of ``parts`` equal ones of the rows of a tensor."""

    source: str
    part: int = 0
    parts: int = 1

    def __str__(self) -> str:
        if self.parts == 1:
            return self.source
        return f"{self.source}, part {self.part + 1} of {self.parts}"


def both(source: str, target: str) -> NameRule:
    """Weight and bias of a layer."""
    return NameRule(f"{source}.{{p}}", (f"{target}.{{p}}",))


def packed(source: str, target: str, output: str = "out_proj") -> tuple[NameRule, ...]:
    """``nn.MultiheadAttention``, whose projections are one tensor, to three and an ``output``."""
    thirds = tuple(f"{target}.{name}_proj.{{p}}" for name in "qkv")
    return (
        NameRule(f"{source}.in_proj_{{p}}", thirds),
        both(f"{source}.out_proj", f"{target}.{output}"),
    )


def deformable(source: str, target: str) -> tuple[NameRule, ...]:
    names = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    return tuple(both(f"{source}.{name}", f"{target}.{name}") for name in names)


def origins(
    names: Iterable[str], rules: Iterable[NameRule], dropped: Iterable[str], if_foreign: str = ""
) -> dict[str, TensorOrigin]:
    """For each tensor of the Hugging Face model, where it comes from.

    ``dropped`` are patterns of tensors that go nowhere; ``if_foreign`` ends the line where a name
    has no place. Raises ``UserError`` for any other name that no rule places, where two would go to
    one place, and where of a layer's tensors (such as weight and bias) one is missing.
    """
    compiled = [(_pattern(rule.source), rule) for rule in rules]
    left_out = [_pattern(source) for source in dropped]
    found: dict[str, TensorOrigin] = {}
    names = list(names)
    present = set(names)
    for name in names:
        if any(pattern.fullmatch(name) for pattern in left_out):
            continue
        placed = [(match, rule) for pattern, rule in compiled if (match := pattern.fullmatch(name))]
        if len(placed) != 1:
            raise UserError(f'"{name}" has no place in the Hugging Face model{if_foreign}')
        ((match, rule),) = placed
        values = _values(rule.source, match)
        for sibling in _siblings(rule.source, values):
            if sibling not in present:
                raise UserError(f'"{sibling}" is missing; "{name}" is there')
        for part, target in enumerate(rule.targets):
            if not target:
                continue
            place = _filled(target, values)
            if place in found and not rule.tied:
                raise UserError(f'"{name}" and "{found[place].source}" would both be "{place}"')
            found[place] = TensorOrigin(name, part, len(rule.targets))
    return found


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is what one of the patterns stands for."""
    return any(_pattern(source).fullmatch(name) for source in patterns)


def _pattern(source: str) -> re.Pattern[str]:
    parts, end = [], 0
    for placeholder in PLACEHOLDER.finditer(source):
        parts.append(re.escape(source[end : placeholder.start()]))
        parts.append(f"({CHOICES.get(placeholder[1], '[0-9]+')})")
        end = placeholder.end()
    return re.compile("".join(parts) + re.escape(source[end:]))


def _values(source: str, match: re.Match[str]) -> dict[str, str]:
    """What the placeholders stood for, without what is added to them."""
    return {
        name: str(int(text) - int(offset)) if offset else text
        for (name, offset), text in zip(PLACEHOLDER.findall(source), match.groups(), strict=True)
    }


def _siblings(source: str, values: Mapping[str, str]) -> Iterator[str]:
    """The names that the rule has where the layer is the same."""
    for choice, words in CHOICES.items():
        if choice in values:
            for word in words.split("|"):
                if word != COUNTER:
                    yield _filled(source, {**values, choice: word})


def _filled(target: str, values: Mapping[str, str]) -> str:
    def value(placeholder: re.Match[str]) -> str:
        name, offset = placeholder.groups()
        return str(int(values[name]) + int(offset)) if offset else values[name]

    return PLACEHOLDER.sub(value, target)
