"""``python -m ablate_kit`` is ``ablate``."""

from ablate_kit.cli import main

main()
