"""``ablate predict``: what a checkpoint sees on some images, as pictures and as COCO JSON."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ablate_kit.cli.dataset_options import Orientation
from ablate_kit.cli.early import check_images, check_there
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.output import progress, say, warn, write_json
from ablate_kit.errors import UserError
from ablate_kit.models.naming import names_of

if TYPE_CHECKING:
    from ablate_kit.models.adapter import Adapter, ImageDetections
    from detector.data.dataset import Pixels


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A file, or a Hugging Face folder.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    *,
    compare: Annotated[
        Path | None, typer.Option(help="A variant, to be drawn beside the checkpoint.")
    ] = None,
    score: Annotated[
        float, typer.Option(help="Draw boxes of at least this score.", min=0, max=1)
    ] = 0.3,
    exif: Orientation = None,
    model: ModelOptions,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Detect objects on images: boxes drawn on them, and COCO JSON."""
    check_there(checkpoint, compare)
    check_images(images)
    from ablate_kit.file_names import files_in
    from ablate_kit.models.device import check_device
    from ablate_kit.reports.folder import check_free
    from detector.disk.atomic import new_folder

    check_free(output)
    check_device(device)
    pixels = [_read(path, exif) for path in images]
    paths = [checkpoint, compare] if compare else [checkpoint]
    # As names of files, beside images.json.
    names = [name.replace("/", "_") for name in names_of(paths, "a checkpoint")]
    if len({*names, "images"}) <= len(names):
        names = ["baseline", "variant"][: len(paths)]
    jsons = files_in(Path(), names, ".json", taken=["images"])
    pngs = files_in(Path(), [path.stem for path in images], ".png", what="images")
    found: list[list[ImageDetections]] = []
    classes: list[tuple[str, ...]] = []
    with progress() as bars:
        for path, name in zip(paths, names, strict=True):
            bar = bars.add_task(name, total=len(pixels))
            with model.runnable(path) as (_, opened):
                adapter = model.open(opened, device)
            found.append([])
            classes.append(adapter.classes)
            for one in pixels:
                found[-1].extend(_detect(adapter, one))
                bars.advance(bar)
    if len(set(classes)) > 1:
        raise UserError(f"{paths[0]} and {paths[1]} have different classes")
    with new_folder(output) as place:
        for i, png in enumerate(pngs):
            pictures = [
                _picture(pixels[i], of[i], classes[0], score, name if compare else "")
                for of, name in zip(found, names, strict=True)
            ]
            _sheet(pictures).save(place / png)
        for of, file in zip(found, jsons, strict=True):
            write_json(place / file, _results(of))
        write_json(place / "images.json", _images(images, pixels, classes[0]))
    for i, path in enumerate(images):
        told = (f"{name}: {_told(of[i], classes[0], score)}"
                for of, name in zip(found, names, strict=True))  # fmt: skip
        say(f"{path}  {'; '.join(told)}")
    count = f"{len(images)} picture{'s' if len(images) > 1 else ''}"
    files = ", ".join(map(str, jsons))
    say(f"written to {output}: {count}, {files} (COCO results), images.json")


def _read(path: Path, exif: str | None) -> "Pixels":
    from detector.data.image_files import Exif, check_exif, decode, remarks

    treated = exif or "ignore"
    check_exif(treated)
    pixels = decode(path, cast("Exif", treated))
    warn(f"{path}: {remark}" for remark in remarks(path, cast("Exif", treated)))
    return pixels


def _detect(adapter: "Adapter", pixels: "Pixels") -> "list[ImageDetections]":
    import numpy as np

    from ablate_kit.metrics.detections import MAX_DETECTIONS
    from ablate_kit.models.adapter import ImageDetections
    from ablate_kit.models.detect import detect

    (raw,) = detect(adapter, [pixels])
    # An ablation can drive a network to infinity; a box or score that is NaN is no detection.
    usable = np.isfinite(raw.scores) & np.isfinite(raw.boxes).all(axis=1)
    keep = np.flatnonzero(usable)[:MAX_DETECTIONS]
    return [ImageDetections(raw.boxes[keep], raw.scores[keep], raw.labels[keep])]


def _picture(
    pixels: "Pixels", found: "ImageDetections", classes: tuple[str, ...], score: float, title: str
) -> Any:
    from ablate_kit.reports.box_drawings import draw

    shown = [i for i in range(len(found.scores)) if found.scores[i] >= score]
    captions = [f"{classes[found.labels[i]]} {found.scores[i]:.2f}" for i in shown]
    return draw(pixels, found.boxes[shown], captions, found.labels[shown].tolist(), title)


def _sheet(pictures: list[Any]) -> Any:
    from ablate_kit.reports.box_drawings import side_by_side

    return side_by_side(pictures)


def _results(found: "list[ImageDetections]") -> list[dict[str, Any]]:
    return [
        {
            "image_id": image,
            "category_id": int(label) + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(score),
        }
        for image, one in enumerate(found, start=1)
        for (x1, y1, x2, y2), score, label in zip(
            one.boxes.tolist(), one.scores, one.labels, strict=True
        )
    ]


def _images(images: list[Path], pixels: "list[Pixels]", classes: tuple[str, ...]) -> dict[str, Any]:
    """The ids that the results use: images in the order given, classes in the model's."""
    return {
        "images": [
            {"id": i, "file_name": str(path), "width": one.shape[1], "height": one.shape[0]}
            for i, (path, one) in enumerate(zip(images, pixels, strict=True), start=1)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, start=1)],
    }


def _told(found: "ImageDetections", classes: tuple[str, ...], score: float) -> str:
    counts = Counter(classes[label] for label in found.labels[found.scores >= score])
    seen = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return seen or f"nothing of score {score:g} or more"
