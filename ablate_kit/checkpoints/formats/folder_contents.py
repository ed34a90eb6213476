"""What a folder is that holds no weights under the usual names, and the way to those it has."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from ablate_kit.checkpoints.formats.detect_format import (
    DISTRIBUTED,
    ELSEWHERE,
    EXPORTED,
    named_like,
)
from ablate_kit.checkpoints.pickle.unresolved import show
from ablate_kit.plural import first_few
from detector.disk.visible import visible

_WEIGHTS = re.compile(r"(?i).+\.(?:safetensors|pth|pt|bin|ckpt|pkl|pth\.tar)")
_STATE = re.compile(
    r"optimizer|scheduler|scaler|random_states|rng_state|training_args|_optim_states"
)
_SHARD = re.compile(r".+-\d{5}-of-\d{5}\.\w+")
_OF_ONE_PROCESS = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")
_STEP = re.compile(r"checkpoint-(\d+)")
_SHOWN = 4

MERGE = "merge it into that model (merge_and_unload()), and save the whole (save_pretrained)"
"""How a model becomes one that needs no adapter."""


def holds_state(name: str) -> bool:
    """Whether a file of such a name is of an optimizer and the like, and holds no weights."""
    return _STATE.search(name) is not None


def folder_words(folder: Path, files: Collection[str]) -> str:
    """In a few words what lies in ``folder``, whose plain files these are."""
    if any(name.endswith(DISTRIBUTED) for name in files):
        return _distributed("it is", folder.name)
    if "adapter_config.json" in files:
        return f"it is an adapter of PEFT without the model that it changes: {MERGE}"
    if "latest" in files or "zero_to_fp32.py" in files:
        return _of_deepspeed(folder)
    if any(_OF_ONE_PROCESS.fullmatch(name) for name in files):
        return "it is of DeepSpeed's ZeRO 3: name what python zero_to_fp32.py, above it, makes"
    if split := _split_among_processes(folder):
        return _distributed(f"the weights in {split} are", f"{folder.name}/{split}")
    if "saved_model.pb" in files:
        return f"it is a SavedModel of TensorFlow{ELSEWHERE}"
    if "_CHECKPOINT_METADATA" in files:
        return f"it is a checkpoint of Orbax (JAX){ELSEWHERE}"
    if folder.suffix == ".mlpackage":
        return f"it is a Core ML model{EXPORTED}"
    weights = _weights(files)
    if programs := {Path(name).with_suffix(".bin").name for name in files if name.endswith(".xml")}:
        weights = [name for name in weights if name not in programs]
        if not weights:
            return f"it is a model of OpenVINO{EXPORTED}"
    shards = [name for name in weights if _SHARD.fullmatch(name)]
    if shards:
        return f"it holds {len(shards)} shards, such as {_listed(shards[:1])}, but no index of them"
    if weights:
        return f"name one of its files: {_listed(weights)}"
    for name in sorted(files):
        if words := named_like(name):
            return f"it holds {_listed([name])}, {words}"
    if folders := _folders_of_weights(folder):
        return f"name one of its folders: {_listed(folders)}"
    return f"it holds {_listed(sorted(files))}" if files else "it holds no files"


def weights_in(folder: Path) -> list[str]:
    """The files in it that hold weights, by their names."""
    return _weights(one.name for one in visible(folder, "*"))


def _weights(files: Iterable[str]) -> list[str]:
    return sorted(
        name
        for name in files
        if _WEIGHTS.fullmatch(name) and not holds_state(name) and not named_like(name)
    )


def _of_deepspeed(folder: Path) -> str:
    whole = [*visible(folder, "*/mp_rank_00_model_states.pt")]
    if whole:
        steps = [[int(one) for one in re.findall(r"\d{1,18}", path.parent.name)] for path in whole]
        name = whole[steps.index(max(steps))].relative_to(folder).as_posix()
        return f"it is of DeepSpeed: name {_listed([name])} in it"
    if any(_OF_ONE_PROCESS.fullmatch(one.name) for one in visible(folder, "*/*.pt")):
        return "it is of DeepSpeed's ZeRO 3: name what python zero_to_fp32.py makes of it"
    return (
        "it is of DeepSpeed: name mp_rank_00_model_states.pt in it, or of ZeRO 3 what python "
        "zero_to_fp32.py makes of it"
    )


def _folders_of_weights(folder: Path) -> list[str]:
    """Those in it that hold weights, as the checkpoints of transformers' Trainer do, the latest of
    these first."""
    files = [one for one in visible(folder, "*/*") if _WEIGHTS.fullmatch(one.name)]
    names = dict.fromkeys(one.parent.name for one in files if not holds_state(one.name))
    return sorted(names, key=lambda name: -int(step[1]) if (step := _STEP.fullmatch(name)) else 0)


def _split_among_processes(folder: Path) -> str | None:
    """The folder in it, as accelerate's FSDP makes it, that holds a model's weights in parts."""
    inner = sorted(one for one in folder.iterdir() if one.is_dir() and not _STATE.match(one.name))
    return next((one.name for one in inner if any(one.glob(f"*{DISTRIBUTED}"))), None)


def _distributed(what: str, place: str) -> str:
    return (
        f"{what} of torch.distributed.checkpoint: python -m "
        f"torch.distributed.checkpoint.format_utils dcp_to_torch {place} FILE.pth makes one file "
        "of it"
    )


def _listed(names: list[str]) -> str:
    return first_few([one if one.isprintable() else show(one, 60) for one in names], _SHOWN)
