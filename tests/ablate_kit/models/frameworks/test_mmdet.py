"""What the adapter for MMDetection says before MMDetection comes in (tests/ablate_kit/mmdet)."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.mmdet import MMDetection
from ablate_kit.models.opening.open import open_adapter

Write = Callable[..., Path]


def refused(path: Path, model: str | None, trust: bool = False) -> str:
    with open_checkpoint(path) as checkpoint, pytest.raises(UserError) as error:
        open_adapter(checkpoint, model, trust_remote_code=trust)
    return str(error.value)


def test_a_configuration_is_a_program(mmdetection: Write, tmp_path: Path) -> None:
    path = mmdetection("detr")
    config = tmp_path / "config.py"
    config.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert f"{config} is a program, which MMEngine runs" in refused(path, f"mmdet:{config}")
    assert f"the configuration in {path}, which is of MMDetection, is a program" in refused(
        path, "mmdet"
    )
    assert not (tmp_path / "ran").exists()


def test_what_is_missing_is_said(mmdetection: Write, tmp_path: Path) -> None:
    path = mmdetection("detr")
    assert "no such configuration" in refused(path, "mmdet:none.py", trust=True)

    def no_config(content: dict[str, Any]) -> None:
        del content["meta"]["cfg"]

    bare = mmdetection("deformable", no_config)
    assert "carries no configuration; give --model mmdet:CONFIG.py" in refused(bare, "mmdet", True)


def test_a_file_of_mmdetection_is_recognized(mmdetection: Write) -> None:
    message = refused(mmdetection("detr"), None)
    assert "which is of MMDetection, is a program" in message
    assert "or give --model mmdet:CONFIG.py" in message
    assert message.endswith("converting (ablate convert --to transformers) need no such trust")


def test_what_cannot_be_converted_is_not_sent_there(mmdetection: Write) -> None:
    def two_stages(content: dict[str, Any]) -> None:
        content["meta"]["cfg"]["model"]["type"] = "FasterRCNN"

    message = refused(mmdetection("detr", two_stages), None)
    assert "add --trust-remote-code to run it, or give --model mmdet:CONFIG.py" in message
    assert "cannot be converted (cannot carry a FasterRCNN over to transformers)" in message
    bare = mmdetection("detr", lambda content: content["meta"].pop("cfg"))
    said = refused(bare, f"mmdet:{__file__}")
    assert "cannot be converted (it carries no configuration that can be read)" in said


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import mmcv_that_is_not_there", "need mmcv_that_is_not_there; install mmdet 3.3.0"),
        ("raise AssertionError('MMCV==2.2.0 is used but incompatible.')",
         "does not work here (MMCV==2.2.0 is used but incompatible.); install mmdet 3.3.0"),
        ("import numpy; numpy.float",
         "does not work here (module 'numpy' has no attribute 'float'"),
        ("raise ImportError('undefined symbol: _ZN3c10\\nlinker')",
         "does not work here (undefined symbol: _ZN3c10 linker)"),
    ],
)  # fmt: skip
def test_parts_that_clash_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    (tmp_path / "mmdet").mkdir()
    (tmp_path / "mmdet" / "__init__.py").write_text(code + "\n")
    for name in [one for one in sys.modules if one.partition(".")[0] == "mmdet"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as told:
        MMDetection()
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_absence_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmdet", None)
    with pytest.raises(UserError, match=r"MMDetection models need mmdet; install mmdet 3\.3"):
        MMDetection()
