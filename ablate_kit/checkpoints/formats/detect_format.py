"""What a file seems to be, from its first bytes."""

import re
from typing import Literal

Format = Literal["safetensors", "torch-zip", "torch-legacy", "numpy-pickle", "paddle", "sharded"]

# torch's magic number as pickle protocols 2 to 5 write it; protocols 0 and 1 write it as text.
_LEGACY_TORCH = (
    b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
    b"L119547037146038801333356L\n.",
)
_SAFETENSORS_LENGTH = b"\0\0\0\0"  # the upper half of a header length below 4 GB

# What holds for a model that PyTorch does not run.
EXPORTED = "; give the PyTorch checkpoint that it is of, or files of its detections to ablate score"
ELSEWHERE = "; of another framework's models ablate score compares files of detections"

DISTRIBUTED = ".distcp"
"""How a part of a checkpoint is called whose other parts lie beside it; each of its tensors is what
``torch.save`` writes."""

_STARTS = {
    b"\x89HDF\r\n\x1a\n": f"an HDF5 file (Keras?){ELSEWHERE}",
    b"\x93NUMPY": "a NumPy array",
    b"ftrt": f"a TensorRT engine{EXPORTED}",
    b"ptrt": f"a TensorRT engine{EXPORTED}",
    b"GGUF": f"a GGUF file{EXPORTED}",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"\xfd7zXZ\x00": "an xz archive; unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstandard archive; unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file with git lfs pull",
    b"\xef\xbb\xbf": "a text file",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a compiled program",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
}

# Of text, without blanks before it.
_TEXT_STARTS = {
    b'<?xml version="1.0"?>\n<net ': f"a model of OpenVINO{EXPORTED}",
    b"<?xml": "an XML document (a failed download?)",
    b"<!": "a web page (a failed download?)",
    b"<html": "a web page (a failed download?)",
    b"{": "a JSON file",
    b"[": "a JSON file",
}
# Where bytes do not tell.
_BY_NAME = {
    ".onnx": f"an ONNX model{EXPORTED}",
    ".onnx.data": f"the weights of an ONNX model{EXPORTED}",
    ".onnx_data": f"the weights of an ONNX model{EXPORTED}",
    ".h5": f"an HDF5 file (Keras?){ELSEWHERE}",
    ".keras": f"a model of Keras{ELSEWHERE}",
    ".pb": f"a TensorFlow graph{ELSEWHERE}",
    ".index": f"a checkpoint of TensorFlow{ELSEWHERE}",
    ".data-00000-of-00001": f"a checkpoint of TensorFlow{ELSEWHERE}",
    ".msgpack": f"a checkpoint of Flax{ELSEWHERE}",
    ".tflite": f"a TensorFlow Lite model{EXPORTED}",
    ".engine": f"a TensorRT engine{EXPORTED}",
    ".plan": f"a TensorRT engine{EXPORTED}",
    ".trt": f"a TensorRT engine{EXPORTED}",
    ".mlmodel": f"a Core ML model{EXPORTED}",
    ".pte": f"a program of ExecuTorch{EXPORTED}",
    "openvino_model.bin": f"the weights of a model of OpenVINO{EXPORTED}",
    ".ncnn.bin": f"the weights of an ncnn model{EXPORTED}",
    ".ncnn.param": f"an ncnn model{EXPORTED}",
    ".pdmodel": f"a program of Paddle{ELSEWHERE}",
    ".pdiparams": f"the weights of a program of Paddle{ELSEWHERE}",
    DISTRIBUTED: "a part of a checkpoint of torch.distributed.checkpoint; name its folder",
}

# A dictionary or an object of a class, as protocols 0 and 1 write it.
_OLD_PICKLE = re.compile(rb"\(dp?0?\n|}q\0|c[a-zA-Z_][\w.]*\n[a-zA-Z_][\w.]*\n[(qp]")

_UNKNOWN = "no file format known here"

_LEAST_TEXT, _SHOWN = 8, 40  # letters

HEAD = 512
"""How many bytes tell."""


def format_of(head: bytes) -> Format | None:
    """The format to read a file as, or None.

    ``head`` holds the file's first ``HEAD`` bytes, or all if it has fewer.
    """
    # First, because a header's length may look like another format's first bytes.
    if head[4:9] == _SAFETENSORS_LENGTH + b"{":
        return "safetensors"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "torch-zip"
    if any(magic in head[:40] for magic in _LEGACY_TORCH):
        return "torch-legacy"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "numpy-pickle"
    # A header of impossible length, which the format's reader explains.
    return "safetensors" if head[8:9] == b"{" and looks_like(head) == _UNKNOWN else None


def looks_like(head: bytes, name: str = "") -> str:
    """Words for what a file that is no archive seems to be."""
    if not head.strip(b"\0"):
        return "a file of zeros" if head else "an empty file"
    for start, words in _STARTS.items():
        if head.lower().startswith(start.lower()):
            return words
    if head[257:262] == b"ustar":
        return "a tar archive (of torch before 0.2, or to be unpacked first)"
    if head[4:8] == b"TFL3":
        return f"a TensorFlow Lite model{EXPORTED}"
    if head[:1] == b"\x08" and any(word in head for word in (b"onnx", b"pytorch", b"ONNX")):
        return f"an ONNX model{EXPORTED}"
    if _OLD_PICKLE.match(head):
        return "a pickle of protocol 0 or 1; load it, and write it with protocol 4 or torch.save"
    text = _text(head)
    for start, words in _TEXT_STARTS.items():
        if text.lower().encode().startswith(start):
            return words
    if named := named_like(name):
        return named
    first = next(iter(text.splitlines()), "")
    return f'a text that begins "{first[:_SHOWN]}"' if len(text) >= _LEAST_TEXT else _UNKNOWN


def named_like(name: str) -> str:
    """Words for what a file seems to be by its name; empty where that does not tell."""
    named = next((words for end, words in _BY_NAME.items() if name.lower().endswith(end)), "")
    what, semicolon, then = named.partition(";")
    return f"{what}, by its name{semicolon}{then}" if named else ""


def _text(head: bytes) -> str:
    """The text that a file begins with; empty where these are not letters."""
    try:
        text = head.decode("utf-8").strip()
    except UnicodeDecodeError:
        return ""  # also of a letter that is cut in two
    return text if all(c.isprintable() or c in "\r\n\t" for c in text) else ""
