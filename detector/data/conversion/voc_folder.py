"""PASCAL VOC's folder of a data set."""

import xml.etree.ElementTree as ET
from pathlib import Path

from detector.data.conversion.dataset_files import DatasetFiles


def write(files: DatasetFiles) -> None:
    """A folder as those in ``VOCdevkit``, beside the images."""
    place = files.place
    (place / "Annotations").mkdir()
    (place / "ImageSets/Main").mkdir(parents=True)
    files.count_ids()
    for one, name in files:
        tree = ET.Element("annotation")
        _add(tree, filename=name)
        _add(ET.SubElement(tree, "size"), width=one.width, height=one.height, depth=3)
        files.count_areas(one)
        files.lost["objects to ignore (difficult ones, crowds) are marked as difficult"] += int(
            one.ignore.sum()
        )
        sides = one.boxes[:, 2:] - one.boxes[:, :2]
        files.lost["boxes thinner than a pixel are a pixel wide, as VOC has none thinner"] += int(
            (sides < 1).any(axis=1).sum()
        )
        for box, label, ignore, (width, height) in zip(
            one.boxes.tolist(), one.labels, one.ignore, sides.tolist(), strict=True
        ):
            left, top, right, bottom = box
            thing = ET.SubElement(tree, "object")
            _add(thing, name=files.dataset.classes[label], difficult=int(ignore))
            # VOC counts pixels from 1 and includes the last.
            _add(
                ET.SubElement(thing, "bndbox"),
                xmin=_number(left + 1),
                ymin=_number(top + 1),
                xmax=_number(right if width >= 1 else left + 1),
                ymax=_number(bottom if height >= 1 else top + 1),
            )
        ET.indent(tree)
        path = place / "Annotations" / f"{Path(name).stem}.xml"
        path.write_bytes(ET.tostring(tree, encoding="utf-8") + b"\n")
    stems = "".join(f"{Path(name).stem}\n" for name in files.names)
    (place / "ImageSets/Main" / f"{files.split}.txt").write_text(stems, encoding="utf-8")
    listed = "".join(f"{name}\n" for name in files.dataset.classes)
    (place / "classes.txt").write_text(listed, encoding="utf-8")


def _add(element: ET.Element, **values: object) -> None:
    for name, value in values.items():
        ET.SubElement(element, name).text = str(value)


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
