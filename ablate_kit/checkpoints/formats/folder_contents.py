"""What a folder is that holds no weights under the usual names, and the way to those it has."""

import re
from collections.abc import Collection
from pathlib import Path

from ablate_kit.checkpoints.formats.detect_format import ELSEWHERE
from ablate_kit.checkpoints.pickle.unresolved import show
from ablate_kit.plural import first_few

_WEIGHTS = re.compile(r"(?i).+\.(?:safetensors|pth|pt|bin|ckpt|pkl|pth\.tar)")
_STATE = re.compile(r"optimizer|scheduler|scaler|random_states|training_args|_optim_states")
_SHARD = re.compile(r".+-\d{5}-of-\d{5}\.\w+")
_SHOWN = 4


def folder_words(folder: Path, files: Collection[str]) -> str:
    """In a few words what lies in ``folder``, whose plain files these are."""
    if any(name.endswith(".distcp") for name in files):
        return (
            "it is of torch.distributed.checkpoint: python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder.name} FILE.pth makes "
            "one file of it"
        )
    if "latest" in files or "zero_to_fp32.py" in files:
        return (
            "it is of DeepSpeed: name mp_rank_00_model_states.pt in it, or of ZeRO 3 what python "
            "zero_to_fp32.py makes of it"
        )
    if "saved_model.pb" in files:
        return f"it is a SavedModel of TensorFlow{ELSEWHERE}"
    weights = sorted(name for name in files if _WEIGHTS.fullmatch(name) and not _STATE.search(name))
    shards = [name for name in weights if _SHARD.fullmatch(name)]
    if shards:
        return f"it holds {len(shards)} shards, such as {_listed(shards[:1])}, but no index of them"
    if weights:
        return f"name one of its files: {_listed(weights)}"
    return f"it holds {_listed(sorted(files))}" if files else "it holds no files"


def _listed(names: list[str]) -> str:
    return first_few([one if one.isprintable() else show(one, 60) for one in names], _SHOWN)
