"""A Hugging Face folder before transformers sees it: nothing in it may reach code or the hub.

A configuration can name code of the folder (``auto_map``), a model of the hub that the backbone is
taken from, or a kernel of the hub that attention runs on. All that is looked for first, and the hub
is out of reach while transformers works, so that what was not looked for cannot get there either.
"""

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablate_kit.checkpoints.formats.folder_contents import MERGE, weights_in
from ablate_kit.checkpoints.hub import download_code
from ablate_kit.device_errors import is_of_memory
from ablate_kit.errors import UserError
from ablate_kit.import_errors import broken_package
from ablate_kit.models.architectures.bundled import Architecture, bundled
from ablate_kit.models.frameworks.forward import LONGEST
from ablate_kit.plural import first_few
from detector.disk.bounded import SETTINGS, read_bounded

# What transformers reads beside the weights.
PREPARING = ("preprocessor_config.json", "processor_config.json")
FILES = ("config.json", *PREPARING, "tokenizer_config.json")
ATTENTION = ("attn_implementation", "experts_implementation")
# Keys of how many modules are made, one after the other and in lists, before any weight is read.
_COUNTS = re.compile(r".*(?:layers|depths?|blocks|levels|stages|repeats?|points)")
MOST_MODULES = 1000
LARGEST_LABEL = 100_000  # a class beyond would make tables as long, whatever the file's size


def check_folder(folder: Path, *, trusted: bool) -> None:
    """Refuses a folder that is not one, or asks for what is not in it, or for code untrusted."""
    files = {name: _read(folder / name) for name in FILES if (folder / name).exists()}
    if "config.json" not in files:
        held = weights_in(folder)
        told = f"; checkpoints in it: {first_few(held, 4)}" if held else ""
        raise UserError(f"{folder} is no Hugging Face folder: it has no config.json{told}")
    own = bundled(files["config.json"])
    code = sorted({one for values in files.values() for one in _code(values)})
    if own:
        code.remove(own.file)  # which is not run
    if code and not trusted:
        raise UserError(
            f"{folder} runs its own code ({first_few(code, 4)}); read it, then add "
            "--trust-remote-code to run it. Inspecting and cutting need no such trust"
        )
    download_code(folder, [one for one in code if "--" not in one])
    elsewhere = next((one for one in code if "--" in one), None)
    if elsewhere:
        raise UserError(
            f"{folder} runs code of another repository ({elsewhere}), and nothing is downloaded; "
            'copy that file into the folder, and leave out what is before "--" in auto_map'
        )
    for name, values in files.items():
        _check_auto_map(folder / name, values)
        _refuse_hub(folder / name, values)
    _check_labels(folder, files["config.json"])
    _check_counts(folder / "config.json", files["config.json"])
    if not any(name in files for name in PREPARING):
        raise UserError(
            f"{folder} has no preprocessor_config.json, which says how images are prepared; copy "
            "it from the model that this one was trained from (its image processor's "
            "save_pretrained writes it)"
        )


def refuse_adapter(folder: Path) -> None:
    """Refuses a model with an adapter beside it, with which transformers computes something else
    than the model's own weights do."""
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"{folder} has an adapter of PEFT (adapter_config.json), without which its weights are "
            f"another model; {MERGE}, or move the adapter's files away"
        )


def bundled_with(folder: Path) -> Architecture | None:
    """The architecture of this project that a folder is made of; None for all others."""
    return bundled(_read(folder / "config.json"))


def check_model_type(folder: Path, known: Mapping[str, Any], version: str) -> None:
    """Refuses a type of model that transformers does not know; for folders without code."""
    config = _read(folder / "config.json")
    for place, kind in model_types(config):
        if place and kind == "":  # what it is, the model's own class says
            continue
        if not isinstance(kind, str):
            raise UserError(
                f'{folder}/config.json has no "{place}model_type", so that it is not known what '
                f'the weights are of; expected one such as "{"resnet" if place else "detr"}"'
            )
        if kind not in known and place.rstrip(".") not in _of_one_class(known, config):
            # A program wrote it: what is alike is another model, unless it differs in marks alone.
            nearest = next((f'; is it "{one}"?' for one in known if _bare(one) == _bare(kind)), "")
            raise UserError(
                f'{folder}/config.json: {place}model_type is "{_cut(kind, 60)}", which '
                f"transformers {version} does not know{nearest or '; a newer one may'} (a model "
                "of your own: --model python:FILE.py:NAME, docs/your-own-detector.md)"
            )


def _of_one_class(known: Mapping[str, Any], config: Mapping[str, Any]) -> set[str]:
    """The keys whose class follows from that of the whole, whatever type they have, as OWL-ViT's
    text has one of its own."""
    kind = config.get("model_type", "")
    inner = getattr(known[kind], "sub_configs", {}) if kind in known else {}
    return {key for key, one in inner.items() if one.__name__ != "AutoConfig"}


