"""A pickle is read as data: plain values come out, everything else stays a name."""

import argparse
import collections
import contextlib
import io
import os
import pathlib
import pickle
import pickletools
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate_kit.checkpoints import CheckpointError, UnresolvedObject, show
from ablate_kit.checkpoints.pickle.interpret import interpret
from tests.ablate_kit.crafted_pickles import Call

KEYS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60) + 1, 2**60 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
)
PLAIN = st.recursive(
    st.one_of(
        KEYS,
        st.integers(),
        st.complex_numbers(allow_nan=False),
        st.binary().map(bytearray),
        st.sets(KEYS),
        st.frozensets(KEYS),
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(KEYS, inner),
        st.dictionaries(KEYS, inner).map(collections.OrderedDict),
    ),
    max_leaves=20,
)


def read(stream: bytes) -> Any:
    value, end = interpret(stream)
    assert end == len(stream)
    return value


@settings(deadline=None, max_examples=150)
@given(value=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_out_as_they_went_in(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@settings(deadline=None, max_examples=50)
@given(value=PLAIN)
def test_the_pure_python_pickler_writes_the_same_values(value: Any) -> None:
    buffer = io.BytesIO()
    pickle._Pickler(buffer, 4).dump(value)
    assert read(buffer.getvalue()) == value


def test_every_opcode_of_pickletools_is_known() -> None:
    from ablate_kit.checkpoints.pickle.pickle_opcodes import OPCODES

    known = {chr(code) for code in OPCODES} | {"."}
    assert known == {opcode.code for opcode in pickletools.opcodes}


def test_python_2_text_is_read() -> None:
    assert read(b"S'it\\'s \\x41\\n'\n.") == "it's A\n"
    assert read(b"U\x02\xff\xfe.") == b"\xff\xfe"
    assert read(b"(lp0\nL12L\naI01\naF1.5\na.") == [12, True, 1.5]


def test_shared_and_cyclic_containers_keep_their_shape() -> None:
    shared: list[Any] = [1]
    cycle: dict[str, Any] = {"one": shared, "two": shared}
    cycle["self"] = cycle
    value = read(pickle.dumps(cycle))
    assert value["one"] is value["two"]
    assert value["self"] is value


def test_calls_are_shown_and_not_made(tmp_path: pathlib.Path) -> None:
    mark = tmp_path / "ran"
    for function, args, words in (
        (os.system, (f"touch {mark}",), f"posix.system('touch {mark}')"),
        (eval, (f"open({str(mark)!r}, 'w')",), "builtins.eval("),
        (exec, ("import this",), "builtins.exec('import this')"),
        (os.mkdir, (str(mark),), "posix.mkdir("),
    ):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            value = read(pickle.dumps({"a": Call(function, *args)}, protocol))
            assert isinstance(value["a"], UnresolvedObject)
            assert show(value["a"]).startswith(words)
    assert not mark.exists()


def test_chains_of_attributes_are_shown_and_not_followed() -> None:
    before = dict(os.environ)
    value = read(b"cbuiltins\ngetattr\n(cos\nenviron\nS'clear'\ntR)R.")
    assert show(value) == "call(builtins.getattr(os.environ, 'clear'), ())"
    assert dict(os.environ) == before


def test_modules_that_do_not_exist_are_no_matter() -> None:
    value = read(b"\x80\x02cno.such.module\nThing\n)\x81}X\x01\x00\x00\x00aK\x01sb.")
    assert value.name == "no.such.module.Thing"
    assert show(value) == "no.such.module.Thing(a=1)"


def test_common_objects_print_as_name_and_arguments() -> None:
    kind = pathlib.PurePosixPath  # which Python 3.13 keeps in pathlib._local, in one piece
    parts = "'a', 'b'" if sys.version_info < (3, 13) else "'a/b'"
    path = f"{kind.__module__}.PurePosixPath({parts})"
    for value, words in (
        (argparse.Namespace(lr=0.1, epochs=2), "argparse.Namespace(lr=0.1, epochs=2)"),
        (pathlib.PurePosixPath("a/b"), path),
        (range(3), "builtins.range(0, 3, 1)"),
    ):
        assert show(read(pickle.dumps(value))) == words
    array = show(read(pickle.dumps(np.arange(100.0), 2)))
    assert array.startswith("numpy.ndarray(state=(1, (100,), numpy.dtype('f8', False, True")
    assert array.endswith("False, <800 bytes>))")
    state = show(read(pickle.dumps(random.Random(0).getstate())))
    assert len(state) == 200
    assert state.startswith("(3, (2147483648, 766982754, 497961170,")


@pytest.mark.parametrize("dtype", ["?", "i1", "<i2", "u4", "<i8", "f2", "f4", "f8"])
def test_numpy_numbers_are_numbers(dtype: str) -> None:
    scalar = np.ones((), dtype)[()] / np.array(2, dtype) if "f" in dtype else np.ones(1, dtype)[0]
    for protocol in (2, 5):
        assert read(pickle.dumps(scalar, protocol)) == scalar.item()


def test_big_endian_numpy_numbers_stay_opaque() -> None:
    number = Call(np._core.multiarray.scalar, np.dtype(">f8"), bytes(8))
    assert show(read(pickle.dumps(number, 2))).startswith("numpy._core.multiarray.scalar(")


def test_counters_and_default_dictionaries_are_dictionaries() -> None:
    default = collections.defaultdict(list, a=[1])
    assert read(pickle.dumps(default)) == {"a": [1]}
    assert read(pickle.dumps(collections.Counter("aab"))) == {"a": 2, "b": 1}


def test_keys_that_are_unsafe_to_hash_are_kept_in_a_box() -> None:
    [(key, value)] = read(pickle.dumps({(1, (2, 3)): "a"})).items()
    assert value == "a"
    assert show(key) == "key((1, (2, 3)))"
    [member] = read(pickle.dumps({2**61 - 1}))
    assert member.args == (2**61 - 1,)


@pytest.mark.parametrize(
    "stream",
    [
        b"", b".", b"\x80\x09N.", b"hello", b"h\x00.", b"]K\x01", b"K\x01K\x01a.", b"}(K\x01u.",
        b"K\x01)R.", b"cos\nsystem\nK\x01R.", b"X\xff\xff\xff\xff.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", b"I9" + b"9" * 5000 + b"\n.", b"Q.", b"K\x01Q.",
        b"\x97.", b"K\x01}b.", b"V\\ud80\n.",
    ],
)  # fmt: skip
def test_streams_that_are_no_pickle_give_one_line(stream: bytes) -> None:
    with pytest.raises(CheckpointError) as caught:
        interpret(stream)
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_mutated_streams_give_a_value_or_our_error(data: st.DataObject) -> None:
    value = {"a": [1, 2.5, (3, "x")], "b": argparse.Namespace(c={4}), "d": np.float32(1)}
    stream = bytearray(pickle.dumps(value, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 6))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CheckpointError):
        show(interpret(bytes(stream))[0])


@settings(deadline=None, max_examples=300)
@given(stream=st.lists(st.sampled_from(sorted(pickletools.code2op)), max_size=30).map("".join))
def test_arbitrary_opcodes_give_a_value_or_our_error(stream: str) -> None:
    with contextlib.suppress(CheckpointError):
        show(interpret(stream.encode("latin-1") + b"\n0\n0\n.")[0])


DEPTH = 300_000
NESTED: dict[str, Callable[[int], bytes]] = {
    "lists": lambda depth: b"]" * depth + b"a" * (depth - 1) + b".",
    "tuples": lambda depth: b")" + b"\x85" * depth + b".",
    "dictionaries": lambda depth: b"}" + b"K\x01}" * depth + b"s" * depth + b".",
    "marks": lambda depth: b"(" * depth + b"N.",
    "calls": lambda depth: b"cos\nsystem\n)R" + b")R" * depth + b".",
    "states": lambda depth: b"ca\nb\n)R" + b"2b" * depth + b".",
    # Hashing these two would overflow the C stack.
    "key": lambda depth: b"}N" + b"\x85" * depth + b"K\x01s.",
    "member": lambda depth: b"\x8f(N" + b"\x85" * depth + b"\x90.",
}


@pytest.mark.parametrize("kind", NESTED)
def test_deep_nesting_is_read_and_shown_in_steps_that_grow_with_it(kind: str) -> None:
    """Counted, and not timed: a busy machine takes longer for as many."""

    def read(depth: int) -> None:
        value, _ = interpret(NESTED[kind](depth))
        assert len(show(value)) <= 200

    read(DEPTH)
    few, many = calls_in(lambda: read(1_000)), calls_in(lambda: read(3_000))
    assert many <= 3.1 * few


def calls_in(work: Callable[[], object]) -> int:
    """How many functions, Python's own included, are called by ``work``."""
    count = 0

    def look(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def test_a_small_stream_cannot_fill_the_memory() -> None:
    doubling = b"]q\x00K\x01a" + b"(h\x00h\x00lq\x00" * 200 + b"."
    assert len(show(interpret(doubling)[0])) <= 200

    text = b"X" + (1 << 16).to_bytes(4, "little") + b"a" * (1 << 16)
    copies = b"(c_codecs\nencode\nq\x00" + text + b"X\x06\0\0\0latin1\x86q\x01"
    copies += b"h\x00h\x01R" * 30_000 + b"t."
    with pytest.raises(CheckpointError, match="expands to many times its own size"):
        interpret(copies)

    names = b"(" + text + b"q\x00" + b"h\x00h\x00\x93" * 30_000 + b"t."
    value, _ = interpret(names)
    assert len(value) == 30_001
    assert len(show(value)) <= 200


def test_keys_that_were_chosen_to_collide_do_not() -> None:
    """A set of 50,000 that share a hash would take a thousand million comparisons."""
    numbers = [i * (2**61 - 1) for i in range(5_000)]
    assert len({hash(number) for number in numbers}) == 1
    keys = (pickle.LONG1 + b"\x0a" + number.to_bytes(10, "little") for number in numbers)
    stream = b"}(" + b"".join(key + b"N" for key in keys) + b"u."
    value, _ = interpret(stream)
    assert len(value) == 5_000
    assert len({hash(key) for key in value}) > 4_990


def test_printing_is_bounded_and_harmless() -> None:
    assert show({"a": "x" * 1000}, 20) == "{'a': 'xxxxxxxxxxxx…"
    assert show(UnresolvedObject("evil\x1b[2J", "name")) == "evil\\x1b[2J.name"
    assert show(10**5000) == "<int of 16610 bits>"
    assert show(b"\x00" * 40) == "<40 bytes>"
    assert show({"b", "a"}) == "{'a', 'b'}"
    assert show(set(range(100))) == "<set of 100 items>"
    assert repr(UnresolvedObject("a", "B", (1,), None, {"c": 2}, [3])) == "a.B(1, 3, c=2)"
