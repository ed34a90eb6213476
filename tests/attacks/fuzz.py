"""Valid files of every kind, damaged: each is read, or our own error says in one line why not.

``make fuzz`` runs it for some minutes: a part of the time through the command line, in children of
one process that has imported it already, the rest in this process. A case is drawn by (seed, kind,
number) alone, so that what is found can be made again; files that break something are kept.
"""

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ablate_kit.errors import UserError

HANG = 20.0  # seconds of the processor's time that nothing small may take
HERE = Path(__file__).resolve().parents[2]
IN_MEMORY = Path("/dev/shm")  # noqa: S108 (a folder with a name of its own is made there)
NUMBERS = (0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
WORDS = (b"-1", b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b"[[[[[[", b"\\ud800",
         b"99999999999999999999", b"../../x", b"\xff\xfe", b"\x00", b"\xe2\x80\xa8", b"Infinity",
         b"&x;", b"<!DOCTYPE a>", b"!!python/name:os.system", b"*a", b"&a", b"- - - -")  # fmt: skip


class HangError(BaseException):
    """Raised by the alarm; no ``except Exception`` stops it."""


def damaged(draws: random.Random, data: bytes) -> bytes:
    """Bytes set, inserted, taken out, doubled, moved; aimed at what is read, not at padding."""
    out = bytearray(data)
    for _ in range(draws.choice((1, 1, 1, 2, 5))):
        if not out:
            break
        at = draws.randrange(len(out))
        for _ in range(8):
            if out[at] not in b"Z\0":
                break
            at = draws.randrange(len(out))
        other = draws.randrange(len(out))
        match draws.choice(("set", "flip", "insert", "word", "remove", "copy", "number", "cut")):
            case "set":
                out[at] = draws.randrange(256)
            case "flip":
                out[at] ^= 1 << draws.randrange(8)
            case "insert":
                out[at:at] = draws.randbytes(draws.randint(1, 8))
            case "word":
                out[at : at + draws.randint(0, 8)] = draws.choice(WORDS)
            case "remove":
                del out[at : at + draws.randint(1, 16)]
            case "copy":
                length = draws.randint(1, 64)
                out[other : other + length] = out[at : at + length]
            case "number":
                out[at : at + 8] = struct.pack("<Q", draws.choice(NUMBERS))
            case "cut":
                del out[at:]
    return bytes(out)


# --- the files


def seeds(folder: Path) -> dict[str, bytes]:
    """One small valid file of every kind; what lies beside them is in ``folder``."""
    import numpy as np
    from PIL import Image

    found: dict[str, bytes] = _checkpoints(folder)
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in (1, 2)],
        "annotations": [
            {"id": 7, "image_id": 1, "category_id": 3, "bbox": [1.5, 2, 30, 20], "iscrowd": 0},
            {"id": 8, "image_id": 2, "category_id": 5, "bbox": [0, 0, 8, 9], "area": 72},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    }
    boxes = [
        {"image_id": i, "category_id": 3, "bbox": [1, 2, 29, 21], "score": 0.75} for i in (1, 2)
    ]
    (folder / "truth.json").write_text(json.dumps(truth))
    found["annotations"] = json.dumps(truth).encode()
    found["annotations.gz"] = gzip.compress(found["annotations"], mtime=0)
    found["detections"] = json.dumps(boxes).encode()
    found["lines"] = b"\n".join(json.dumps(box).encode() for box in boxes)
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays, image_ids=np.array([1, 2]), category_ids=np.array([3, 5]), image=np.array([0]),
        boxes=np.ones((1, 4)), scores=np.array([0.5]), labels=np.array([1]),
    )  # fmt: skip
    found["npz"] = arrays.getvalue()
    found["yolo"] = b"0 0.5 0.5 0.2 0.3 0.9\n1 0.1 0.1 0.05 0.06 0.2\n"
    found["devkit"] = b"1 0.9 1 2 30 21\n2 0.4 3 3 9 9\n"
    found["xml"] = (
        b"<annotation><filename>1.jpg</filename><size><width>64</width><height>48</height>"
        b"<depth>3</depth></size><object><name>cat</name><difficult>0</difficult><bndbox>"
        b"<xmin>2</xmin><ymin>3</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object></annotation>"
    )
    pixels = np.random.default_rng(1).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "DDS"):
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, kind)
        found[kind.lower()] = content.getvalue()
    found["sweep recipe"] = (HERE / "recipes/sweep/shapes_tiny.yaml").read_bytes()
    found["train recipe"] = (HERE / "recipes/train/shapes_tiny.yaml").read_bytes()
    return found


