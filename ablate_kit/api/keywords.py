"""What commands say of their options, said of the keywords that Python users have.

Messages are written where a mistake is found, which commands and Python share.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ablate_kit.errors import UserError

KEYWORDS = {
    "--annotations": "annotations", "--batch-size": "batch_size", "--boxes": "boxes",
    "--budget": "budget", "--class-names": "class_names", "--cluster": "cluster",
    "--device": "device", "--difficult": "difficult", "--exif": "exif", "--limit": "limit",
    "--margin": "margin", "--max-detections": "max_detections", "--model": "model",
    "--num-heads": "num_heads", "--num-levels": "num_levels",
    "--score-threshold": "score_threshold", "--weights": "weights", "--yolo-root": "root",
}  # fmt: skip
"""Of options that take a value."""

FLAGS = {
    "--allow-download": "allow_download=True",
    "--no-replay": "replay=False",
    "--skip-bad": "skip_bad=True",
    "--trust-remote-code": "trust_remote_code=True",
}

# "ablate knobs --queries" is a command, and stays one.
_COMMAND = re.compile(
    r"""["']?\bablate [a-z-]+(?: --?[a-z][^\s;,.)"']*(?: [A-Z\d][^\s;,.)"']*)?)+"""
)
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)(?:([ =])('[^']*'|[\w.:/\[\]]*[\w\]]))?")
_READ_LIMIT = re.compile(r'"ablate --read-limit (\S+) \.\.\."')
_SET = re.compile(r'--set "?((?<=")[^"]*(?=")|[\w.]+=[^\s;,)"]+)"?')
_WORDS = (
    "apply", "ignore", "keep", "xywh", "xyxy", "cpu", "cuda", "hybrid", "libreyolo", "mmdet",
    "transformers",
)  # fmt: skip
_VALUE = re.compile(rf"'.*|\d.*|[A-Z]+|\w+:.*|\w+\[.*|{'|'.join(_WORDS)}")


def in_python(text: str) -> str:
    """A message with keywords in place of options."""
    text = _READ_LIMIT.sub(r"ABLATE_READ_LIMIT=\1 in the environment", text)
    text = _SET.sub(r'settings=["\1"]', text)
    done, at = [], 0
    for command in _COMMAND.finditer(text):
        done += [_OPTION.sub(_keyword, text[at : command.start()]), command[0]]
        at = command.end()
    return "".join([*done, _OPTION.sub(_keyword, text[at:])])


@contextmanager
def by_keyword() -> Iterator[None]:
    """Around whatever Python users call: mistakes are told by keywords."""
    try:
        yield
    except UserError as error:
        error.args = (in_python(str(error)), *error.args[1:])
        raise


def _keyword(option: re.Match[str]) -> str:
    name, gap, word = option.groups()
    rest = f"{gap}{word}" if word else ""
    if name in FLAGS:
        return FLAGS[name] + rest
    if name not in KEYWORDS:
        return option[0]
    if not word or not _VALUE.fullmatch(word):
        return KEYWORDS[name] + rest
    is_number = word == "N" or word[0].isdigit()
    own = word.strip("'")
    return f"{KEYWORDS[name]}={word}" if is_number else f'{KEYWORDS[name]}="{own}"'
