"""``ablate data huggingface``: a split of a Hugging Face data set as COCO files."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ablate_kit.cli.common_options import output_to
from ablate_kit.cli.output import say, warn
from ablate_kit.plural import counted
from ablate_kit.progress_bars import progress
from detector.errors import check_can_write


def huggingface(
    folder: Annotated[
        Path,
        Argument(
            help="Parquet files from the hub (in its cache: hf:OWNER/NAME), what save_to_disk "
            "wrote, a folder of datasets' cache, or images with metadata.jsonl, .parquet or .csv."
        ),
    ],
    output: Annotated[Path, output_to("Folder to write.")],
    *,
    split: Annotated[
        str | None, Option(help="Such as validation; needed where there are several.")
    ] = None,
    class_names: Annotated[
        Path | None,
        Option(
            help="What the numbers of categories mean, one name to a line, where the data set "
            "does not say it."
        ),
    ] = None,
    corners: Annotated[
        bool | None,
        Option(
            "--corners/--sizes",
            help="Boxes are x1, y1, x2, y2, or x, y, width, height; by default the latter, and "
            "what looks like corners is refused.",
        ),
    ] = None,
    limit: Annotated[int | None, Option(help="Take only the first N images.", min=1)] = None,
) -> None:
    """Write a split of a Hugging Face data set as COCO files, which all commands read."""
    from ablate_kit.checkpoints.hub import data_set_folder
    from detector.data.conversion.hugging_face.split import find_split
    from detector.data.conversion.hugging_face.to_coco import write_coco
    from detector.data.formats.voc_classes import read_classes
    from detector.disk.atomic import new_folder

    check_can_write(output)
    classes = read_classes(class_names) if class_names else ()
    folder = data_set_folder(folder)
    found = find_split(folder, split)
    with progress() as bars, new_folder(output) as place:
        bar = bars.add_task(folder.name, total=limit)
        written = write_coco(
            found,
            place,
            classes=classes,
            corners=corners,
            most=limit,
            advance=lambda: bars.advance(bar),
        )
    warn(written.notes)
    told = f"{counted(written.images, 'image')} and {counted(written.objects, 'object')}"
    exif = " --exif apply" if written.oriented else ""
    say(
        f"{told} written to {output}; read it with --annotations {output / 'instances.json'} "
        f"--images {output / 'images'}{exif}"
    )
