"""``hf:OWNER/NAME[/FILE][@REVISION]``: a repository of the Hugging Face hub, or one file of its top
folder, in place of a path.

What was downloaded before is used without a word to the hub, which alone is asked where downloading
was allowed. A revision is looked up once and kept, so that a name goes on to mean the same files.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate_kit import text as safe
from ablate_kit.checkpoints.formats.shards import WEIGHT_FILES, is_index, read_index
from ablate_kit.checkpoints.told import tell
from ablate_kit.errors import CheckpointError, UserError
from ablate_kit.plural import counted
from detector.disk.atomic import new_text
from detector.extras import missing

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

PREFIX = "hf:"
SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")
_WORDS = (  # how texts are read, by those that read any
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "vocab.txt", "vocab.json", "merges.txt",
)  # fmt: skip

# The hub's own rules; what fits them is no path to elsewhere.
_NAME = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(
    r"(?!.*(?:\.\.|//|/\.|\.lock))[A-Za-z0-9_](?:[A-Za-z0-9._/-]{0,98}[A-Za-z0-9_])?"
)
_FILE = re.compile(
    r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,94}\.(?:safetensors|pth|pt|bin|ckpt|pkl)"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")

_allowed = False
_found: dict[str, Path] = {}  # what was said once holds as long as the process


@dataclass(frozen=True)
class HubId:
    """A repository, a branch, tag or commit of it, and a file where not its usual weights are
    meant."""

    repository: str
    revision: str = ""
    file: str = ""

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        return f"{PREFIX}{self.repository}{file}{'@' if self.revision else ''}{self.revision}"

    @property
    def name(self) -> str:
        """Without its owner and a file's suffix, with a commit cut short."""
        short = self.revision[:12] if _COMMIT.fullmatch(self.revision) else self.revision
        file = f"-{Path(self.file).stem}" if self.file else ""
        return f"{self.repository.partition('/')[2]}{file}{'@' if short else ''}{short}"


def is_hub_id(path: str | Path) -> bool:
    return str(path).startswith(PREFIX)


def hub_id(path: str | Path) -> HubId:
    """Raises ``UserError`` for what names no repository."""
    place, at, revision = str(path).removeprefix(PREFIX).partition("@")
    owner, _, rest = place.partition("/")
    name, slash, file = rest.partition("/")
    good = _NAME.fullmatch(owner) and _NAME.fullmatch(name)
    if slash and not _FILE.fullmatch(file):
        good = None
    if not good or (at and not _REVISION.fullmatch(revision)):
        raise UserError(
            f'"{safe.line(str(path))[:120]}" names no repository of the hub; expected '
            "hf:OWNER/NAME, hf:OWNER/NAME@REVISION with a branch, tag or commit, or "
            "hf:OWNER/NAME/FILE.pth"
        )
    return HubId(f"{owner}/{name}", revision, file)


def allow_downloads(allowed: bool) -> None:
    """Whether what is not in the cache may be downloaded from here on."""
    global _allowed
    _allowed = allowed


@contextmanager
def downloads(*, allowed: bool) -> Iterator[None]:
    """Whether they are, within a block."""
    global _allowed
    before, _allowed = _allowed, allowed or _allowed
    try:
        yield
    finally:
        _allowed = before


def downloaded(path: Path) -> Path:
    """The folder in the cache that ``hf:OWNER/NAME`` stands for, or the file in it; of any other
    path itself.

    Raises ``UserError`` for a malformed name, and where files are missing that may or can not be
    downloaded.
    """
    if not is_hub_id(path):
        return path
    asked = hub_id(path)
    if str(asked) not in _found:
        _found[str(asked)] = _folder(asked)
    folder = _found[str(asked)]
    return folder / asked.file if asked.file else folder


def with_commit(path: str | Path) -> str:
    """The same with the commit that it stands for; of any other path itself."""
    if not is_hub_id(path):
        return str(path)
    asked = hub_id(path)
    found = downloaded(Path(path))
    return str(replace(asked, revision=(found.parent if asked.file else found).name))


