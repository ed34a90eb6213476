"""What two sets of tensors have in common: names, shapes, types, bytes or values."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from ablate_kit.checkpoints.tensors import TensorInfo
from ablate_kit.checkpoints.weights import Checkpoint

_WINDOW = 1 << 20  # bytes at a time


@dataclass(frozen=True)
class Values:
    """How the elements of two tensors of one shape differ; ``share`` is of those that differ.

    ``relative`` is ||a - b|| / ||a||; ``cosine`` is NaN where either is all zero. Two NaN count as
    equal.
    """

    largest: float
    relative: float
    cosine: float
    share: float


@dataclass(frozen=True)
class Diff:
    """``first`` and ``second`` are names that only one has; ``renamed`` maps names of the first to
    those of the second under which the same tensor is found; ``layout`` are the common names of
    another shape or type, ``changed`` those of other bytes, ``same`` the rest.

    ``values`` are those of the changed ones and of those that differ in type alone, if they were
    compared.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    renamed: Mapping[str, str]
    layout: tuple[str, ...]
    changed: tuple[str, ...]
    same: tuple[str, ...]
    values: Mapping[str, Values]

    @property
    def differs(self) -> bool:
        return bool(self.first or self.second or self.renamed or self.layout or self.changed)


def by_headers(
    first: Checkpoint, second: Checkpoint, first_names: list[str], second_names: list[str]
) -> Diff:
    """Names, shapes and types; no data is read. A tensor counts as renamed where exactly one of the
    other side's is of its shape and type and ends in as much of its name."""

    def found_again(only_first: list[str], only_second: list[str]) -> dict[str, str]:
        a, b = (
            {name: layout(one.tensors[name]) for name in names}
            for one, names in ((first, only_first), (second, only_second))
        )
        return _renamed(only_first, only_second, a, b)

    return _diff(first, second, first_names, second_names, found_again, lambda _: True)


def by_digests(
    first: Checkpoint, second: Checkpoint, first_names: list[str], second_names: list[str]
) -> Diff:
    """Bytes too, by their digests. A tensor counts as renamed where the other side has the same
    shape, type and bytes under another name, the one that ends most alike.

    Of constant tensors (norms as they begin, counters, biases of zeros) bytes say nothing: there
    the name must say it, by a change that renamed tensors show, or by a longer beginning alone.
    """

    def same(name: str) -> bool:
        return digest_of_tensor(first, name) == digest_of_tensor(second, name)

    found_again = partial(_same_bytes, first, second)
    return _diff(first, second, first_names, second_names, found_again, same)


def by_values(
    first: Checkpoint, second: Checkpoint, first_names: list[str], second_names: list[str]
) -> Diff:
    """``by_digests``, and by how much those that differ do."""
    found = by_digests(first, second, first_names, second_names)
    comparable = (
        *found.changed,
        *(n for n in found.layout if first.tensors[n].shape == second.tensors[n].shape),
    )
    return replace(found, values={name: compare(first, second, name) for name in comparable})


BY = {"headers": by_headers, "digests": by_digests, "values": by_values}


def _diff(
    first: Checkpoint,
    second: Checkpoint,
    first_names: list[str],
    second_names: list[str],
    found_again: Callable[[list[str], list[str]], dict[str, str]],
    same: Callable[[str], bool],
) -> Diff:
    """``found_again``: the tensors that only one of them has by name, under the other's names;
    ``same``: whether those of one name, shape and type are."""
    here, there = set(first_names), set(second_names)
    only_first = [name for name in first_names if name not in there]
    only_second = [name for name in second_names if name not in here]
    renamed = found_again(only_first, only_second)
    taken = set(renamed.values())
    common = [name for name in first_names if name in there]
    unlike = [n for n in common if layout(first.tensors[n]) != layout(second.tensors[n])]
    others = set(unlike)
    equal = {name: same(name) for name in common if name not in others}
    return Diff(
        tuple(name for name in only_first if name not in renamed),
        tuple(name for name in only_second if name not in taken),
        renamed,
        tuple(unlike),
        tuple(name for name, is_same in equal.items() if not is_same),
        tuple(name for name, is_same in equal.items() if is_same),
        {},
    )


def _same_bytes(
    first: Checkpoint, second: Checkpoint, only_first: list[str], only_second: list[str]
) -> dict[str, str]:
    if not only_first or not only_second:
        return {}
    a, b = (
        {name: (*layout(one.tensors[name]), digest_of_tensor(one, name)) for name in names}
        for one, names in ((first, only_first), (second, only_second))
    )
    shared = set(a.values()) & set(b.values())
    constant = {
        key: is_constant(first, first.tensors[name]) for name, key in a.items() if key in shared
    }
    telling = {key for key, is_constant in constant.items() if not is_constant}
    renamed = _renamed(
        [name for name in only_first if a[name] in telling],
        [name for name in only_second if b[name] in telling],
        a,
        b,
        certain=True,
    )
    beginnings = _beginnings(renamed)
    left = {name for name, key in b.items() if constant.get(key)}
    for name in only_first:
        if constant.get(a[name]):
            near = _under_other_names(name, beginnings, left)
            other = next((other for other in near if a[name] == b[other]), None)
            if other:
                renamed[name] = other
                left.remove(other)
    return renamed