def _checkpoints(folder: Path) -> dict[str, bytes]:
    """Made in a child, so that children of this process need not carry torch."""
    made = folder / "made"
    made.mkdir()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            _make_checkpoints(made)
        os._exit(0)
    os.waitpid(child, 0)
    found = {path.name: path.read_bytes() for path in sorted(made.iterdir())}
    assert len(found) == 8, sorted(found)
    (folder / "shard").write_bytes(found["safetensors"])
    return found


def _make_checkpoints(made: Path) -> None:
    import torch
    from safetensors.torch import save_file

    weights = {"conv.weight": torch.arange(6.0).view(2, 3), "conv.bias": torch.zeros(2)}
    views = {"tied": weights["conv.weight"].t(), "wide": torch.ones(2).expand(3, 2)}
    config = 'model = dict(type="DETR", num_queries=3)'
    tree = {
        "model": {**weights, **views},
        "epoch": 3, "classes": ["a", "b"], "half": torch.ones(3).bfloat16(), "names": {"x", "y"},
        "meta": {"cfg": config, "dataset_meta": {"classes": ("a",)}},
    }  # fmt: skip
    torch.save(tree, made / "zip")
    torch.save(tree, made / "legacy", _use_new_zipfile_serialization=False)
    model = torch.nn.ModuleDict({"norm": torch.nn.BatchNorm1d(2)})
    model["attention"] = torch.nn.MultiheadAttention(2, 1)
    torch.save({"model": model, "ema": model, "train_args": {"names": {0: "a"}}}, made / "module")
    save_file(weights, made / "safetensors", {"format": "pt"})
    files = dict.fromkeys(weights, "shard")
    (made / "index").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    described = {"model_type": "detr", "id2label": {"0": "a", "1": "b"}, "d_model": 4}
    (made / "config").write_text(json.dumps(described))
    from ablate_kit.ablations.kinds.zeros import component
    from ablate_kit.ablations.receipt import read_receipt, text_of
    from ablate_kit.ablations.variant_files import write_variants
    from ablate_kit.checkpoints import open_checkpoint

    base = made.parent / "model.safetensors"
    save_file(weights, base, {"format": "pt"})
    with open_checkpoint(base) as opened:
        copy = made / "copy"
        write_variants(opened, {copy: component(["conv.weight"], "a")})
    (made / "receipt").write_text(text_of(read_receipt(copy)))


# --- what is done with them


def look(path: Path) -> None:
    from ablate_kit.ablations.receipt import receipt_of
    from ablate_kit.checkpoints import open_checkpoint, show
    from ablate_kit.checkpoints.compare import digest_of_tensor
    from ablate_kit.checkpoints.edit.elements import ElementPatch
    from ablate_kit.checkpoints.edit.patched_copy import copy_folder_patched, write_patched
    from ablate_kit.checkpoints.tied_copies import tied_copies
    from ablate_kit.reports.checkpoint_reports.metadata_outline import outline

    with open_checkpoint(path) as checkpoint:
        show([checkpoint.archive.metadata, checkpoint.unsupported, checkpoint.settings])
        list(outline(checkpoint.archive.metadata, 5))
        for name in checkpoint.tensors:
            checkpoint.modules_above(name)
            digest_of_tensor(checkpoint, name)
            checkpoint.sharing(name)
        tied_copies(checkpoint, checkpoint.tensors)
        with contextlib.suppress(UserError):
            receipt_of(checkpoint)
        tensors = checkpoint.tensors.values()
        changes = [ElementPatch(one.name, bytes(one.itemsize)) for one in tensors]
        with tempfile.TemporaryDirectory(dir=path.parent.parent) as place:
            if checkpoint.folder:
                copy_folder_patched(checkpoint, changes, Path(place, "written"))
            else:
                write_patched(checkpoint.archive, changes, Path(place, "written"))


def look_at_truth(path: Path) -> None:
    from detector.data.formats.instances import read_instances

    read_instances(path, with_files=True)


def look_at_receipt(path: Path) -> None:
    from ablate_kit.ablations.receipt import read_receipt

    read_receipt(path)


def look_at_config(path: Path) -> None:
    from ablate_kit.checkpoints import open_checkpoint

    open_checkpoint(path.parent).close()


def look_at_xml(path: Path) -> None:
    from detector.data.formats.voc_xml import (
        read_box,
        read_difficult,
        read_label,
        read_size,
        read_tree,
    )

    tree = read_tree(path)
    read_size(tree, path, path, "ignore")
    for one in tree.findall("object"):
        read_label(one, path)
        read_box(one, path)
        read_difficult(one, path)


def look_at_image(path: Path) -> None:
    from detector.data.image_files import decode

    decode(path)


