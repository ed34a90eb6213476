"""Modules that were pickled whole, as data: what ``state_dict()`` names of each, and what it is."""

from collections.abc import Iterator, Mapping
from typing import Any

from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject

_TABLES = ("_parameters", "_buffers", "_modules")


class SavedModule:
    """What a file says of one module, to be asked as the live one is: attributes and submodules."""

    def __init__(self, pickled: UnresolvedObject, state: Mapping[Any, Any]) -> None:
        self.class_name = class_name(pickled)
        self._state = state

    def __getattr__(self, name: str) -> Any:
        value = self._state.get(name)
        if value is None:
            value = self._state["_modules"].get(name)
        if value is None:
            raise AttributeError(name)
        state = state_of(value)
        return value if state is None else SavedModule(value, state)


def state_of(value: Any) -> Mapping[Any, Any] | None:
    """The attributes of a module that was pickled whole; None for what is none."""
    if not isinstance(value, UnresolvedObject):
        return None
    match value:
        case (
            UnresolvedObject(state=dict() as state) | UnresolvedObject(state=(dict() as state, _))
        ):  # __dict__, slots
            pass
        case UnresolvedObject(
            qualname="reduce_graph_module", args=(dict() as state, _)
        ):  # of torch.fx
            pass
        case UnresolvedObject(qualname="OptimizedModule", args=(inner, _)):  # torch.compile
            state = {"_parameters": {}, "_buffers": {}, "_modules": {"_orig_mod": inner}}
        case _:
            return None
    return state if all(isinstance(state.get(table), dict) for table in _TABLES) else None


def all_modules(module: Any) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The attributes of a module that was pickled whole and of all inside of it, each object once,
    by the names that ``named_modules()`` has for them."""
    waiting, seen = [("", module)], {id(module)}
    while waiting:
        name, one = waiting.pop()
        state = state_of(one)
        if state is None:
            continue
        yield name, state
        for key, child in reversed(state["_modules"].items()):
            if id(child) not in seen:
                seen.add(id(child))
                waiting.append((f"{name}.{key}" if name else str(key), child))


def is_module(value: Any) -> bool:
    """Is it a module that was pickled whole?"""
    return state_of(value) is not None


def entries_of(state: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """What ``state_dict()`` names of one module and enters, in its order, each as the file has it.

    A parameter or buffer is a ``TensorView``, or an ``UnresolvedObject`` where it is more than
    its bytes; None is left out, as are buffers that the module does not save.
    """
    transient = state.get("_non_persistent_buffers_set")
    if not isinstance(transient, set | frozenset):
        transient = frozenset()  # PyTorch before 1.6 saved all buffers
    for table in _TABLES:
        for name, value in state[table].items():
            if value is not None and not (table == "_buffers" and name in transient):
                yield name, value


def attributes_of(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """What a module's class set on it, and its submodules, without PyTorch's own tables."""
    own = {name: value for name, value in state.items() if not _is_machinery(name)}
    return own | {name: child for name, child in state["_modules"].items() if is_module(child)}


def _is_machinery(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    tables = name in _TABLES or name in ("training", "_non_persistent_buffers_set")
    return tables or (name[:1] == "_" and "hook" in name)


def class_name(pickled: UnresolvedObject) -> str:
    """``"module.Class"`` of an object."""
    match pickled:
        case UnresolvedObject(module="copyreg", args=(UnresolvedObject(args=None) as kind, *_)):
            return kind.name  # how protocols 0 and 1 spell an object
        case UnresolvedObject(qualname="reduce_graph_module"):
            return "torch.fx.graph_module.GraphModule"
    return pickled.name


def modules_above(tree: Mapping[Any, Any], path: tuple[str, ...]) -> list[SavedModule]:
    """The modules that the tensor at ``path`` lies in, innermost first; none if it is in none."""
    here: Any = tree
    for part in path[:-1] or ("",):
        here = here.get(part) if isinstance(here, dict) else None
    found: list[SavedModule] = []
    parts = path[-1].split(".")
    while (state := state_of(here)) is not None:
        found.append(SavedModule(here, state))
        here = state["_modules"].get(parts.pop(0)) if parts else None
    return found[::-1]