def is_constant(checkpoint: Checkpoint, info: TensorInfo, window: int = _WINDOW) -> bool:
    """Whether all elements of a tensor are the same bytes; none, and a single one, are. Reads
    ``window`` bytes before it is found not to be."""
    first = b""
    for chunk in row_major_bytes(checkpoint, info, window):
        first = first or chunk[: info.itemsize]
        if chunk != first * (len(chunk) // info.itemsize):
            return False
    return True


def _beginnings(renamed: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the renamed tensors' names change into what, without what they end alike in; the longest
    first."""
    found = set()
    for old, new in renamed.items():
        common = _common_ending(old, new)
        one, other = old.split("."), new.split(".")
        found.add((".".join(one[: len(one) - common]), ".".join(other[: len(other) - common])))
    return sorted(found, key=lambda pair: (-len(pair[0]), pair))


def _under_other_names(name: str, beginnings: list[tuple[str, str]], others: set[str]) -> list[str]:
    """Names of ``others`` that ``name`` may have become, the likeliest first."""
    candidates = []
    for old, new in beginnings:
        rest = f".{name}" if not old else name.removeprefix(old)
        if rest.startswith(".") and (not old or name.startswith(f"{old}.")):
            candidates.append((new + rest).removeprefix("."))
    longer = [other for other in others if other.endswith(f".{name}") or name.endswith(f".{other}")]
    if len(longer) == 1:
        candidates += longer
    return [other for other in candidates if other in others]


def digest_of_tensor(checkpoint: Checkpoint, name: str) -> str:
    """SHA-256 of a tensor's elements in row-major order."""
    info = checkpoint.tensors[name]
    hashed = hashlib.sha256()
    for chunk in row_major_bytes(checkpoint, info):
        hashed.update(chunk)
    return hashed.hexdigest()


def compare(first: Checkpoint, second: Checkpoint, name: str) -> Values:
    """The tensors ``name`` of both, which must have one shape, element by element."""
    import numpy as np

    from ablate_kit.checkpoints.values import read_parts

    largest = squares = first_squares = second_squares = product = 0.0
    differing = 0
    parts = zip(
        read_parts(first.archive, first.tensors[name]),
        read_parts(second.archive, second.tensors[name]),
        strict=True,
    )
    for one, other in parts:
        kind = np.complex128 if "c" in (one.dtype.kind, other.dtype.kind) else np.float64
        equal = (one == other) | (np.isnan(one) & np.isnan(other))
        differing += equal.size - int(np.count_nonzero(equal))
        a, b = one.astype(kind), other.astype(kind)
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.abs(np.where(equal, 0, a - b))
            largest = float(np.maximum(largest, gap.max(initial=0)))  # keeps NaN
            squares += float((gap * gap).sum())
            first_squares += float((np.abs(a) ** 2).sum())
            second_squares += float((np.abs(b) ** 2).sum())
            product += float((a * b.conj()).real.sum())
    norm = math.sqrt(first_squares) * math.sqrt(second_squares)
    relative = math.sqrt(squares / first_squares) if first_squares else math.inf
    count = first.tensors[name].numel
    return Values(
        largest,
        relative if differing else 0.0,
        product / norm if norm else math.nan,
        differing / count if count else 0.0,
    )


def row_major_bytes(
    checkpoint: Checkpoint, info: TensorInfo, window: int = _WINDOW
) -> Iterator[bytes]:
    """A tensor's elements, ``window`` bytes (whole elements) at a time where they lie in order."""
    if info.contiguous:
        for part in checkpoint.archive.parts(info, window):
            yield bytes(part)
    else:
        from ablate_kit.checkpoints.values import read_bits

        content = memoryview(read_bits(checkpoint.archive, info).tobytes())
        for start in range(0, len(content), window):
            yield bytes(content[start : start + window])


def layout(info: TensorInfo) -> tuple[object, ...]:
    """What tensors have to have in common to be compared byte by byte."""
    return info.shape, info.dtype


def _renamed(
    first: list[str],
    second: list[str],
    first_keys: Mapping[str, tuple[object, ...]],
    second_keys: Mapping[str, tuple[object, ...]],
    certain: bool = False,
) -> dict[str, str]:
    """Pairs of names whose keys are equal, each name in one pair at most; ``certain`` says that
    equal keys mean the same tensor, however little the names have in common."""
    if not first or not second:
        return {}
    candidates: dict[tuple[object, ...], list[str]] = {}
    for name in second:
        candidates.setdefault(second_keys[name], []).append(name)
    pairs = {}
    taken: set[str] = set()
    for name in first:
        near = [other for other in candidates.get(first_keys[name], []) if other not in taken]
        ranked = sorted(near, key=lambda other: -_common_ending(name, other))
        if not ranked:
            continue
        best = _common_ending(name, ranked[0])
        alone = len(ranked) == 1 or _common_ending(name, ranked[1]) < best
        if certain or (best and alone):
            pairs[name] = ranked[0]
            taken.add(ranked[0])
    return pairs


def _common_ending(one: str, other: str) -> int:
    """How many levels two names have in common at the end."""
    count = 0
    for a, b in zip(reversed(one.split(".")), reversed(other.split(".")), strict=False):
        if a != b:
            break
        count += 1
    return count