def look_at_sweep(path: Path) -> None:
    from ablate_kit.sweeps.recipes.sweep_recipe import load_sweep

    load_sweep(path)


def look_at_training(path: Path) -> None:
    from detector.training.recipes.train_recipe import load_recipe

    load_recipe(path)


def look_at_detections(path: Path) -> None:
    from ablate_kit.metrics.detection_files import read_dump
    from ablate_kit.models.labels.annotations import read_annotations

    folder = next(one for one in path.parents if (one / "truth.json").is_file())
    against = read_annotations(folder / "truth.json")
    read_dump(path.parent if path.suffix == ".txt" else path, against)


# Of every kind: the name of the file, what is done in this process, and with the command line.
Look = Callable[[Path], None]
KINDS: dict[str, tuple[str, Look, tuple[str, ...]]] = {
    "zip": ("a.pth", look, ("keys", "meta", "component", "diff")),
    "legacy": ("a.pth", look, ("keys", "meta", "component", "diff")),
    "module": ("a.pt", look, ("keys", "meta", "component", "diff")),
    "safetensors": ("a.safetensors", look, ("keys", "meta", "component", "diff")),
    "copy": ("a.safetensors", look, ("verify", "meta", "keys")),
    "index": ("m.safetensors.index.json", look, ("keys", "component")),
    "config": ("config.json", look_at_config, ("keys .",)),
    "receipt": ("r.json", look_at_receipt, ("apply",)),
    "annotations": ("a.json", look_at_truth, ("truth", "check")),
    "annotations.gz": ("a.json.gz", look_at_truth, ("truth",)),
    "detections": ("d.json", look_at_detections, ("score",)),
    "lines": ("d.json", look_at_detections, ("score",)),
    "npz": ("d.npz", look_at_detections, ("score",)),
    "yolo": ("dump/1.txt", look_at_detections, ("score .",)),
    "devkit": ("dump/comp4_det_test_cat.txt", look_at_detections, ("score .",)),
    "xml": ("a.xml", look_at_xml, ()),
    "png": ("a.png", look_at_image, ()),
    "jpeg": ("a.jpg", look_at_image, ()),
    "bmp": ("a.bmp", look_at_image, ()),
    "tiff": ("a.tif", look_at_image, ()),
    "webp": ("a.webp", look_at_image, ()),
    "dds": ("a.jpg", look_at_image, ()),  # what decides is the content
    "sweep recipe": ("s.yaml", look_at_sweep, ("sweep",)),
    "train recipe": ("t.yaml", look_at_training, ()),
}


COMMANDS = {
    "component": "component {path} ** -o {out}{suffix}",
    "diff": "diff {base} {path} --by digests",
    "apply": "apply {base} {path} -o {out}.safetensors",
    "truth": "score {folder}/d.json --annotations {path}",
    "check": "data check --annotations {path} --images {folder}",
    "score": "score {path} --annotations {folder}/truth.json",
    "score .": "score {path.parent} --annotations {folder}/truth.json",
    "sweep": "sweep {path} -o {out} --dry-run",
    "keys .": "keys {path.parent}",
    **{name: f"{name} {{path}}" for name in ("keys", "meta", "verify")},
}


def words_of(command: str, path: Path, folder: Path) -> list[str]:
    """A command line for the damaged file ``path``."""
    of = {"path": path, "folder": folder, "base": folder / "model.safetensors",
          "out": folder / "out" / "copy", "suffix": path.suffix.removesuffix(".json")}  # fmt: skip
    return [word.format(**of) for word in COMMANDS[command].split()]


