"""``ablate data convert``: a data set in another format."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ablate_kit.cli.common_options import output_to
from ablate_kit.cli.dataset_options import AnnotatedFiles
from ablate_kit.cli.output import say, warn
from ablate_kit.errors import UserError
from ablate_kit.plural import counted
from ablate_kit.progress_bars import progress
from detector.errors import check_can_write

if TYPE_CHECKING:
    from detector.training.recipes.data_sections import OneSet


@dataclass(frozen=True, kw_only=True)
class ConvertedImages(AnnotatedFiles):
    difficult: Annotated[
        str | None, Option(help="Difficult objects: ignore (default; marked still), keep, drop.")
    ] = None


def convert(
    to: Annotated[str, Option(help="coco, voc or yolo.")],
    output: Annotated[Path, output_to("Folder to write.")],
    *,
    data: ConvertedImages,
    split_name: Annotated[
        str | None, Option(help="How the split is called; by default as it is, or val.")
    ] = None,
    link: Annotated[
        bool, Option("--link", help="Symbolic links to the images, not copies.")
    ] = False,
) -> None:
    """Write a data set as COCO, VOC or YOLO has it, and say what that format cannot hold."""
    from detector.data.conversion.unread import unread_of
    from detector.data.conversion.write import FORMATS
    from detector.data.conversion.write import convert as write
    from detector.disk.atomic import new_folder

    if to not in FORMATS:
        raise UserError(f'--to is "{to}"; expected {", ".join(FORMATS)}')
    if split_name and to == "coco":
        raise UserError("--split-name has no effect on --to coco, which has no word for a split")
    check_can_write(output)
    dataset = data.open()
    name = _split_name(split_name, data.given(), to)
    left = unread_of(dataset, data.annotations)
    with progress() as bars, new_folder(output) as place:
        bar = bars.add_task(to, total=len(dataset))
        notes = write(dataset, to, place, name, link=link, advance=lambda: bars.advance(bar))
    warn([*notes, *left])
    how = _how_to_read(to, output, name, data.exif)
    say(f"{counted(len(dataset), 'image')} written to {output}; {how}")


def _split_name(asked: str | None, given: "OneSet", to: str) -> str:
    from detector.data.formats.yolo_files import SPLITS

    own = str(getattr(given, "split", "val")).partition("+")[0].rpartition(":")[2]
    name = asked or own
    if to == "yolo":
        if asked and asked not in SPLITS:
            raise UserError(f'--split-name is "{asked}"; YOLO has {", ".join(SPLITS)}')
        return next((one for one in SPLITS if name.startswith(one)), "val")
    if not name.replace("_", "").replace("-", "").isalnum():
        raise UserError(f'--split-name is "{name}"; expected letters and digits')
    return name


def _how_to_read(to: str, output: Path, split: str, exif: str | None) -> str:
    told = {
        "coco": f"--annotations {output / 'instances.json'} --images {output / 'images'}",
        "voc": f"--voc {output} --split {split} --voc-classes {output / 'classes.txt'}",
        "yolo": f"--yolo {output / 'data.yaml'} --split {split}",
    }[to]
    return f"read it with {told}{' --exif apply' if exif == 'apply' else ''}"
