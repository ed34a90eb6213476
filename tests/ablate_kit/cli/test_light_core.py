"""What works where only the light core is installed, and what is named where that is not enough."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ablate_kit as ak
from ablate_kit.cli.app import COMMANDS, EXTRAS
from ablate_kit.sweeps.execution.recording_cache import RecordingCache
from detector import extras
from detector.zoo import SHAPES_TINY

# Nothing of an extra can be imported but of the one that is given, as if no other were installed.
PROGRAM = """
import sys
from detector.extras import EXTRAS

missing = {one for extra in EXTRAS.values() for one in extra}.difference(
    *(EXTRAS[one] for one in sys.argv[1:])
)

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
COMMAND = f"""{PROGRAM}
from ablate_kit.cli import main
for command in sys.stdin.read().splitlines():
    sys.argv = ["ablate", *command.split()]
    try:
        main()
    except SystemExit as stop:
        print(stop.code or 0, command, file=sys.stderr)
"""
# Modules by the name of the distribution that has them, where that is another.
MODULES = {"pillow": "PIL", "mlflow-skinny": "mlflow"}


def light(
    tmp_path: Path, program: str, commands: str = "", *extras: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *extras],
        input=commands, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip


def test_checkpoints_are_read_cut_compared_and_verified(tmp_path: Path) -> None:
    model = "builtin:shapes_tiny"
    cuts = (
        f"units {model} decoder.layers.*.ffn.fc2.weight --percent 10 -o units",
        f"heads {model} decoder.layers.*.self_attn --each -o heads",
        f"component {model} backbone.csi -o csi.safetensors",
        f"layers {model} --base decoder.layers --part cross_attn -o layers",
        f"queries {model} --queries 0,3 -o queries",
        f"points {model} decoder.layers.*.cross_attn -o points",
        f"skip {model} decoder.layers.*.ffn -o skip",
    )
    commands = (
        "--version",
        f"keys {model} --stats",
        f"meta {model}",
        f"diff {model} {model} --by values",
        *cuts,
        f"diff csi.safetensors {model} --by digests",
        "verify csi.safetensors",
        f"apply {model} csi.safetensors -o again.safetensors",
    )
    done = light(tmp_path, COMMAND, "\n".join(commands))
    expected = [f"{int('digests' in one)} {one}" for one in commands]
    assert re.findall(r"^\d .*", done.stderr, re.M) == expected, done.stderr
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "csi.safetensors"
    ).read_bytes()


def test_a_run_is_reported_and_exported_without_pytorch(tmp_path: Path) -> None:
    model = ak.load(SHAPES_TINY)
    cuts = [*model.modules("backbone.csi"), *model.heads("decoder.layers.1.self_attn")[:2]]
    ak.sweep(model, ak.shapes(limit=2), cuts, resamples=20, output=tmp_path / "run")
    RecordingCache(tmp_path / "cache").put(tmp_path / "cache/a/b-c.safetensors", b"")
    commands = [
        *("report --help", "report run", "report run --examples 0 --margin 0.2"),
        *("export run -o coco", "cache cache", "cache cache --clear", "schema", "schema sweep"),
    ]
    done = light(tmp_path, COMMAND, "\n".join(commands), "score")
    ended = re.findall(r"^\d .*", done.stderr, re.M)
    assert ended == [f"0 {one}" for one in commands], done.stderr
    assert "no photographs" not in done.stderr
    assert (tmp_path / "run/report/report.html").exists()


def test_what_is_missing_is_named_with_the_extra_of_the_command(tmp_path: Path) -> None:
    model = "builtin:shapes_tiny"
    given = ["a.json", "b.json", "data.yaml"]
    for name in given:
        (tmp_path / name).touch()
    commands = {
        f"eval {model} --shapes": "eval",
        f"sweep {model} --heads all --shapes -o out": "eval",
        "score a.json --annotations b.json -o out": "score",
        "schema": "score",
        "train builtin:shapes_tiny": "train",
        "data check --yolo data.yaml": "data",
        "demo -o out": "eval",
        f"dissect {model} units decoder.layers.0.ffn.fc2.weight --percent 5 -o out": "eval",
        f"swap {model} csi=off -o out.safetensors": "eval",
    }
    done = light(tmp_path, COMMAND, "\n".join(commands))
    told = [line for line in done.stderr.splitlines() if line.startswith("ablate: ")]
    assert len(told) == len(commands), done.stderr
    for line, (command, extra) in zip(told, commands.items(), strict=True):
        name = command.split()[0]
        package = rf'{name} needs \w+, which is not installed: pip install "ablate-kit'
        assert re.fullmatch(rf'ablate: {package}\[{extra}\]"', line), line
    assert re.findall(r"^2 (\w+)", done.stderr, re.M) == [one.split()[0] for one in commands]
    assert sorted(one.name for one in tmp_path.iterdir()) == given


