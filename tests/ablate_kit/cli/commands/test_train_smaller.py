"""Training that goes on from a smaller checkpoint takes its network from it."""

from pathlib import Path

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.frameworks.hybrid_adapter import config_and_names
from tests.ablate_kit.conftest import Run

RECIPE = """
model: {preset: init}
data: {kind: shapes, train: 4, val: 2}
training: {epochs: 1, batch_size: 2, lr: 0.001}
"""


def test_the_network_is_that_of_the_checkpoint(
    hybrid: Path, tmp_path: Path, run: Run, refuse: Run
) -> None:
    smaller, recipe, folder = (tmp_path / one for one in ("s.safetensors", "r.yaml", "run"))
    run("component", hybrid, "decoder.layers.1.ffn", "-o", tmp_path / "cut.safetensors")
    run("shrink", hybrid, "--drop", tmp_path / "cut.safetensors", "-o", smaller)
    recipe.write_text(RECIPE)
    assert "give --init" in refuse("train", recipe, "-o", folder)
    assert not folder.exists()
    run("train", recipe, "--init", smaller, "-o", folder)
    with open_checkpoint(smaller) as before, open_checkpoint(folder / "model.safetensors") as after:
        wanted = config_and_names(before)[0]
        assert config_and_names(after)[0] == wanted
        assert wanted.decoder_hidden == (64, 0, 64)
    # A run that is resumed has no --init to take it from, but a recipe of its own.
    told = run("train", recipe, "--resume", "--set", "training.epochs=2", "-o", folder)
    assert "epoch 2/2" in told
