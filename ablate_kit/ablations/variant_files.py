"""A variant as a checkpoint of its own, with a receipt that says what was done."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import check_fits, file_changes
from ablate_kit.ablations.receipt import CUT, Receipt, cut_settings, own_path, text_of, versions
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.digest import digest_of_archive
from ablate_kit.checkpoints.edit.patched_copy import Note, copy_folder_patched, write_patched
from ablate_kit.checkpoints.hub import named_by_commit
from ablate_kit.errors import UserError
from ablate_kit.file_names import files_in
from detector.disk.atomic import new_together
from detector.errors import check_can_write

Form = Literal["safetensors", "torch", "pickle", "folder"]
_TORCH = (".pth", ".pt", ".bin", ".ckpt", ".tar")  # what torch.load is given
_SAFETENSORS = (".safetensors",)
_SUFFIXES: dict[Form, str] = {
    "safetensors": ".safetensors",
    "torch": ".pth",
    "pickle": ".pkl",
    "folder": "",
}
PLACEHOLDER = "0" * 64  # where a digest is not known yet


def variant_paths(
    checkpoint: Checkpoint, ablations: Iterable[Ablation], output: Path
) -> dict[Path, Ablation]:
    """Where variants go in the folder ``output``: files like the checkpoint's, or folders.

    One alone may go to a file: ``output`` itself, where it has a checkpoint's suffix and is no
    folder. Raises ``UserError`` where two that differ have one name, or several one file.
    """
    by_name: dict[str, Ablation] = {}
    for one in ablations:
        if by_name.setdefault(one.name, one).digest != one.digest:
            raise UserError(f'two variants that differ are called "{one.name}"')
    if output.suffix in _TORCH + _SAFETENSORS and not output.is_dir():
        if len(by_name) == 1:
            return {output: next(iter(by_name.values()))}
        many = f"{len(by_name)} variants"
        raise UserError(f"{output} is named as a file, for {many}; give a folder")
    paths = files_in(output, list(by_name), _suffix(checkpoint))
    return dict(zip(paths, by_name.values(), strict=True))


def _suffix(checkpoint: Checkpoint) -> str:
    """Of copies: the original's, unless that says another format than the file has."""
    if checkpoint.folder:
        return ""
    suffix, form = checkpoint.path.suffix, _form(checkpoint)
    return _SUFFIXES[form] if _lies(form, suffix) else suffix


def _form(checkpoint: Checkpoint) -> Form:
    if checkpoint.folder:
        return "folder"
    forms: dict[str, Form] = {"safetensors": "safetensors", "numpy-pickle": "pickle"}
    return forms.get(checkpoint.archive.format, "torch")


def _lies(form: Form, suffix: str) -> bool:
    """Whether a file (or folder) of this form would be taken for another by its suffix."""
    return suffix in {"safetensors": _TORCH, "torch": _SAFETENSORS}.get(form, _TORCH + _SAFETENSORS)


def check_suffix(form: Form, destination: Path) -> None:
    """Raises ``UserError`` where the suffix of what is to be written says another format."""
    if _lies(form, destination.suffix):
        what = "a folder" if form == "folder" else f"a {form} file"
        end = _SUFFIXES[form] or "no suffix"
        raise UserError(
            f"{destination} would be {what}, as what it is made from; give a name with {end}"
        )


def check_free(checkpoint: Checkpoint, destinations: Mapping[Path, Ablation]) -> None:
    """Raises ``UserError`` where a destination or its receipt exists, where its suffix is that of
    another format, or an ablation does not fit the checkpoint."""
    for destination, ablation in destinations.items():
        check_suffix(_form(checkpoint), destination)
        for path in (destination, own_path(checkpoint, destination)):
            if path:
                check_can_write(path)
        check_fits(checkpoint, ablation)