def named_by_commit(path: Path) -> str:
    """A path of the cache as what this process found there: it means the same elsewhere, and the
    path does not. Of any other path itself."""
    for text, folder in _found.items():
        asked = hub_id(text)
        if path == (folder / asked.file if asked.file else folder):
            return str(replace(asked, revision=folder.name))
    return str(path)


def data_set_folder(path: Path) -> Path:
    """The folder in the cache of a repository of data that ``hf:OWNER/NAME`` names; any other path
    itself. Nothing is downloaded."""
    if not is_hub_id(path):
        return path
    asked = hub_id(path)
    if asked.file:
        raise UserError(f"{asked} is a file of weights; a data set is hf:OWNER/NAME[@REVISION]")
    with _client(asked) as library:
        place = _place(asked, library.constants.HF_HUB_CACHE, "datasets")
    folder = _revision(place, asked.revision)
    if folder is None or not folder.is_dir():
        at = f" --revision {asked.revision}" if asked.revision else ""
        raise UserError(
            f"{asked} is no data set in {place.parent}; fetch it: hf download {asked.repository} "
            f"--repo-type dataset{at}"
        )
    return folder


def download_code(folder: Path, names: Sequence[str]) -> None:
    """All Python files of the repository that a folder of the cache is of, if ``names`` are not
    there; call it where running them is allowed. Any other folder stays as it is."""
    asked = _id_of(folder)
    if asked is None or all((folder / name).exists() for name in names):
        return
    _refuse_unless_allowed(f"{asked}: its code ({', '.join(names)[:80]})")
    info = _listed(asked)
    code = [name for name in _files(info) if name.endswith(".py")]
    _download(asked, asked.revision, code)


def _id_of(folder: Path) -> HubId | None:
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    owner, _, name = repository.removeprefix("models--").partition("--")
    return HubId(f"{owner}/{name}", folder.name) if owner and name else None


def _folder(asked: HubId) -> Path:
    with _client(asked) as library:
        held = _revision(_place(asked, library.constants.HF_HUB_CACHE), asked.revision)
        if held and not _has_weights(held, asked.file):  # not downloaded whole
            held = None
    settled = held is not None and (
        bool(asked.file) or any((held / name).exists() for name in SETTINGS[1:])
    )
    if held and (settled or not _allowed):
        tell(f"{asked} is commit {held.name}, which was downloaded before: {held}")
        return held
    _refuse_unless_allowed(str(asked))
    exact = replace(asked, revision=held.name) if held else asked
    info = _listed(exact)
    wanted = _wanted(asked, info)
    folder = _download(exact, str(info.sha), wanted)
    if not _has_weights(folder, asked.file):
        raise UserError(f"{asked}: the download is not whole; give the command again")
    sizes = {one.rfilename: one.size or 0 for one in info.siblings or ()}
    size = sum(sizes[name] for name in wanted) / 1e6
    files = counted(len(wanted), "file")
    tell(f"{asked} is commit {folder.name}: {files}, {size:,.1f} MB, in {folder}")
    return folder


def _revision(place: Path, revision: str) -> Path | None:
    """Where a branch, tag or commit of a repository would be, if it was ever looked up."""
    commit = revision or "main"
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (place / "refs" / commit).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
    return place / "snapshots" / commit if _COMMIT.fullmatch(commit) else None


def _place(asked: HubId, cache: str, kind: str = "models") -> Path:
    """As the hub's library keeps a repository."""
    return Path(cache) / f"{kind}--{asked.repository.replace('/', '--')}"


def _has_weights(folder: Path, file: str) -> bool:
    if file:
        return (folder / file).is_file()
    found = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if found is None or not is_index(found):
        return found is not None
    try:
        return all(one.is_file() for one in read_index(found).shards)
    except CheckpointError:  # a shard that is missing, or what opening it will say
        return False


def _refuse_unless_allowed(what: str) -> None:
    if not _allowed:
        raise UserError(
            f"{what} was not downloaded before; add --allow-download to fetch it from the hub"
        )


