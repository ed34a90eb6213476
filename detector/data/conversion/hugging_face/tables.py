"""Tables of Parquet, as on the hub, and of Arrow, as ``datasets`` keeps them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from detector.disk.bounded import DOCUMENT, allowed, too_large
from detector.errors import UserError
from detector.extras import missing

SUFFIXES = (".parquet", ".arrow")


@dataclass(frozen=True)
class Row:
    """One image and what its row says."""

    where: str  # for messages
    values: dict[str, Any]  # of all other columns
    image: bytes  # the bytes of its file
    name: str  # of that file, without folders; "" where none is known


def table_rows(path: Path) -> Iterator[Row]:
    """Those of a table: images are a column."""
    with _readable(path):
        column = _image_column(path)
        at = 0
        for batch in _batches(path):
            images = batch.column(column)
            others = batch.drop_columns([column]).to_pylist()
            for image, values in zip(images, others, strict=True):
                where = f"{path}: row {at}"
                at += 1
                found = image.as_py()
                data = found.get("bytes") if isinstance(found, dict) else found
                if not isinstance(data, bytes):
                    raise UserError(
                        f"{where}: holds no image, at most where one lies; a folder of images with "
                        "metadata.jsonl, .parquet or .csv is read as it is"
                    )
                if len(data) > allowed(DOCUMENT):
                    raise too_large(where, allowed(DOCUMENT))
                name = found.get("path") if isinstance(found, dict) else None
                yield Row(where, values, data, PureWindowsPath(name or "").name)


def table_values(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each row is, and what it says beside images, which are not read."""
    with _readable(path):
        images = _image_columns(_schema(path))
        columns = [name for name in _schema(path).names if name not in images]
        at = 0
        for batch in _batches(path, columns):
            for values in batch.select(columns).to_pylist():
                yield f"{path}: row {at}", values
                at += 1


def notes(path: Path) -> bytes:
    """What ``datasets`` notes in a table on its columns, as JSON."""
    with _readable(path):
        found: bytes = (_schema(path).metadata or {}).get(b"huggingface", b"{}")
    return found


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Around whatever reads a table: PyArrow's errors, which are many, as one line."""
    try:
        from pyarrow import ArrowException
    except ImportError:
        raise missing(f"reading {path.name}", "pyarrow", "parquet") from None
    try:
        yield
    except (ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be read: {reason}") from None


def _batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Of one row each: a file of some kilobytes may give the same gigabyte to all.

    Args:
        columns: of Parquet no others are read.
    """
    import pyarrow
    import pyarrow.parquet

    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(1, columns=columns)
        return
    with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as stream:
        for batch in stream:
            batch.validate(full=True)  # else a damaged one ends the process where it is looked at
            for at in range(batch.num_rows):
                yield batch.slice(at, 1)


def _schema(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    if path.suffix == ".parquet":
        return pyarrow.parquet.read_schema(path)
    with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as stream:
        return stream.schema


def _image_column(path: Path) -> str:
    """The one column of bytes, or of bytes with a name; "image" where there are several."""
    schema = _schema(path)
    found = _image_columns(schema)
    if len(found) == 1 or "image" in found:
        return "image" if "image" in found else found[0]
    told = "several columns" if found else "no column"
    raise UserError(f"{path}: {told} of images; its columns are {', '.join(schema.names)}")


def _image_columns(schema: Any) -> list[str]:
    import pyarrow

    found = []
    for field in schema:
        kind = field.type
        if pyarrow.types.is_struct(kind):
            kind = next((part.type for part in kind if part.name == "bytes"), kind)
        if pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
            found.append(str(field.name))
    return found
