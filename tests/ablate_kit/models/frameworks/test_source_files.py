"""Which files say what a model is."""

from pathlib import Path

import pytest

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.source_files import (
    check_configurations,
    configurations,
    python_files,
)
from ablate_kit.models.opening.framework_registry import FRAMEWORKS, check_model
from ablate_kit.sweeps.provenance.fingerprint import environment_of
from tests.ablate_kit.small_sweeps import sweep_recipe


def test_a_configuration_and_what_it_is_based_on(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    texts = {
        "base/data.py": "data_root = 'x'\n",
        "base/model.py": "model = dict(type='DETR')\n",
        "base/more.py": "_base_ = ['data.py', './missing.py', 'mmdet::detr/detr.py']\n",
        "new.py": "from mmengine.config import read_base\nwith read_base():\n"
        "    from .base.model import *\n    from .base.more import data_root\n",
        "old.py": "_base_ = 'new.py'\n",
        "loop.py": "_base_ = ['loop.py', 'broken.py']\n",
        "broken.py": "_base_ = (\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    found = configurations(tmp_path / "old.py")
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert names == ["old.py", "new.py", "base/model.py", "base/more.py", "base/data.py"]
    assert len(configurations(tmp_path / "loop.py")) == 2


def test_a_configuration_whose_base_is_missing_is_refused_unrun(tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    (tmp_path / "there.py").write_text("_base_ = 'mmdet::detr/detr.py'\n")
    for known in ("'there.py'", "['there.py', f'{root}/a.py']", "'mmdet::a.py'", "'a' + '.py'"):
        config.write_text(f"root = 'x'\n_base_ = {known}\n")
        check_configurations(config)
    for text in (
        "_base_ = ['there.py', '../none.py']",
        "from mmengine.config import read_base\nwith read_base():\n    from .none import *",
    ):
        config.write_text(text)
        with pytest.raises(UserError, match=r"config\.py is based on .*none\.py, which is not"):
            check_configurations(config)
        (tmp_path / "there.py").write_text("_base_ = 'config.py'\n")
        with pytest.raises(UserError, match=r"config\.py is based on"):
            check_model(f"mmdet:{tmp_path / 'there.py'}")
    with pytest.raises(UserError, match=r"none\.py: no such configuration"):
        check_model(f"mmdet:{tmp_path / 'none.py'}")


def test_a_folders_configuration_and_code(tmp_path: Path) -> None:
    for name in ("config.json", "modeling.py", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    found = FRAMEWORKS["transformers"].files(str(tmp_path))
    assert [path.name for path in found] == ["config.json", "modeling.py"]


def test_others_have_none(tmp_path: Path) -> None:
    for name, framework in FRAMEWORKS.items():
        assert framework.files("") == [], name
        assert framework.files(str(tmp_path / "none.py")) == [], name


def test_a_program_and_what_it_imports_from_beside(tmp_path: Path) -> None:
    texts = {
        "own.py": "import os, torch\nimport nets.head as head\ndef build():\n    import late\n",
        "nets/__init__.py": "",
        "nets/head.py": "from . import neck\nfrom .deep.block import Block\n",
        "nets/neck.py": "",
        "nets/other.py": "",
        "nets/deep/__init__.py": "from own import build\n",
        "nets/deep/block.py": "from nets import none\n",
        "late.py": "",
        "unused.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = [path.relative_to(tmp_path).as_posix() for path in python_files(tmp_path / "own.py")]
    assert found[0] == "own.py"
    assert set(found) == texts.keys() - {"nets/other.py", "unused.py"}


def test_a_sweep_tells_configurations_apart(hybrid: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    lines = [{"kind": "units", "pattern": "**", "percent": [1]}]
    recipe = sweep_recipe(hybrid, lines, framework=f"mmdet:{config}")
    found = []
    with open_checkpoint(hybrid) as checkpoint:
        for text in ("scale = (1333, 800)", "scale = (1000, 600)", "scale = (1333, 800)"):
            config.write_text(text)
            found.append(environment_of(recipe, checkpoint, "cpu"))
    assert found[0] == found[2]
    assert {key for key in found[0] if found[0][key] != found[1][key]} == {"configuration"}
