"""Where a checkpoint lies, of which a name may be given in place of a path."""

from pathlib import Path

from detector.zoo import shipped


def located(path: Path) -> Path:
    """The file of ``builtin:NAME``, the folder of ``hf:OWNER/NAME``; of any other path itself.

    Raises ``UserError`` where there is none of that name.
    """
    if str(path).startswith("hf:"):
        from ablate_kit.checkpoints.hub import downloaded  # which few commands need

        return downloaded(path)
    return shipped(path)