def model_types(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The ``model_type`` of all that the library makes, and the beginning of the key under which a
    configuration has it; not of a model whose class is this project's."""
    if not bundled(config):
        yield "", config.get("model_type")
    for key, one in _entries(config):
        if _is_config(key, one):
            yield f"{key}.", one.get("model_type")


def _bare(kind: str) -> str:
    return re.sub(r"[^a-z0-9]", "", kind.lower())


@contextmanager
def without_hub() -> Iterator[None]:
    """The hub's client refuses every request, before it opens a connection."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def as_user_error(folder: Path, what: str) -> Iterator[None]:
    """Whatever transformers raises on a folder's files, as one line that says what is missing."""
    try:
        yield
    except UserError:
        raise
    # Any class: configurations are strangers', and the library tells their mistakes by whatever
    # they run into, from KeyError to ZeroDivisionError.
    except Exception as error:
        if is_of_memory(error):
            raise
        raise UserError(f"{folder}: {_reason(error, what, folder)}") from error


def _reason(error: Exception, what: str, folder: Path) -> str:
    from huggingface_hub import errors

    text = " ".join(str(error).split())
    lacking = r"requires the (\S+) library|Missing optional dependencies: (\w+)"
    if found := re.search(lacking, text):
        package = found[1] or found[2]
        if package == "timm":
            return "the backbone is one of timm, which is not installed; pip install timm"
        return f"{what} needs {package}, which is not installed; pip install {package}"
    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(one, errors.OfflineModeIsEnabled) for one in causes):
        found = re.search(r"https?://\S+", text)
        wanted = _cut(found[0].rstrip(":")) if found else "something"
        return (
            f"{what} wants {wanted} from the hub, and nothing is downloaded; put what that is "
            'into the folder (the config.json of a backbone as "backbone_config")'
        )
    if broken := broken_package(error, what):
        return broken
    if isinstance(error, KeyError) and error.args and folder.is_dir():
        entries = _entries(_read(folder / "config.json"))
        if key := next((key for key, value in entries if value == error.args[0]), None):
            return f"transformers does not know {_cut(key, 60)} {_cut(text, 60)} of config.json"
    return f"transformers cannot make {what}: {type(error).__name__}: {_cut(text)}"


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(read_bounded(path, SETTINGS))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not readable as JSON") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a JSON object")
    return values


def _entries(values: Any) -> Iterator[tuple[str, Any]]:
    """Every key and its value, at any depth."""
    pending = [values]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            yield from one.items()
            pending += one.values()
        elif isinstance(one, list):
            pending += one


def _is_config(key: str, value: Any) -> bool:
    return isinstance(value, dict) and (key == "backbone_config" or "model_type" in value)


def _texts(value: Any) -> list[str]:
    """All text in a value, at any depth, that of keys left out."""
    if isinstance(value, str):
        return [value]
    found, pending = [], [value]
    while pending:
        one = pending.pop()
        inner = list(one.values()) if isinstance(one, dict) else one
        if isinstance(inner, list):
            found += [each for each in inner if isinstance(each, str)]
            pending += inner
    return found


def _code(values: dict[str, Any]) -> Iterator[str]:
    """The files of code that ``auto_map`` names, of whatever shape it is."""
    for key, value in _entries(values):
        if key == "auto_map" and value:
            names = _texts(value)
            yield from (f"{_cut(one.rpartition('.')[0] or one, 60)}.py" for one in names)
            if not names:
                yield "auto_map"


def _check_auto_map(path: Path, values: dict[str, Any]) -> None:
    """Classes by name, each of a file of the folder; some have two, one of them none."""
    for key, value in _entries(values):
        if key != "auto_map":
            continue
        given = list(value.values()) if isinstance(value, dict) else [0]
        given += [each for one in given if isinstance(one, list) for each in one]
        if not all(one is None or isinstance(one, list) or _is_class(one) for one in given):
            raise UserError(f'{path}: auto_map is not {{"AutoClass": "file.Class", ...}}')


def _is_class(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"\w+\.\w+", name) is not None


def _refuse_hub(path: Path, values: dict[str, Any]) -> None:
    for key, value in _entries(values):
        if key == "backbone" and isinstance(value, str) and re.search(r"[/\\:]", value):
            raise UserError(
                f'{path} takes its backbone from "{_cut(value, 60)}", which is not in the folder, '
                "and nothing is downloaded; put that model's own config.json in as "
                '"backbone_config" in place of "backbone"'
            )
        if key.strip("_").removesuffix("_internal") in ATTENTION:
            for name in _texts(value):
                if not _is_built_in(name):
                    raise UserError(
                        f'{path} asks for {key} "{_cut(name, 60)}", code that is not installed '
                        f'here, and nothing is downloaded; leave {key} out, or say "eager" or '
                        '"sdpa", which compute the same'
                    )


def _is_built_in(name: str) -> bool:
    """Without flash-attn, transformers takes flash attention from the hub."""
    if "flash" in name:
        return name == "flash_attention_2" and importlib.util.find_spec("flash_attn") is not None
    return re.search(r"[/\\:|@]", name) is None


def _check_labels(folder: Path, config: dict[str, Any]) -> None:
    labels = config.get("id2label")
    if labels is None:
        return
    right = isinstance(labels, dict) and labels and all(
        re.fullmatch(r"\d{1,20}", number) and isinstance(name, str)
        for number, name in labels.items()
    )  # fmt: skip
    if not right:
        raise UserError(
            f'{folder}/config.json: id2label is not classes by number; expected {{"0": "cat", ...}}'
        )
    largest = max(map(int, labels))
    if largest >= LARGEST_LABEL:
        raise UserError(
            f"{folder}/config.json: id2label has a class {largest}; expected numbers below "
            f"{LARGEST_LABEL:,}"
        )


def _check_counts(path: Path, config: dict[str, Any]) -> None:
    for key, value in _entries(config):
        if not _COUNTS.fullmatch(key):
            continue
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int) and one > MOST_MODULES:
                raise UserError(f"{path}: {key} is {one:,}; expected at most {MOST_MODULES:,}")


def _cut(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."