def test_the_extra_that_runs_networks_is_enough_for_all_but_what_asks_for_more(
    tmp_path: Path, repository: Path
) -> None:
    """What a module imports at its top, all that import it need."""
    said = light(
        tmp_path,
        f"""{PROGRAM}
import importlib
from pathlib import Path

repository = Path({str(repository)!r})
for package in ("ablate_kit", "detector"):
    for file in sorted((repository / package).rglob("*.py")):
        if file.stem == "__main__":
            continue
        name = ".".join(file.relative_to(repository).with_suffix("").parts)
        try:
            importlib.import_module(name.removesuffix(".__init__"))
        except ModuleNotFoundError as error:
            print(error.name, name)
""",
        "",
        "eval",
    ).stdout
    modeling = ("modeling_deim", "modeling_dino_detr", "modeling_original_deimv2", "swin_backbone")
    assert sorted(said.splitlines()) == sorted(
        [
            "numba ablate_kit.metrics.uncertainty.compiled_ap",
            *(f"transformers ablate_kit.models.architectures.{one}" for one in modeling),
            *(f"{one} detector.loggers.{one}_logger" for one in ("mlflow", "tensorboard", "wandb")),
        ]
    )


def test_names_of_python_too(tmp_path: Path) -> None:
    said = light(
        tmp_path,
        f"""{PROGRAM}
import ablate_kit as ak
assert not ak.diff("{SHAPES_TINY}", "{SHAPES_TINY}").differs
with ak.open_checkpoint("{SHAPES_TINY}") as opened:
    assert opened.tensors
try:
    from ablate_kit import load
except ImportError as error:
    assert isinstance(error, ak.UserError)
    print(error)
""",
    ).stdout
    assert re.fullmatch(r'ablate_kit\.load needs \w+, .*: pip install "ablate-kit\[eval\]"\n', said)


def test_the_extras_bring_what_they_are_said_to_bring(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    declared = project["optional-dependencies"]

    def brought(extra: str) -> set[str]:
        found = set()
        for one in declared[extra]:
            itself = re.fullmatch(r"ablate-kit\[(.*)\]", one)
            name = re.split(r"[<>=~!;\[]", one)[0]
            found |= (
                set().union(*map(brought, itself[1].split(",")))
                if itself
                else {MODULES.get(name, name if name == "DCNv4" else name.lower())}
            )
        return found

    assert set(declared) == {*extras.EXTRAS, "all", "dev", "docs"}
    for extra, modules in extras.EXTRAS.items():
        assert brought(extra) == set(modules), extra
    compiled = brought("kernels") | brought("mmdet")
    everything = {one for modules in extras.EXTRAS.values() for one in modules}
    assert brought("all") == everything - (compiled - brought("eval"))
    page = (repository / "docs/install.md").read_text()
    assert all(re.search(rf"^\|.*`{extra}`.*\|.*\|", page, re.M) for extra in declared)
    assert set(EXTRAS) <= set(COMMANDS)
    assert set(EXTRAS.values()) <= set(extras.EXTRAS)


@pytest.mark.parametrize(
    ("module", "wanted", "extra"),
    [
        ("torch", None, "eval"),
        ("torch.nn", "train", "train"),
        ("scipy.stats", None, "score"),
        ("pyarrow", "eval", "parquet"),
        ("numpy", "eval", None),
        (None, "eval", None),
    ],
)
def test_the_smallest_extra_is_named(module: str, wanted: str | None, extra: str | None) -> None:
    assert extras.extra_of(module, wanted) == extra
