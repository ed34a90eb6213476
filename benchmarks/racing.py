"""A race against the full run: image passes and verdicts, on a real detector.

    python benchmarks/racing.py --model FOLDER --annotations FILE --images FOLDER
                                [--heads 'model.decoder.layers.*.self_attn'] [--copies 10]
                                [--margin 0.01] [--out runs/racing] [--trust-remote-code]

First both on the images as they are; every verdict on a change of more than two margins is asserted
to be the same. Then, with ``--copies``, both on so many changed copies of every image (flipped and
cropped by lot), for passes, not for conclusions: copies tell of each other. Passes are counted, not
timed; seconds are printed beside them. DEIMv2-Atto and its 24 heads of self-attention on 206
photographs, and ten copies of each, take a quarter of an hour of two busy cores.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ablate_kit.metrics.raced_results import compare_raced
from ablate_kit.metrics.uncertainty.comparison import compare
from ablate_kit.sweeps import api
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.ledger import Ledger
from ablate_kit.sweeps.race import Look
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run import Progress


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--heads", nargs="+", default=["model.decoder.layers.*.self_attn"])
    parser.add_argument("--copies", type=int, default=0)
    parser.add_argument("--margin", type=float, default=0.01)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/racing"))
    options = parser.parse_args()
    _same_verdicts(options, options.annotations, options.images)
    if options.copies:
        place = options.out / "copies"
        annotations = copies(options.annotations, options.images, place, options.copies)
        _same_verdicts(options, annotations, place, f"-{options.copies}")


def _same_verdicts(
    options: argparse.Namespace, annotations: Path, images: Path, of: str = ""
) -> None:
    raced = _raced(options, annotations, images, f"race{of}")
    full, seconds = _run(options, annotations, images, f"full{of}", race=False)
    results = full.results()
    whole = compare(full.truth(), results, full.manifest().statistics).changes
    print(f"full run: {len(results) - 1} variants, {seconds:.0f} s")
    clear = differ = 0
    for one, change in zip(results[1:], whole, strict=True):
        known, stopped, outcome = change["AP"], *raced[one.name]
        assert known.verdict
        assert known.change is not None
        large = abs(known.change) > 2 * options.margin
        same = known.verdict.outcome == outcome
        clear += large
        differ += not same
        print(f"{one.name:44} {known.change:+.4f}  full {known.verdict.outcome:9}  race "
              f"{outcome:9} at {stopped}{'' if same else '  *'}")  # fmt: skip
        assert same or not large, one.name
    print(f"{clear} changes of more than two margins: the same verdicts; {differ} others differ",
          flush=True)  # fmt: skip


def _raced(
    options: argparse.Namespace, annotations: Path, images: Path, name: str
) -> dict[str, tuple[int, str]]:
    """By variant: after how many images it stopped, and with what verdict."""
    ledger, seconds = _run(options, annotations, images, name, race=True)
    results, race = ledger.results(), ledger.manifest().race
    assert race
    statistics = ledger.manifest().statistics
    found = compare_raced(ledger.truth(), results, race.looks, statistics).changes
    passes, most = sum(one.images for one in results), race.images[-1] * len(results)
    outcomes = [one["AP"].verdict.outcome for one in found if one["AP"].verdict]
    counts = {kind: outcomes.count(kind) for kind in sorted(set(outcomes))}
    print(f"{name}: {race.looks}; {counts}; {passes:,} passes instead of {most:,}, "
          f"{most / passes:.1f} times fewer; {seconds:.0f} s", flush=True)  # fmt: skip
    return {
        one.name: (one.images, outcome) for one, outcome in zip(results[1:], outcomes, strict=True)
    }


def _run(
    options: argparse.Namespace, annotations: Path, images: Path, name: str, *, race: bool
) -> tuple[Ledger, float]:
    recipe = SweepRecipe.model_validate(
        {
            "model": {"checkpoint": options.model},
            "data": {"kind": "coco", "annotations": str(annotations), "images": str(images),
                     **({"limit": options.limit} if options.limit else {})},
            "ablations": [{"kind": "heads", "pattern": one} for one in options.heads],
            "evaluation": {"margin": options.margin},
            "race": {} if race else None,
        }
    )  # fmt: skip
    start = time.perf_counter()

    def told(look: Look) -> None:
        stopped = [outcome for _, outcome in look.stopped]
        counts = {kind: stopped.count(kind) for kind in sorted(set(stopped))}
        print(f"  look at {look.images}: {counts}, {look.left} left", flush=True)

    placement = Placement(trust_remote_code=options.trust_remote_code)
    outcome = api.run(recipe, options.out / name, placement, progress=Progress(look=told))
    return outcome.ledger, time.perf_counter() - start


def copies(annotations: Path, images: Path, place: Path, count: int) -> Path:
    """Files of a data set of so many copies of every image, flipped and cropped by lot."""
    known = json.loads(annotations.read_text())
    place.mkdir(parents=True, exist_ok=True)
    of_image: dict[int, list[dict[str, Any]]] = {}
    for note in known["annotations"]:
        of_image.setdefault(note["image_id"], []).append(note)
    rng = np.random.default_rng(0)
    found: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for image in known["images"]:
        path = images / image["file_name"]
        if not path.exists():
            continue
        picture = Image.open(path).convert("RGB")
        for copy in range(count):
            number = len(found["images"]) + 1
            left, top, right, bottom = (
                (rng.uniform(0, 0.1, 4) * [*picture.size, *picture.size]).round().tolist()
            )
            width, height = picture.width - left - right, picture.height - top - bottom
            part = picture.crop((left, top, left + width, top + height))
            flipped = copy % 2 == 1
            name = f"{number:06d}.jpg"
            (ImageOps.mirror(part) if flipped else part).save(place / name, quality=95)
            found["images"].append(
                {"id": number, "file_name": name, "width": part.width, "height": part.height}
            )
            for note in of_image.get(image["id"], []):
                x, y, w, h = note["bbox"]
                x1, x2 = (float(np.clip(one - left, 0, width)) for one in (x, x + w))
                y1, y2 = (float(np.clip(one - top, 0, height)) for one in (y, y + h))
                if (x2 - x1) * (y2 - y1) < 0.3 * w * h:
                    continue
                x1, x2 = (width - x2, width - x1) if flipped else (x1, x2)
                found["annotations"].append({
                    "id": len(found["annotations"]) + 1, "image_id": number,
                    "category_id": note["category_id"], "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1), "iscrowd": note.get("iscrowd", 0),
                })  # fmt: skip
    path = place / "annotations.json"
    path.write_text(json.dumps({**found, "categories": known["categories"]}))
    return path


if __name__ == "__main__":
    main()
