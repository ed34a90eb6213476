"""Hugging Face's detectors without units and queries: the smaller folder loads in the library."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate_kit.ablations.ablation import joined
from ablate_kit.ablations.attention import attentions, select_attentions
from ablate_kit.ablations.edits import Edit, Removed
from ablate_kit.ablations.kinds.means import with_parts
from ablate_kit.ablations.receipt import receipt_of
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.shrinking.smaller_checkpoint import Shrunk, recreate, shrink

from .conftest import at_means, cut, heads, hidden

transformers = pytest.importorskip("transformers")
Smaller = Callable[..., tuple[Path, Shrunk]]
Folders = Callable[[str], Path]
Chosen = Callable[[Path, str, list[int]], list[Edit]]
ARCHITECTURES = ("detr", "deformable_detr", "rt_detr_v2", "d_fine")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_units_of_all_layers_are_a_setting(name: str, folders: Folders, smaller: Smaller) -> None:
    folder = folders(name)
    edits = hidden(folder, "model.decoder.layers.", [1, 2, 40])
    written, done = smaller(folder, cut(edits))
    assert done.settings == {"decoder_ffn_dim": 61}
    before, after = (json.loads((one / "config.json").read_text()) for one in (folder, written))
    assert after == before | {"decoder_ffn_dim": 61}
    model = transformers.AutoModelForObjectDetection.from_pretrained(written)
    units = [m.out_features for n, m in model.named_modules() if _is_first(n)]
    assert units == [61, 61]


def _is_first(name: str) -> bool:
    return name.startswith("model.decoder.layers.") and name.endswith(("fc1", "mlp.layers.0"))


def test_queries_of_a_table(folders: Folders, smaller: Smaller) -> None:
    table = "model.query_position_embeddings.weight"
    _, done = smaller(folders("detr"), cut([], [Removed(table, (0, 9))]))
    assert done.settings == {"num_queries": 8}


REFUSED: dict[str, tuple[str, Chosen, str, list[int], bool, str]] = {
    "another number of units in each layer": (
        "detr", hidden, "model.decoder.layers.0", [1, 2, 40], False,
        "with decoder_ffn_dim 61, model.decoder.layers.1.* would have shape"),
    "heads whose width follows from their number": (
        "detr", heads, "model.decoder.layers.*.self_attn", [1], False,
        "would have 3 heads: this architecture makes a head as wide as the model over"),
    "heads that sample without a projection": (
        "d_fine", heads, "model.decoder.layers.0.encoder_attn", [0], True,
        "owns channels of the map"),
    "an attention whose code counts on its width": (
        "dab_detr", heads, "model.encoder.layers.0.self_attn", [0], True,
        "nothing is written: ShrunkDabDetr.* counts on a size that the smaller model does"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_code_cannot_hold_is_refused(case: str, folders: Folders, tmp_path: Path) -> None:
    name, chosen, part, numbers, with_code, message = REFUSED[case]
    edits = chosen(folders(name), part, numbers)
    with open_checkpoint(folders(name)) as opened, pytest.raises(UserError, match=message):
        shrink(opened, cut(edits), tmp_path / "smaller", with_code=with_code)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["detr", "deformable_detr"])
def test_heads_at_their_means(name: str, folders: Folders, smaller: Smaller) -> None:
    folder = folders(name)
    with open_checkpoint(folder) as opened:
        cuts = at_means(folder, "model.decoder.layers.*.self_attn", [0, 3])
        written, done = smaller(
            folder, joined(*(with_parts(one, opened) for one in cuts)), with_code=True
        )
    assert len(done.structures) == 2
    assert done.left_over == {}
    assert written.is_dir()


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("detr", "model.*.layers.*.*attn"),
        ("deformable_detr", "model.encoder.layers.0.self_attn"),
        ("rt_detr_v2", "model.decoder.layers.*.encoder_attn"),
        ("lw_detr", "model.**"),
        ("yolos", "vit.**"),
        ("rf_detr", "backbone.0.encoder.encoder.**"),
        ("rf_detr", "transformer.decoder.layers.*.cross_attn"),
    ],
)
def test_a_folder_with_code_has_any_number_of_heads_and_units_in_each_layer(
    name: str, pattern: str, folders: Folders, smaller: Smaller, tmp_path: Path
) -> None:
    folder = folders(name)
    chosen = [*heads(folder, pattern, [1, 2]), *hidden(folder, "model.decoder.layers.1", [3])]
    written, done = smaller(folder, cut(chosen), with_code=True)
    assert done.own_code
    assert "sizes of their own" in done.settings
    model = transformers.AutoModelForObjectDetection.from_pretrained(
        written, trust_remote_code=True
    )
    assert type(model).__name__.startswith("Shrunk")
    # Whose heads are counted module by module, and which can be made again from the receipt.
    with open_checkpoint(written) as opened:
        counts = {one.prefix: one.heads for one in attentions(opened.tensors, opened.settings)}
        smaller_ones = {one.prefix for one in select_attentions(pattern, opened.tensors, name)}
        receipt = receipt_of(opened)
    assert counts == {prefix: 2 if prefix in smaller_ones else 4 for prefix in counts}
    assert receipt is not None
    if name != "detr":  # which is enough, and takes less time
        return
    with open_checkpoint(folder) as opened:
        recreate(opened, receipt, tmp_path / "again")
    for file in ("model.safetensors", "config.json", "modeling_shrunk.py", "shrink.json"):
        assert (tmp_path / "again" / file).read_bytes() == (written / file).read_bytes()


def test_the_folder_keeps_what_else_is_in_it_and_has_a_receipt_of_its_own(
    folders: Folders, tmp_path: Path, smaller: Smaller
) -> None:
    import shutil

    folder = tmp_path / "original"
    shutil.copytree(folders("detr"), folder)
    (folder / "README.md").write_text("mine")
    (folder / "ablation.json").write_text("{}")  # of what it was made from
    written, _ = smaller(folder, cut(hidden(folder, "model.encoder.layers.", [0])))
    assert (written / "README.md").read_text() == "mine"
    assert (written / "preprocessor_config.json").exists()
    assert not (written / "ablation.json").exists()
    with open_checkpoint(written) as opened:
        receipt = receipt_of(opened)
    assert receipt is not None
    assert receipt.operation == "shrink"


def test_a_file_without_its_folder_is_refused(folders: Folders, tmp_path: Path) -> None:
    folder = folders("detr")
    file = folder / "model.safetensors"
    edits = hidden(folder, "model.decoder.layers.", [1])
    with open_checkpoint(file) as opened, pytest.raises(UserError, match="give the folder"):
        shrink(opened, cut(edits), tmp_path / "smaller", model=f"transformers:{folder}")


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng():
        yield
