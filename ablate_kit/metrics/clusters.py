"""Images that belong together, such as the frames of one video, told from their file names."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.metrics.detection_files.image_names import SEVERAL, UNKNOWN, ImageNames
from ablate_kit.metrics.pattern_groups import SECONDS, NoGroupError, groups_found

COLUMNS = ["file", "cluster"]


def clusters_of(given: str, files: Sequence[str]) -> NDArray[np.int64]:
    """(images,) the number of the cluster that each image is of.

    Args:
        given: a .csv file with the columns file and cluster; or a regular expression with a group,
            which is found in every file name, and what the group holds names the cluster.
        files: file names of the images.

    Raises:
        UserError: neither of the two, or an image that it puts into no cluster.
    """
    names = _from_csv(Path(given), files) if is_file(given) else _from_pattern(given, files)
    _, numbers = np.unique(names, return_inverse=True)
    return numbers.astype(np.int64)


def is_file(given: str) -> bool:
    """Whether clusters are named by a file, and not by a regular expression."""
    return given.lower().endswith(".csv")


def _from_pattern(given: str, files: Sequence[str]) -> list[str]:
    try:
        found = groups_found(given, list(files))
    except NoGroupError:
        raise UserError(
            f'the regular expression "{given}" has no group to name a cluster by; put what frames '
            r'of one video share into parentheses, such as "(.*)_\d+\.jpg"'
        ) from None
    except ValueError as error:
        raise UserError(
            f'cannot read the clusters "{given}": no regular expression ({error}), and no file.csv'
        ) from None
    except TimeoutError:
        raise UserError(
            f'the regular expression "{given}" takes more than {SECONDS:.0f} seconds for the '
            f"{len(files):,} file names; give one with fewer * and +, or a file.csv"
        ) from None
    missing = [file for file, groups in zip(files, found, strict=True) if not groups]
    if missing:
        raise UserError(
            f'the regular expression "{given}" is not found in {len(missing):,} of {len(files):,} '
            f'file names, such as "{missing[0]}"; every image needs a cluster'
        )
    return ["\n".join(groups) for groups in found]


def _from_csv(path: Path, files: Sequence[str]) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"no file of clusters {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    names = ImageNames.of(files)
    cluster: dict[int, str] = {}
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise UserError(f"{path} is no CSV file: {error}") from None
    for number, row in enumerate(rows, start=1):
        if not row or (number == 1 and [one.strip().lower() for one in row] == COLUMNS):
            continue
        if len(row) != len(COLUMNS):
            raise UserError(
                f"{path}:{number}: {len(row)} columns; expected two, a file name and its cluster"
            )
        at = names.find(row[0])
        if at == SEVERAL:
            raise UserError(f'{path}:{number}: several images are named "{row[0]}"; give the path')
        if at == UNKNOWN:
            continue  # of images that --limit leaves out, or of another split
        if cluster.setdefault(at, row[1]) != row[1]:
            raise UserError(f'{path}:{number}: "{row[0]}" is in two clusters')
    missing = [i for i in range(len(files)) if i not in cluster]
    if missing:
        first = files[missing[0]]
        near = did_you_mean(first, (row[0] for row in rows if row))
        told = f"{path} has no cluster for {len(missing):,} of {len(files):,} images, such as"
        raise UserError(f'{told} "{first}"{near}')
    return [cluster[i] for i in range(len(files))]