class Fuzz:
    """The runs and what came of them."""

    def __init__(self, seed: int, folder: Path, kept: Path) -> None:
        self.seed, self.folder, self.kept = seed, folder, kept
        self.seeds = seeds(folder)
        (folder / "d.json").write_bytes(self.seeds["detections"])
        self.found: Counter[str] = Counter()
        self.broken: list[str] = []
        self.peak = 0  # kilobytes of a command

    def case(self, way: str, kind: str, number: int) -> Path:
        """The damaged file."""
        draws = random.Random(f"{self.seed}/{way}/{kind}/{number}")
        path = self.folder / "case" / KINDS[kind][0]
        for name in ("case", "out"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        path.parent.mkdir(parents=True)
        if kind in ("index", "config"):
            shard = "shard" if kind == "index" else "model.safetensors"
            shutil.copyfile(self.folder / "shard", path.parent / shard)
        whole = self.seeds[kind]
        path.write_bytes(damaged(draws, whole) if number >= 0 else whole)
        return path

    def check_whole(self) -> None:
        """What is not damaged is read, or nothing is tested."""
        for kind, (_, read, commands) in KINDS.items():
            read(self.case("inside", kind, -1))
            for command in commands[:1]:
                path = self.case("outside", kind, -1)
                code, said = self.command(words_of(command, path, self.folder))
                assert code in (0, 1), (kind, command, said)

    def inside(self, kind: str, number: int) -> None:
        path = self.case("inside", kind, number)
        signal.setitimer(signal.ITIMER_VIRTUAL, HANG)
        try:
            KINDS[kind][1](path)
            self.found["read"] += 1
        except UserError as error:
            self.found["refused"] += 1
            if "\n" in str(error):
                self.note("lines", "inside", kind, number, path, str(error))
        except HangError:
            self.note("hangs", "inside", kind, number, path, "")
        except BaseException:
            self.note("tracebacks", "inside", kind, number, path, traceback.format_exc())
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def outside(self, kind: str, number: int) -> None:
        """In a child, as ``ablate`` is called."""
        commands = KINDS[kind][2]
        path = self.case("outside", kind, number)
        words = words_of(commands[number % len(commands)], path, self.folder)
        code, said = self.command(words)
        self.found[f"exit code {code}"] += 1
        if code == -signal.SIGVTALRM:
            self.note("hangs", "outside", kind, number, path, " ".join(words))
        elif "Traceback" in said or code not in (0, 1, 2):
            told = f"{' '.join(words)} -> {code}\n{said}"
            self.note("tracebacks", "outside", kind, number, path, told)
        elif code == 2 and len([line for line in said.splitlines() if line[:7] == "ablate:"]) != 1:
            self.note("lines", "outside", kind, number, path, f"{' '.join(words)}\n{said}")

    def command(self, words: list[str]) -> tuple[int, str]:
        """Exit code and output of ``ablate`` with ``words``."""
        log = self.folder / "log"
        child = os.fork()
        if child == 0:
            _become_command(words, log)
        _, status, usage = os.wait4(child, 0)
        self.peak = max(self.peak, usage.ru_maxrss)
        return os.waitstatus_to_exitcode(status), log.read_text(errors="replace")

    def note(self, what: str, way: str, kind: str, number: int, path: Path, told: str) -> None:
        self.found[what] += 1
        name = f"{self.seed}-{way}-{kind}-{number}".replace(" ", "_")
        if len(self.broken) < 40:
            self.kept.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, self.kept / name)
            (self.kept / f"{name}.txt").write_text(told, errors="replace")
            self.broken.append(f"{what}: {name}: {told.strip().splitlines()[-1:]}")


def _become_command(words: list[str], log: Path) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_VIRTUAL, 3 * HANG)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
    sys.argv = ["ablate", *words]
    code = 70
    try:
        from ablate_kit.cli.app import main

        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _numbered(kinds: list[str], count: int, end: float) -> Iterator[tuple[str, int]]:
    for number in range(count):
        if time.monotonic() > end:
            return
        yield kinds[number % len(kinds)], number // len(kinds)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=10**9, help="at most, in this process")
    parser.add_argument("--commands", type=int, default=1000)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    told = parser.parse_args()
    signal.signal(signal.SIGVTALRM, _hang)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as place:
        fuzz = Fuzz(told.seed, Path(place), told.keep)
        import ablate_kit.cli.app
        import ablate_kit.metrics.evaluate
        import ablate_kit.sweeps.recipes.sweep_recipe  # noqa: F401

        fuzz.check_whole()
        # Commands take much longer: up to half of the time is theirs.
        end = start + 60 * told.minutes
        with_commands = [kind for kind, (_, _, commands) in KINDS.items() if commands]
        outside = 0
        for kind, number in _numbered(with_commands, told.commands, start + 30 * told.minutes):
            fuzz.outside(kind, number)
            outside += 1
        inside = 0
        for kind, number in _numbered(list(KINDS), told.inputs, end):
            fuzz.inside(kind, number)
            inside += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = (
        f"seed {told.seed}: {inside:,} inputs of {len(KINDS)} kinds in process, "
        f"{outside:,} through the command line, {time.monotonic() - start:.0f} s",
        ", ".join(f"{name} {count:,}" for name, count in sorted(fuzz.found.items())),
        f"{fuzz.found['tracebacks']} tracebacks, {fuzz.found['hangs']} hangs, "
        f"{fuzz.found['lines']} errors of several lines; peak memory {peak / 1000:.0f} MB, "
        f"of a command {fuzz.peak / 1000:.0f} MB",
        *fuzz.broken,
    )
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return int(bool(fuzz.broken))


def _hang(*_: Any) -> None:
    raise HangError


if __name__ == "__main__":
    sys.exit(main())
