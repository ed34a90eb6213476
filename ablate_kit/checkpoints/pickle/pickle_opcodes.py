"""What each pickle opcode does, protocols 0 to 5; their list is CPython's ``pickletools``."""

from collections.abc import Callable
from typing import Any

from ablate_kit.checkpoints.pickle.constructors import as_key
from ablate_kit.checkpoints.pickle.pickle_literals import LITERALS
from ablate_kit.checkpoints.pickle.pickle_machine import UNSIGNED_4, Machine
from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject, show
from ablate_kit.errors import CheckpointError

_NEWEST_PROTOCOL = 5


# --- containers --------------------------------------------------------------------------------


def _new(kind: Callable[[], Any]) -> Callable[[Machine], None]:
    return lambda machine: machine.push(kind())


def _mark(machine: Machine) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _tuple(machine: Machine) -> None:
    items = tuple(machine.stack)
    machine.stack = machine.below.pop()
    machine.stack.append(items)


def _tuple_of(count: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        if len(machine.stack) < count:
            raise IndexError
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return step


def _dict(machine: Machine) -> None:
    items = machine.pop_to_mark()
    machine.push({})
    _set_items(machine.stack[-1], items)


def _append(machine: Machine) -> None:
    item = machine.pop()
    _append_items(machine.stack[-1], [item])


def _appends(machine: Machine) -> None:
    items = machine.pop_to_mark()
    _append_items(machine.stack[-1], items)


def _add_items(machine: Machine) -> None:
    items = machine.pop_to_mark()
    target = machine.stack[-1]
    if isinstance(target, set):
        target.update(map(as_key, items))
    else:
        _append_items(target, items)


def _set_item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine.stack[-1], [key, value])


def _set_items_to_mark(machine: Machine) -> None:
    items = machine.pop_to_mark()
    _set_items(machine.stack[-1], items)


def _append_items(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, UnresolvedObject):
        target.items.extend(items)
    else:
        raise CheckpointError(f"the pickle appends to {show(target, 60)}, which is no list")


def _set_items(target: Any, items: list[Any]) -> None:
    if len(items) % 2:
        raise ValueError
    pairs = zip(items[::2], items[1::2], strict=True)
    if isinstance(target, dict):
        target.update((as_key(key), value) for key, value in pairs)
    elif isinstance(target, UnresolvedObject):
        target.items.extend(pairs)
    else:
        raise CheckpointError(f"the pickle sets items of {show(target, 60)}, which has none")


# --- stack and memo ----------------------------------------------------------------------------


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.pop()
    else:
        machine.pop_to_mark()


def _get_1(machine: Machine) -> None:
    machine.stack.append(machine.memo[machine.stream[machine.at]])
    machine.at += 1


def _get_4(machine: Machine) -> None:
    (key,) = UNSIGNED_4.unpack_from(machine.stream, machine.at)
    machine.stack.append(machine.memo[key])
    machine.at += 4


def _put_1(machine: Machine) -> None:
    machine.memo[machine.stream[machine.at]] = machine.stack[-1]
    machine.at += 1


def _put_4(machine: Machine) -> None:
    (key,) = UNSIGNED_4.unpack_from(machine.stream, machine.at)
    machine.memo[key] = machine.stack[-1]
    machine.at += 4


def _put_line(machine: Machine) -> None:
    machine.memo[int(machine.line())] = machine.stack[-1]


def _memoize(machine: Machine) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


# --- names, calls, objects ---------------------------------------------------------------------


def _global(machine: Machine) -> None:
    module, qualname = machine.line(), machine.line()
    machine.push(machine.name(module.decode(), qualname.decode()))


def _stack_global(machine: Machine) -> None:
    qualname, module = machine.pop(), machine.pop()
    machine.push(machine.name(module, qualname))


def _extension(width: int) -> Callable[[Machine], None]:
    # A number that a process registered for a class; only that process knows the class.
    return lambda machine: machine.push(
        UnresolvedObject("copyreg", f"extension_{machine.number(width)}")
    )


def _call(machine: Machine) -> None:
    args, function = machine.pop(), machine.pop()
    machine.push(machine.call(function, args))


def _call_with_keywords(machine: Machine) -> None:
    kwargs, args, function = machine.pop(), machine.pop(), machine.pop()
    machine.push(machine.call(function, args, kwargs))


def _instance(machine: Machine) -> None:
    args = machine.pop_to_mark()
    _global(machine)
    machine.push(machine.call(machine.pop(), tuple(args)))


def _object(machine: Machine) -> None:
    function, *args = machine.pop_to_mark()
    machine.push(machine.call(function, tuple(args)))


def _build(machine: Machine) -> None:
    state, target = machine.pop(), machine.stack[-1]
    if isinstance(target, UnresolvedObject):
        target.state = state
    elif not isinstance(target, dict):
        # A dictionary may carry attributes beside its items (torch's state_dict()._metadata); they
        # are no part of its contents. Nothing else that is rebuilt here has a state.
        raise CheckpointError(f"the pickle sets the state of {show(target, 60)}, which has none")


def _protocol(machine: Machine) -> None:
    version = machine.number(1)
    if version > _NEWEST_PROTOCOL:
        raise CheckpointError(
            f"the pickle has protocol {version}; 0 to {_NEWEST_PROTOCOL} are known"
        )


def _out_of_band(machine: Machine) -> None:
    raise CheckpointError("the pickle keeps data in buffers outside the file")


OPCODES: dict[int, Callable[[Machine], object]] = {
    **LITERALS,
    ord("("): _mark,
    ord("t"): _tuple,
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    ord("]"): _new(list),
    ord("l"): lambda machine: machine.push(machine.pop_to_mark()),
    ord("a"): _append,
    ord("e"): _appends,
    ord("}"): _new(dict),
    ord("d"): _dict,
    ord("s"): _set_item,
    ord("u"): _set_items_to_mark,
    0x8F: _new(set),
    0x90: _add_items,
    0x91: lambda machine: machine.push(frozenset(map(as_key, machine.pop_to_mark()))),
    ord("0"): _pop,
    ord("1"): lambda machine: machine.pop_to_mark(),
    ord("2"): lambda machine: machine.push(machine.stack[-1]),
    ord("h"): _get_1,
    ord("j"): _get_4,
    ord("g"): lambda machine: machine.push(machine.memo[int(machine.line())]),
    ord("q"): _put_1,
    ord("r"): _put_4,
    ord("p"): _put_line,
    0x94: _memoize,
    ord("c"): _global,
    0x93: _stack_global,
    0x82: _extension(1),
    0x83: _extension(2),
    0x84: _extension(4),
    ord("R"): _call,
    0x81: _call,
    0x92: _call_with_keywords,
    ord("i"): _instance,
    ord("o"): _object,
    ord("b"): _build,
    ord("P"): lambda machine: machine.push(machine.resolve(machine.line().decode("ascii"))),
    ord("Q"): lambda machine: machine.push(machine.resolve(machine.pop())),
    0x80: _protocol,
    # How far to read ahead; the whole stream is here already.
    0x95: lambda machine: machine.take(8),
    0x97: _out_of_band,
    0x98: _out_of_band,
}
"""Opcode and what it does to the machine. STOP, which ends the stream, is the reader's."""
