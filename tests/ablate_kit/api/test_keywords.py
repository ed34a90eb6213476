"""Mistakes in Python are told by keywords, those of commands by options."""

import ast
import re
from pathlib import Path

import pytest

import ablate_kit as ak
from ablate_kit.api.keywords import FLAGS, KEYWORDS, in_python

ROOMS_OF_COMMANDS = (
    "ablate_kit/cli/", "ablate_kit/compat/", "ablate_kit/reports/", "ablate_kit/retraining/",
    "ablate_kit/shrinking/", "ablate_kit/models/bridge/", "ablate_kit/models/rewriting/",
    "ablate_kit/ablations/pretrained_parts.py", "ablate_kit/ablations/verify_receipt.py",
    "ablate_kit/models/frameworks/hybrid_detector/hybrid_init.py", "ablate_kit/sweeps/backends/",
    "detector/training/", "detector/data/conversion/", "detector/data/formats/voc_archives.py",
)  # fmt: skip
"""Whose messages nobody gets in Python."""

OF_COMMANDS = {
    "--cache-size", "--to", "--queries", "--read-limit", "--ray", "--threads", "--set",
    "--threshold", "--layers", "--log", "--repo-type", "--revision",
}  # fmt: skip
"""Beside them, within the name of a command or translated as a whole."""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("give --trust-remote-code to run it", "give trust_remote_code=True to run it"),
        ("give --model mmdet:CONFIG.py", 'give model="mmdet:CONFIG.py"'),
        ("--model libreyolo[:FAMILY[:SIZE]] knows", 'model="libreyolo[:FAMILY[:SIZE]]" knows'),
        ("--class-names FILE says", 'class_names="FILE" says'),
        ("give --margin 0.02", "give margin=0.02"),
        ("--weights chooses ema", "weights chooses ema"),
        ("with --budget '4,000 image passes' goes", 'with budget="4,000 image passes" goes'),
        ("(ablate knobs --queries says)", "(ablate knobs --queries says)"),
        ("(ablate convert --to transformers)", "(ablate convert --to transformers)"),
        ("; --set max_variants=7 allows", '; settings=["max_variants=7"] allows'),
        ('--set "data.limit=x": no', 'settings=["data.limit=x"]: no'),
        ('"ablate --read-limit 4GB ..." reads', "ABLATE_READ_LIMIT=4GB in the environment reads"),
    ],
)
def test_options_are_said_as_keywords(text: str, told: str) -> None:
    assert in_python(text) == told


def test_every_option_that_a_message_names_is_known(repository: Path) -> None:
    known = {*KEYWORDS, *FLAGS, *OF_COMMANDS}
    assert all((repository / room).exists() for room in ROOMS_OF_COMMANDS)
    files = [
        file for room in ("ablate_kit", "detector") for file in (repository / room).rglob("*.py")
    ]
    for file in files:
        name = file.relative_to(repository).as_posix()
        if name.startswith(ROOMS_OF_COMMANDS):
            continue
        tree = ast.parse(file.read_text())
        docs = {
            ast.get_docstring(one, clean=False)
            for one in ast.walk(tree)
            if isinstance(one, ast.Module | ast.ClassDef | ast.FunctionDef)
        }
        for one in ast.walk(tree):
            if (
                isinstance(one, ast.Constant)
                and isinstance(one.value, str)
                and one.value not in docs
            ):
                found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", one.value))
                assert found <= known, f"{name}:{one.lineno}"


def test_errors_and_warnings_name_keywords(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ak.UserError, match="allow_download=True"):
        ak.load("hf:owner/that-is-not-there")
    with pytest.raises(ak.UserError, match="allow_download=True"):
        ak.open_checkpoint("hf:owner/that-is-not-there")
    with pytest.raises(ak.UserError, match=r"expected .*model=|unknown model"):
        ak.load("builtin:shapes_tiny", model="nothing")
    with pytest.raises(ak.UserError, match=r'give model="mmdet:CONFIG\.py"'):
        ak.load("builtin:shapes_tiny", model="mmdet")
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(ak.UserError, match="class_names names the class numbers"):
        ak.score(tmp_path / "r.json", ak.shapes(limit=1), class_names=tmp_path / "r.json")