def write_variants(
    checkpoint: Checkpoint, destinations: Mapping[Path, Ablation], *, together: bool = True
) -> None:
    """Writes one changed copy of the checkpoint per destination, with its receipt.

    A Hugging Face folder gives folders that load as it does. Raises ``UserError`` like
    ``check_free`` before anything is written. Where one cannot be written, those before it stay
    unless they belong ``together``: those appear when all are complete.
    """
    check_free(checkpoint, destinations)
    with ExitStack() as written, _base_digest(checkpoint) as base:
        places = {one: one for one in destinations}
        if together:
            pairs = [path for one in destinations for path in _pair(checkpoint, one)]
            places = written.enter_context(new_together(pairs))
        for destination, ablation in destinations.items():
            _write_variant(checkpoint, ablation, places[destination], base)


def _pair(checkpoint: Checkpoint, destination: Path) -> Iterator[Path]:
    """A copy, and before it the receipt that lies beside it; a folder holds its own."""
    receipt = own_path(checkpoint, destination)
    if receipt and not checkpoint.folder:
        yield receipt
    yield destination


def _write_variant(
    checkpoint: Checkpoint, ablation: Ablation, destination: Path, base: Callable[[], str]
) -> None:
    settings = cut_settings(ablation, ablation.selected(checkpoint.shapes))

    def note(output: str | None) -> str:
        receipt = Receipt(
            named_by_commit(checkpoint.path),
            base() if output else PLACEHOLDER,
            checkpoint.place,
            CUT,
            settings,
            output or PLACEHOLDER,
            versions(drawn=ablation.drawn),
        )
        return text_of(receipt)

    _copy(checkpoint, ablation, destination, note)


def _copy(checkpoint: Checkpoint, ablation: Ablation, destination: Path, note: Note) -> None:
    changes = file_changes(checkpoint, ablation)
    path = own_path(checkpoint, destination)
    if checkpoint.folder and path:
        copy_folder_patched(checkpoint, changes, destination, note=note, note_name=path.name)
    else:
        write_patched(checkpoint.archive, changes, destination, note=note, note_path=path)


@contextmanager
def _base_digest(checkpoint: Checkpoint) -> Iterator[Callable[[], str]]:
    """The digest of the original, made while the first copy is."""
    digests: list[str] = []
    failed: list[UserError] = []

    def work() -> None:
        try:
            digests.append(digest_of_archive(checkpoint.archive))
        except UserError as error:
            failed.append(error)

    def result() -> str:
        thread.join()
        if failed:
            raise failed[0]
        return digests[0]

    thread = Thread(target=work)  # not a pool: importing one takes longer than all else here
    thread.start()
    try:
        yield result
    finally:
        thread.join()


def recreate(checkpoint: Checkpoint, receipt: Receipt, destination: Path) -> None:
    """Writes the variant that the ``receipt`` of a cut tells of, bit for bit, with its own receipt.

    Raises ``UserError`` where ``checkpoint`` is not what it was made from, and where the copy
    comes out different, which is then removed.
    """
    ablation = receipt.ablation
    assert ablation is not None  # noqa: S101
    check_free(checkpoint, {destination: ablation})
    check_base(checkpoint, receipt)
    if ablation.selected(checkpoint.shapes) != receipt.settings["selected"]:
        raise UserError(
            f"other elements would be drawn than the receipt's; it was made by {receipt.made_by}"
        )
    _copy(checkpoint, ablation, destination, note_as_told(receipt))


def note_as_told(receipt: Receipt) -> Note:
    """The receipt again; raises ``UserError`` where the copy comes out with another digest."""

    def note(output: str | None) -> str:
        if output not in (None, receipt.output):
            raise UserError(
                f"the copy would have SHA-256 {output}, and the receipt says {receipt.output}; "
                f"it was made by {receipt.made_by}"
            )
        return text_of(receipt)

    return note


def check_base(checkpoint: Checkpoint, receipt: Receipt) -> None:
    """Raises ``UserError`` unless ``checkpoint`` is what the receipt's variant was made from."""
    found = digest_of_archive(checkpoint.archive)
    if found != receipt.base:
        raise UserError(
            f"{checkpoint.path} has SHA-256 {found[:12]}...; the receipt is for "
            f"{receipt.base[:12]}... ({receipt.base_path})"
        )
