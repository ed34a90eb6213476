"""``ablate predict``: what a checkpoint sees on some images, as pictures and as COCO JSON."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from typer import Argument, Option

from ablate_kit.checkpoints.naming import names_of
from ablate_kit.cli.common_options import Device, output_to
from ablate_kit.cli.dataset_options import Orientation
from ablate_kit.cli.early import check_files, check_there
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.output import say, warn, write_json
from ablate_kit.errors import UserError
from ablate_kit.plural import counted
from ablate_kit.progress_bars import progress
from detector.errors import check_can_write

if TYPE_CHECKING:
    from ablate_kit.models.adapter import Adapter
    from ablate_kit.models.image_detections import ImageDetections
    from detector.data.dataset import Dataset, Pixels


_TOLD = 20  # images of which a line is printed


def predict(
    checkpoint: Annotated[Path, Argument(help="A file, or a Hugging Face folder.")],
    images: Annotated[list[Path] | None, Argument(help="Image files, or folders of them.")] = None,
    *,
    output: Annotated[Path, output_to("Folder to write.")],
    shapes: Annotated[
        bool, Option("--shapes", help="Built-in data in place of images: generated shapes.")
    ] = False,
    limit: Annotated[int | None, Option(help="Take only the first N images.", min=1)] = None,
    compare: Annotated[
        Path | None, Option(help="A variant, to be drawn beside the checkpoint.")
    ] = None,
    score: Annotated[float, Option(help="Draw boxes of at least this score.", min=0, max=1)] = 0.3,
    exif: Orientation = None,
    model: ModelOptions,
    device: Device = "cpu",
) -> None:
    """Detect objects on images: boxes drawn on them, and COCO JSON."""
    check_there(checkpoint, compare)
    if shapes == bool(images):
        raise UserError("give images, or --shapes")
    if shapes and exif:
        raise UserError("--exif has no effect on --shapes")
    check_files(*(images or ()), otherwise="image file is missing")
    from ablate_kit.file_names import files_in
    from ablate_kit.models.inference.device import check_device
    from ablate_kit.reports.box_drawings import side_by_side
    from detector.disk.atomic import new_folder

    check_can_write(output)
    check_device(device)
    files, stems = _files(images or [])
    generated: Dataset | None = None
    if shapes:
        from detector.training.recipes.data_sections import ShapesImages

        generated = ShapesImages(limit=limit).dataset()
        files = [Path(generated.annotations(i).file_name) for i in range(len(generated))]
        stems = [one.stem for one in files]
    files, stems = files[:limit], stems[:limit]
    paths = [checkpoint, compare] if compare else [checkpoint]
    # As names of files, beside images.json.
    names = [name.replace("/", "_") for name in names_of(paths, "a checkpoint")]
    if len({*names, "images"}) <= len(names):
        names = ["baseline", "variant"][: len(paths)]
    jsons = files_in(Path(), names, ".json", taken=["images"])
    pngs = files_in(Path(), stems, ".png", what="images")
    adapters = []
    for path in paths:
        with model.runnable(path) as (_, opened):
            adapters.append(model.open(opened, device))
    classes = adapters[0].classes
    if any(one.classes != classes for one in adapters):
        raise UserError(f"{paths[0]} and {paths[1]} have different classes")
    rows: list[dict[str, Any]] = []
    results: list[list[dict[str, Any]]] = [[] for _ in names]
    told: list[str] = []
    with new_folder(output) as place, progress() as bars:
        bar = bars.add_task("", total=len(files))
        for image, (path, png) in enumerate(zip(files, pngs, strict=True), start=1):
            bars.update(bar, description=path.name)
            pixels = generated.image(image - 1) if generated else _read(path, exif)
            found = [_detect(one, pixels) for one in adapters]
            pictures = [
                _picture(pixels, of, classes, score, name if compare else "")
                for of, name in zip(found, names, strict=True)
            ]
            side_by_side(pictures).save(place / png)
            for of, result in zip(found, results, strict=True):
                result.extend(_results(image, of))
            height, width = pixels.shape[:2]
            row = {"id": image, "file_name": str(path), "width": width, "height": height}
            rows.append(row)
            seen = (f"{name}: {_told(of, classes, score)}"
                    for of, name in zip(found, names, strict=True))  # fmt: skip
            told.append(f"{path}  {'; '.join(seen)}")
            bars.advance(bar)
        for result, file in zip(results, jsons, strict=True):
            write_json(place / file, result)
        # The ids that the results use: images in the order given, classes in the model's.
        categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
        write_json(place / "images.json", {"images": rows, "categories": categories})
    for line in told[:_TOLD]:
        say(line)
    if len(told) > _TOLD:
        say(f"... and {len(told) - _TOLD:,} more")
    written = ", ".join([counted(len(files), "picture"), *map(str, jsons)])
    say(f"written to {output}: {written} (COCO results), images.json")


def _files(given: list[Path]) -> tuple[list[Path], list[str]]:
    """The images that were given or lie in folders that were, and what their pictures are called:
    of one that lies deeper, its folders as well."""
    from detector.data.formats.image_folder import images_in

    found = [
        (path / name, name) if name else (path, path.name)
        for path in given
        for name in (images_in(path) if path.is_dir() else [""])
    ]
    stems = [Path(name).with_suffix("").as_posix().replace("/", "_") for _, name in found]
    return [path for path, _ in found], stems


def _read(path: Path, exif: str | None) -> "Pixels":
    from detector.data.image_files import Exif, check_exif, decode, remarks

    treated = exif or "ignore"
    check_exif(treated)
    pixels = decode(path, cast("Exif", treated))
    warn(f"{path}: {remark}" for remark in remarks(path, cast("Exif", treated)))
    return pixels


def _detect(adapter: "Adapter", pixels: "Pixels") -> "ImageDetections":
    import numpy as np

    from ablate_kit.metrics.detections import MAX_DETECTIONS
    from ablate_kit.models.inference.detect import detect, finite

    (raw,) = detect(adapter, [pixels])
    return raw.rows(np.flatnonzero(finite(raw))[:MAX_DETECTIONS])


def _picture(
    pixels: "Pixels", found: "ImageDetections", classes: tuple[str, ...], score: float, title: str
) -> Any:
    from ablate_kit.reports.box_drawings import draw

    shown = [i for i in range(len(found.scores)) if found.scores[i] >= score]
    captions = [f"{classes[found.labels[i]]} {found.scores[i]:.2f}" for i in shown]
    return draw(pixels, found.boxes[shown], captions, found.labels[shown].tolist(), title)


def _results(image: int, found: "ImageDetections") -> list[dict[str, Any]]:
    return [
        {
            "image_id": image,
            "category_id": int(label) + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(score),
        }
        for (x1, y1, x2, y2), score, label in zip(
            found.boxes.tolist(), found.scores, found.labels, strict=True
        )
    ]


def _told(found: "ImageDetections", classes: tuple[str, ...], score: float) -> str:
    counts = Counter(classes[label] for label in found.labels[found.scores >= score])
    seen = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return seen or f"nothing of score {score:g} or more"
