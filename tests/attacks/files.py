"""Files that try to be run, to be believed, or to use up a machine.

Beside each stands what has to become of it: a part of what ``watched.py`` tells.
"""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

MARK = "touch ablate_attack_ran"
LEGACY_HEAD = b"".join(
    pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
)


def zipped(path: Path, stream: bytes, storages: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a/data.pkl", stream)
        for key, data in (storages or {}).items():
            archive.writestr(f"a/data/{key}", data)
    return path


TENSOR = (  # {"w": a tensor of one element on storage "0"} and, under "x", what follows
    b"\x80\x02}(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
    b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00K\x01\x85K\x01"
    b"\x85\x89c"
    b"collections\nOrderedDict\n)RtRX\x01\x00\x00\x00x"
)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


# --- calls: shown, not made


CALLS = {
    "os_system": b"cos\nsystem\n(" + text(MARK) + b"tR",
    "posix_system": b"cposix\nsystem\n(" + text(MARK) + b"tR",
    "eval": b"cbuiltins\neval\n(" + text(f"__import__('os').system('{MARK}')") + b"tR",
    "python_2_names": b"c__builtin__\nexec\n(" + text(f"import os; os.system('{MARK}')") + b"tR",
    "instance_opcode": b"(" + text(MARK) + b"ios\nsystem\n",
    "object_opcode": b"(cos\nsystem\n" + text(MARK) + b"o",
    "new_with_keywords": b"csubprocess\nPopen\n(" + text(MARK) + b"t}("
    + text("shell") + b"\x88u\x92",
    "stack_global": text("os") + text("system") + b"\x93(" + text(MARK) + b"tR",
    "extension": b"\x82\x01(" + text(MARK) + b"tR",
    "import_chain": b"cbuiltins\ngetattr\n(cimportlib\nimport_module\n(" + text("os") + b"tR"
    + text("system") + b"tR(" + text(MARK) + b"tR",
    "dotted_name": text("os") + text("path.os.system") + b"\x93(" + text(MARK) + b"tR",
    "hub": b"ctorch.hub\nload\n(" + text("evil/repo") + text("model") + b"tR",
    "torch_load_inside": b"ctorch\nload\n(" + text("other.pth") + b"tR",
    "set_state": b"cargparse\nNamespace\n)R}(" + text("__class__") + b"cos\nsystem\nub",
    "state_of_a_function": b"cos\nsystem\n}(" + text("x") + b"K\x01ub",
    "rebuild_with_a_call": b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\ncos\nsystem\n("
    + text(MARK) + b"t}tR",
    "terminal_codes": b"c\x1b]0;owned\x07\nX\n)R",
}  # fmt: skip


CALL = b"\x80\x02cos\nsystem\n(" + text(MARK) + b"tR."
LEGACY = {
    "legacy_call": (CALL + pickle.dumps([], 2), "refused: "),  # it holds no tensor
    "legacy_keys": (pickle.dumps({}, 2) + CALL, "its list of storages is"),
}


# --- modules that were pickled whole


TABLES = ("_parameters", "_buffers", "_modules")


def tables(parameters: bytes = b"}", buffers: bytes = b"}", modules: bytes = b"}") -> bytes:
    given = zip(TABLES, (parameters, buffers, modules), strict=True)
    return b"}(" + b"".join(text(name) + value for name, value in given) + b"u"


def module(state: bytes, memo: bytes = b"") -> bytes:
    """Opcodes that push a module with this state; ``memo`` is what notes the module before."""
    return b"ctorch.nn.modules.module\nModule\n)\x81" + memo + state + b"b"


def holding(**modules: bytes) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in modules.items()) + b"u"


ONE = TENSOR[2:].removesuffix(text("x")) + b"u"  # a table of one tensor
ODD = (b"K\x01", b"N", b"K\x01K\x02\x86", b"C\x02\x1b[")  # keys: 1, None, (1, 2), b"\x1b["
LEAF = module(tables(ONE))
RUN = b"cos\nsystem\n(" + text(MARK) + b"tR"
CODE = text(f"def forward(self): __import__('os').system('{MARK}')")
OTHERS = b"}(" + text("a") + RUN + text("b") + ONE + text("c") + b"K\x01u"
ODD_NAMES = b"}(" + b"".join(key + LEAF for key in ODD) + b"u"
MODULES = {
    "in_itself": (module(tables(ONE, modules=holding(a=b"h\xf0")), b"q\xf0"), "opened 2: "),
    "in_itself_twice": (
        module(tables(ONE, modules=holding(a=b"h\xf0", b=b"h\xf0")), b"q\xf0"), "opened 2: "),
    "of_names_that_are_no_text": (module(tables(modules=ODD_NAMES)), "opened 5: "),
    "of_terminal_codes": (
        module(tables(modules=holding(**{"\x1b]0;owned\x07": LEAF}))), "opened 2: "),
    "of_names_that_collide": (
        module(tables(modules=holding(**{
            "a": module(tables(modules=holding(a=LEAF))), "a.a": LEAF}))), "two tensors named"),
    "deep": (
        (b"ctorch.nn.modules.module\nModule\n)\x81}(" + text("_parameters") + b"}"
         + text("_buffers") + b"}" + text("_modules") + b"}(" + text("a")) * 20_000 + b"N"
        + b"uub" * 20_000, "deeper than 500 levels"),
    "of_a_list": (module(tables(ONE, modules=b"](" + LEAF + b"e")), "opened 1: "),
    "of_a_call": (module(tables(ONE, modules=RUN)), "opened 1: "),
    "of_other_things": (module(tables(OTHERS, OTHERS, OTHERS)), "opened 1: "),
    "with_a_call_for_what_is_left_out": (
        module(tables(buffers=ONE)[:-1] + text("_non_persistent_buffers_set") + RUN + b"u"),
        "opened 2: "),
    "graph_with_code": (
        b"ctorch.fx.graph_module\nreduce_graph_module\n(" + tables(ONE)[:-1] + text("_code")
        + CODE + b"u" + CODE + b"tR", "opened 2: "),
    "compiled_by_a_call": (
        b"ctorch._dynamo.eval_frame\nOptimizedModule\n(" + RUN + RUN + b"tR", "opened 1: "),
    "compiled_with_a_call": (
        b"ctorch._dynamo.eval_frame\nOptimizedModule\n(" + LEAF + RUN + b"tR", "opened 2: "),
    "made_by_a_call": (RUN + tables(ONE) + b"b", "opened 2: "),
}  # fmt: skip


def doubled_modules() -> bytes:
    """Each module holds the one before it twice: 2**60 modules, and no tensor."""
    value = module(tables(), b"q\x80")
    for i in range(60):
        below = b"h" + bytes([128 + i])
        value += module(tables(modules=holding(a=below, b=below)), b"q" + bytes([129 + i]))
    return b"(" + value + b"l"


# --- memo and stack, memory and time


DOUBLED = b"".join(
    b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(100)
)
# The name of a module in the memo becomes another between its check and its use.
MEMO_AGAIN = text("collections") + b"q\x01" + text("os") + b"q\x010h\x01" + text("system") + b"\x93"
BESIDE_A_TENSOR = {
    **{f"call_{name}": (value, "opened 1: ") for name, value in CALLS.items()},
    **{f"module_{name}": given for name, given in MODULES.items()},
    "module_doubled": (doubled_modules(), "too many names"),
    "memo_unset": (b"h\xc8", "malformed"),
    "memo_again": (MEMO_AGAIN + b"(" + text(MARK) + b"tR\x86", "opened 1: "),
    "memo_huge": (text("a") + b"r\xff\xff\xff\xff", "opened 1: "),
    "doubled": (b"(]q\x00" + DOUBLED + b"l", "too many names"),
    "deep": (b"]" * 1_000_000 + b"a" * 999_999, "nested deeper than 64 levels"),
    "cycle": (b"}q\x05(" + text("me") + b"h\x05u", "opened 1: "),
    "digits": (b"\x8b" + struct.pack("<i", 8_000_000) + b"\x7f" * 8_000_000, "opened 1: "),
    "long_text": (b"\x8d" + struct.pack("<Q", 2**62) + b"abc", "malformed"),
    "digit_text": (b"I" + b"9" * 2_000_000 + b"\n", "malformed"),
}


def tensors_of_names_without_end() -> bytes:
    stream = TENSOR[: -len(text("x"))] + b"q\x00"
    for i in range(60):
        stream += text(f"k{i}") + b"}(" + text("a") + b"h" + bytes([i]) + text("b")
        stream += b"h" + bytes([i]) + b"uq" + bytes([i + 1])
    return stream + b"u."


def zip_of_overlaps() -> bytes:
    """All entries of the directory point at one record."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        for key in range(3):
            archive.writestr(f"a/data/{key}", bytes(64))
    content = bytearray(buffer.getvalue())
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content[at + 42 : at + 46] = bytes(4)
        at = content.find(b"PK\x01\x02", at + 4)
    return bytes(content)


# --- lies about storages and tensors


def crafted(numel: int = 4, offset: int = 0, size: Any = (4,), stride: Any = (1,)) -> bytes:
    import torch

    from tests.ablate_kit.crafted_pickles import Call, Pickler, ref

    buffer = io.BytesIO()
    rebuilt = torch._utils._rebuild_tensor_v2
    tensor = Call(rebuilt, ref(numel=numel), offset, size, stride, False, {})
    Pickler(buffer, 2).dump({"w": tensor})
    return buffer.getvalue()


LIES: dict[str, dict[str, Any]] = {
    "lie_more_elements_than_bytes": {"numel": 5, "size": (5,)},
    "lie_fewer_elements_than_bytes": {"numel": 2},
    "lie_offset_beyond": {"offset": 1},
    "lie_offset_negative": {"offset": -1},
    "lie_offset_huge": {"offset": 2**63},
    "lie_stride_beyond": {"stride": (2,)},
    "lie_stride_negative": {"offset": 3, "stride": (-1,)},
    "lie_size_huge": {"size": (2**40, 2**40), "stride": (0, 0)},
    "lie_size_overflowing_to_zero": {"size": (2**32, 2**32), "stride": (0, 0)},
    "lie_axes_missing": {"size": (2, 2)},
    "lie_numel_negative": {"numel": -4},
    "lie_numel_huge": {"numel": 2**62},
    # Four bytes that are shown as 2**40 elements: listed, and not to be read into memory.
    "expanded": {"size": (2**40,), "stride": (0,)},
}


# --- safetensors


ENTRY = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
HEADERS: dict[str, tuple[str, int | None]] = {
    "header_longer_than_the_file": ('{"a":' + ENTRY + "}", 10_000),
    "header_longer_than_memory": ('{"a":' + ENTRY + "}", 2**63),
    "duplicate_key": ('{"a":' + ENTRY + ',"a":' + ENTRY + "}", None),
    "duplicate_field": (
        '{"a":{"dtype":"F32","dtype":"I8","shape":[1],"data_offsets":[0,4]}}', None),
    "overlap": ('{"a":' + ENTRY + ',"b":' + ENTRY + "}", None),
    "gap": ('{"a":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}}', None),
    "backwards": ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', None),
    "shape_overflow": (
        '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}', None),
    "negative_shape": ('{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}', None),
    "number_of_many_digits": ('{"a":{"dtype":"F32","shape":[' + "9" * 9000 + "]}}", None),
    "nested": ('{"a":' + "[" * 200_000 + "]" * 200_000 + "}", None),
    "metadata_of_numbers": ('{"__metadata__":{"a":1},"a":' + ENTRY + "}", None),
}  # fmt: skip


# --- folders


TRICKS: dict[str, Any] = {
    "absolute": "/etc/passwd", "upwards": "../../secret", "device": "/dev/zero", "nul": "a\0b",
    "itself": "m.safetensors.index.json", "list": ["a"], "empty": "", "home": "~/x",
    "absent": "nowhere.safetensors",
}  # fmt: skip


def indexed(folder: Path, file: Any) -> None:
    folder.mkdir()
    index = json.dumps({"weight_map": {"a": file}})
    (folder / "m.safetensors.index.json").write_text(index)


def written(folder: Path) -> dict[str, str]:
    """Writes them all, and tells what has to become of each."""
    expected = {name: outcome for name, (_, outcome) in (BESIDE_A_TENSOR | LEGACY).items()}
    for name, (value, _) in BESIDE_A_TENSOR.items():
        zipped(folder / name, TENSOR + value + b"u.", {"0": bytes(4)})
    for name, (content, _) in LEGACY.items():
        (folder / name).write_bytes(LEGACY_HEAD + content)
    for name, changes in LIES.items():
        zipped(folder / name, crafted(**changes), {"0": bytes(16)})
    for name, (header, length) in HEADERS.items():
        start = struct.pack("<Q", len(header) if length is None else length)
        (folder / f"header_{name}").write_bytes(start + header.encode() + bytes(4))
    for name, file in TRICKS.items():
        indexed(folder / f"index_{name}", file)
    zipped(folder / "empty_stack", b"\x80\x02R.")
    zipped(folder / "named", tensors_of_names_without_end(), {"0": bytes(4)})
    (folder / "overlap").write_bytes(zip_of_overlaps())
    with zipfile.ZipFile(folder / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(100_000_000))
    indexed(folder / "link", "part")
    (folder / "link" / "part").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe")
    (folder / "zero").symlink_to("/dev/zero")
    refused = {path.name: "refused: " for path in folder.iterdir()}
    return refused | expected | {
        "empty_stack": "malformed",
        "bomb": "compressed records",
        "link": "which is no file of the folder",
        "pipe": "not a regular file",
        "zero": "not a regular file",
    }  # fmt: skip
