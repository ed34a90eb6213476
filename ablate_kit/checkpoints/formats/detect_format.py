"""What a file seems to be, from its first bytes."""

from typing import Literal

Format = Literal["safetensors", "torch-zip", "torch-legacy", "numpy-pickle", "sharded"]

# torch's magic number as pickle protocols 2 to 5 write it; protocols 0 and 1 write it as text.
_LEGACY_TORCH = (
    b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
    b"L119547037146038801333356L\n.",
)
_SAFETENSORS_LENGTH = b"\0\0\0\0"  # the upper half of a header length below 4 GB

_STARTS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (Keras?)",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstandard archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file with git lfs pull",
    b"\xef\xbb\xbf": "a text file",
    b"<!": "a web page (a failed download?)",
    b"<html": "a web page (a failed download?)",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
}

_UNKNOWN = "no file format known here"

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


def looks_like(head: bytes) -> str:
    """Words for what a file that is no archive seems to be."""
    if not head.strip(b"\0"):
        return "a file of zeros" if head else "an empty file"
    for start, words in _STARTS.items():
        if head.lower().startswith(start.lower()):
            return words
    if head[257:262] == b"ustar":
        return "a tar archive (of torch before 0.2, perhaps)"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if head[:1] == b"\x08" and any(word in head for word in (b"onnx", b"pytorch", b"ONNX")):
        return "an ONNX model"
    if head[:1] in b"{[":
        return "a JSON file"
    return _UNKNOWN
