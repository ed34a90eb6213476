"""``ablate queries``, ``levels``, ``points``, ``skip`` and ``mean``, as a user runs them."""

import re
from pathlib import Path

import pytest

from ablate_kit.ablations.receipt import made_by
from ablate_kit.checkpoints import open_checkpoint
from tests.ablate_kit.conftest import Run

ATTENTION = "decoder.layers.0.cross_attn"


@pytest.mark.parametrize(
    ("command", "written"),
    [
        (["queries", "--queries", "0,2-3"], ["query0,2-3-zero"]),
        (["queries", "--each"], [f"query{i}-zero" for i in range(12)]),
        (["levels", "neck.inputs", "--levels", "0,2"], ["neck.inputs.0", "neck.inputs.2"]),
        (["points", ATTENTION, "--points", "5", "--share", "lost"],
         [f"{ATTENTION}-level1-point1-lost"]),
        (["points", "decoder.layers.*.cross_attn", "--levels", "0", "--together"],
         ["decoder.layers.all.cross_attn-level0-renormalized"]),
        (["skip", "decoder.layers.{0-1}.ffn"],
         ["decoder.layers.0.ffn-skip", "decoder.layers.1.ffn-skip"]),
        (["mean", "decoder.layers.0.self_attn", "--heads", "1", "--shapes", "--limit", "2"],
         ["decoder.layers.0.self_attn-head1-mean"]),
        (["mean", "decoder.layers.0.ffn.fc1", "--channels", "0-9", "--shapes", "--limit", "2"],
         ["decoder.layers.0.ffn.fc1-channel0-9-mean"]),
    ],
    ids=lambda value: value[0] if isinstance(value[0], str) else "",
)  # fmt: skip
def test_each_command_writes_copies_that_verify(
    run: Run, hybrid: Path, tmp_path: Path, command: list[str], written: list[str]
) -> None:
    out = run(command[0], hybrid, *command[1:], "-o", tmp_path / "v")
    paths = [tmp_path / "v" / f"{name}.safetensors" for name in written]
    assert sorted(tmp_path.glob("v/*.safetensors")) == sorted(paths)
    assert len(out.splitlines()) == len(written)
    assert "original   ok" in run("verify", paths[0])
    with open_checkpoint(paths[0]) as made, open_checkpoint(hybrid) as original:
        ablation = made_by(made)
        changed = {name for name in made.tensors if not made.read(name).equal(original.read(name))}
    assert changed
    assert ablation
    assert changed <= {edit.tensor for edit in ablation.edits}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["queries"], "give one of --queries and --each"),
        (["queries", "--queries", "12"], "there is no query 12; queries.content has 12, 0 to 11"),
        (["levels", "neck.input"], 'did you mean "neck.inputs"'),
        (["levels", "neck.inputs", "--levels", "4"], "no weights for level 4"),
        (["points", ATTENTION, "--points", "0", "--levels", "0"], "one of --points and --levels"),
        (["points", ATTENTION, "--together"], "--together goes with --levels"),
        (["points", "decoder.layers.0.self_attn"], "is no deformable attention"),
        (["skip", "decoder.layers.0.refine1"], "refine1 is not a residual branch"),
        (["mean", ATTENTION, "--heads", "0"], "give one data set"),
        (["mean", ATTENTION, "--shapes"], "give one of --heads, --each and --channels"),
        (["mean", "neck.keep.0", "--channels", "0", "--shapes"], "has no bias that could hold"),
    ],
)
def test_mistakes_are_told(
    refuse: Run, hybrid: Path, tmp_path: Path, command: list[str], expected: str
) -> None:
    assert expected in refuse(command[0], hybrid, *command[1:], "-o", tmp_path / "v")
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    ("command", "short", "long"),
    [
        (["skip"], "**.ffn", "encoder.layers.0.ffn decoder.layers.*.ffn"),
        (["skip"], "decoder.**.self_attn", "decoder.layers.*.self_attn"),
        (["points"], "decoder.**", "decoder.layers.*.cross_attn"),
        (["heads", "--each"], "decoder.**", "decoder.layers.*.*_attn"),
        (["component"], "**.ffn", "*.layers.*.ffn"),
    ],
)
def test_patterns_across_levels_mean_the_same_everywhere(
    run: Run, hybrid: Path, tmp_path: Path, command: list[str], short: str, long: str
) -> None:
    name, *options = command
    found = [
        run(name, hybrid, *pattern.split(), *options, "--dry-run", "-o", tmp_path / "v")
        for pattern in (short, long)
    ]
    shown = [sorted(set(re.findall(r"[\w.]+\.(?:weight|bias)", one))) for one in found]
    assert shown[0] == shown[1] != []


def test_a_pattern_that_ends_across_levels_names_no_modules(
    refuse: Run, hybrid: Path, tmp_path: Path
) -> None:
    for pattern in ("**", "decoder.layers.**"):
        told = refuse("skip", hybrid, pattern, "-o", tmp_path / "v")
        assert f'which modules "{pattern}" names: end it with their own name' in told
