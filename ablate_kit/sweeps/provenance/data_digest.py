"""Whether images and annotations are those of a run."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic

from ablate_kit.checkpoints.told import tell
from detector.data.dataset import Dataset

_MOMENT = 3.0  # seconds for which nobody wonders


@dataclass(frozen=True)
class DataDigest:
    """Of every image as it is stored, and every annotation; ``copies`` counts the images that are
    stored as one before them is."""

    text: str
    images: int
    copies: int

    def notes(self, cluster: str | None) -> list[str]:
        """What copies do to intervals, unless ``cluster`` tells which images belong together."""
        if not self.copies or cluster:
            return []
        return [
            f"{self.copies:,} of {self.images:,} images are the same files as others: they tell "
            "nothing more, and make intervals too narrow; leave them out, or say which belong "
            "together: --cluster (evaluation.cluster)"
        ]


def data_digest(dataset: Dataset, workers: int = 2) -> DataDigest:
    """Of the annotations and the bytes of the images; tells of itself where it takes a while."""
    total = hashlib.sha256("\n".join(dataset.classes).encode("utf-8", "surrogatepass"))

    def one(index: int) -> tuple[bytes, bytes]:
        notes = dataset.annotations(index)
        part = hashlib.sha256(dataset.stored(index))
        image = part.digest()
        for array in (notes.boxes, notes.labels, notes.ignore, notes.areas):
            part.update(array.tobytes())
        sides = str((notes.image_id, notes.width, notes.height))
        return image, part.digest() + sides.encode()

    images, began, told = set(), monotonic(), False
    with ThreadPoolExecutor(workers) as pool:
        for done, (image, digest) in enumerate(pool.map(one, range(len(dataset)))):
            if done and not told and monotonic() - began > _MOMENT:
                told = True
                left = (monotonic() - began) * (len(dataset) - done) / done
                tell(
                    f"reading the files of {len(dataset):,} images once, to know them again: "
                    f"{done:,} are read, the others take about {left:.0f} s"
                )
            images.add(image)
            total.update(digest)
    return DataDigest(total.hexdigest(), len(dataset), len(dataset) - len(images))
