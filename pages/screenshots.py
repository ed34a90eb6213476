"""Pictures of HTML pages as a browser shows them."""

import shutil
import subprocess
from pathlib import Path

from PIL import Image

_COLORS = 128  # which letters and boxes do with, in a third of the bytes
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def photograph(page: Path, picture: Path) -> bool:
    """The top of a page in place of a PNG, in its size; without a browser nothing is done."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        return False
    with Image.open(picture) as former:
        width, height = former.size
    subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--window-size={width},{height}", f"--screenshot={picture.resolve()}",
            page.resolve().as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )  # fmt: skip
    with Image.open(picture) as taken:
        taken.quantize(_COLORS).save(picture, optimize=True)
    return True
