"""Names in a checkpoint do not choose where files are written."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ablate_kit.ablations.attention import select_attentions
from ablate_kit.ablations.kinds.heads import heads_each
from ablate_kit.ablations.variant_files import write_variants
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.sweeps.variants.variant_copies import plan_copies

Run = Callable[..., tuple[int, str, str]]
D, HEADS = 4, 2


def checkpoint(path: Path, modules: list[str]) -> Path:
    """Attention, deformable attention, layers, levels, queries and a feed-forward part, in each
    of ``modules``."""
    shapes = {
        "self_attn.in_proj_weight": (3 * D, D), "self_attn.in_proj_bias": (3 * D,),
        "self_attn.out_proj.weight": (D, D), "self_attn.out_proj.bias": (D,),
        "cross_attn.sampling_offsets.weight": (HEADS * 8, D),
        "cross_attn.sampling_offsets.bias": (HEADS * 8,),
        "cross_attn.attention_weights.weight": (HEADS * 4, D),
        "cross_attn.attention_weights.bias": (HEADS * 4,),
        "cross_attn.value_proj.weight": (D, D), "cross_attn.value_proj.bias": (D,),
        "cross_attn.output_proj.weight": (D, D), "cross_attn.output_proj.bias": (D,),
        "layers.0.part.weight": (D,), "layers.1.part.weight": (D,),
        "input_proj.0.weight": (D, D), "input_proj.1.weight": (D, D),
        "query_embed.weight": (3, D),
    }  # fmt: skip
    torch.save(
        {
            f"{module}.{name}": torch.ones(shape)
            for module in modules
            for name, shape in shapes.items()
        },
        path,
    )
    return path


def commands(module: str, other: str) -> list[list[str]]:
    points = ["points", f"{module}.cross_attn", "--num-heads", "2", "--num-levels", "2"]
    return [
        ["units", f"{module}.self_attn.out_proj.weight", "--percent", "50", "--repeats", "2"],
        ["heads", f"{module}.self_attn", "--each", "--num-heads", "2"],
        ["heads", f"{module}.self_attn", "--percent", "50", "--num-heads", "2"],
        ["skip", f"{module}.self_attn", f"{other}.self_attn"],
        points,
        [*points, "--levels", "0"],
        ["queries", "--pattern", f"{module}.query_embed.weight", "--each"],
        ["levels", f"{module}.input_proj"],
        ["layers", "--base", f"{module}.layers", "--part", "part"],
        ["dissect", "units", f"{module}.query_embed.weight", "--percent", "50"],
        ["dissect", "component", f"{module}.query_embed.weight"],
    ]


def check_folder(out: Path, written: list[Path]) -> None:
    """Each file is its own, directly in ``out``, under a name that every system takes."""
    found = sorted(out.iterdir()) if out.exists() else []
    assert all(path.is_file() for path in found)
    assert {path.parent for path in written} <= {out}
    assert set(written) <= set(found)
    assert len(found) == 2 * len(written)  # with their receipts
    folded = {unicodedata.normalize("NFKC", path.name.casefold()) for path in found}
    assert len(folded) == len(found)
    for path in found:
        assert len(path.name.encode()) <= 255
        assert path.name.isprintable()
        assert not path.name.startswith((".", "-"))


ANY = st.text(st.characters(exclude_categories=()), min_size=1, max_size=40)
PARTS = st.lists(
    st.sampled_from(["..", ".", "/", "\\", "a", "A", "CON", "\n", "\u2028", "\x1b[2J", "~", "é",
                     "x" * 90]),
    min_size=1, max_size=6,
).map("".join)  # fmt: skip
MODULE = st.one_of(ANY, PARTS).filter(
    # Those are patterns, and options.
    lambda name: not set(name) & set("*{}") and not name.startswith("-")
)


@settings(max_examples=12)
@given(MODULE, MODULE)
@example("../../x", "/x")
@example("a", "A")
@example("é", "e\u0301")
@example("con", "..")
def test_what_commands_write_stays_in_its_folder(run: Run, one: str, other: str) -> None:
    with TemporaryDirectory() as place:
        home = Path(place) / "a" / "b"
        home.mkdir(parents=True)
        path = checkpoint(home / "in.pth", list(dict.fromkeys([one, other])))
        for number, (command, *arguments) in enumerate(commands(one, other)):
            out = home / f"out{number}"
            code, said, error = run(command, path, *arguments, "--json", "-o", out)
            assert code == 0, error
            check_folder(out, [Path(row["path"]) for row in json.loads(said)])
        out = home / "sweep"
        with open_checkpoint(path) as opened:
            made = [
                head
                for module in {one, other}
                for head in heads_each(
                    select_attentions(f"{module}.self_attn", opened.tensors, "it", heads=HEADS)
                )
            ]
            copies = plan_copies(opened, made, out)
            write_variants(opened, copies.missing, together=False)
            assert len(copies.missing) == HEADS * len({one, other})
            check_folder(out, list(copies.missing))
            again = plan_copies(opened, made, out)
        assert (len(again.missing), len(again.there)) == (0, len(made))
        others = [p for p in Path(place).rglob("*") if p.is_file() and home not in p.parents]
        assert others == []


def test_no_name_reaches_a_folder_that_python_runs(run: Run, tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    (tmp_path / "work").mkdir()
    path = checkpoint(tmp_path / "work" / "in.pth", ["../../site-packages/x", f"{site}/y"])
    out = tmp_path / "work" / "out"
    for number, (command, *arguments) in enumerate(commands("../../site-packages/x", f"{site}/y")):
        code, _, error = run(command, path, *arguments, "-o", out / str(number))
        assert code == 0, error
    assert list(site.iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["site-packages", "work"]