def _listed(asked: HubId) -> "ModelInfo":
    with _client(asked) as library:
        found = library.HfApi().model_info(
            asked.repository, revision=asked.revision or None, files_metadata=True, timeout=30
        )
    if not _COMMIT.fullmatch(found.sha or ""):  # it names a folder of the cache
        raise UserError(f"{asked}: the hub answers with no commit")
    return found


def _files(info: "ModelInfo") -> list[str]:
    """Of the repository's top folder; those with a name that a pattern could mean otherwise are
    not asked for."""
    names = (one.rfilename for one in info.siblings or ())
    return [name for name in names if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name)]


def _wanted(asked: HubId, info: "ModelInfo") -> list[str]:
    """The settings, and the weights that would be opened in such a folder."""
    names = _files(info)
    if asked.file in names:
        return [asked.file]
    weights = next((name for name in WEIGHT_FILES if name in names), None)
    if weights is None or asked.file:
        others = ", ".join(names[:6]) or "no files"
        named = next((name for name in names if _FILE.fullmatch(name)), "")
        way = f"; name one, such as {replace(asked, file=named)}" if named else ""
        wanted = asked.file or " or ".join(WEIGHT_FILES[::2])
        raise UserError(f"{replace(asked, file='')} has no {wanted}; it has {others}{way}")
    chosen = [name for name in (*SETTINGS, *_WORDS) if name in names] + [weights]
    if is_index(Path(weights)):
        stem, suffix = weights.removesuffix(".index.json").rsplit(".", 1)
        chosen += [name for name in names if re.fullmatch(rf"{stem}-.+\.{suffix}", name)]
    return chosen


def _download(asked: HubId, commit: str, names: list[str]) -> Path:
    with _client(asked) as library:
        folder = library.snapshot_download(asked.repository, revision=commit, allow_patterns=names)
        if not _COMMIT.fullmatch(asked.revision):  # a branch or a tag, which is looked up once
            branch = asked.revision or "main"
            ref = _place(asked, library.constants.HF_HUB_CACHE) / "refs" / branch
            ref.parent.mkdir(parents=True, exist_ok=True)
            new_text(ref, commit, overwrite=True)
    return Path(folder)


@contextmanager
def _client(asked: HubId) -> Iterator[Any]:
    """The hub's library; whatever it raises as one line."""
    try:
        import huggingface_hub as library
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
            logging,
        )
    except ImportError:
        raise missing(str(asked), "huggingface_hub", "transformers") from None
    verbosity = logging.get_verbosity()
    quiet = not (sys.stderr and sys.stderr.isatty()) and not are_progress_bars_disabled()
    try:
        logging.set_verbosity_error()  # what it goes on without, such as a cache of listings
        if quiet:  # a log needs no bars
            disable_progress_bars()
        yield library
    except (UserError, MemoryError):
        raise
    # Any class: besides its own errors come those of the library that it speaks HTTP with.
    except Exception as error:
        raise UserError(f"{asked}: {_reason(asked, error)}") from error
    finally:
        logging.set_verbosity(verbosity)
        if quiet:
            enable_progress_bars()


def _reason(asked: HubId, error: Exception) -> str:
    from huggingface_hub import constants, errors

    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)  # type: ignore[arg-type]
    hub = constants.ENDPOINT

    def is_a(*classes: type[Exception]) -> bool:
        return any(isinstance(one, classes) for one in chain)

    if is_a(errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so that nothing is downloaded; unset it"
    if is_a(errors.GatedRepoError):
        return (
            f"access is granted to those who ask for it at {hub}/{asked.repository}; once it is, "
            "log in with hf auth login, or set HF_TOKEN"
        )
    if is_a(errors.RevisionNotFoundError):
        return f'the repository has no revision "{asked.revision or "main"}"'
    if is_a(errors.RepositoryNotFoundError):
        return f"{hub} has no such repository, or it is private (hf auth login, or HF_TOKEN)"
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"cannot use {error.filename}: {error.strerror}"
    first = next((line for one in chain[::-1] for line in str(one).splitlines() if line), "")
    return f"cannot download from {hub}: {first or type(error).__name__}"[:280]
