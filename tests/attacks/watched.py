"""Opens the files of a folder as ``ablate`` does, and tells what became of each; run by itself.

Memory is limited, and an audit hook stops anything that a checkpoint could want done: processes,
imports, compiled code, files opened for writing, connections.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

from ablate_kit.checkpoints import CheckpointError, open_checkpoint, show
from ablate_kit.checkpoints.compare import digest_of_tensor
from ablate_kit.checkpoints.stats import stats
from ablate_kit.errors import did_you_mean
from ablate_kit.reports.checkpoint_reports.metadata_outline import outline

FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.", "socket.",
             "shutil.", "import", "compile", "exec", "ctypes.", "pickle.find_class", "os.remove",
             "os.rename", "os.mkdir", "code.__new__", "marshal.")  # fmt: skip
watching = False


def hook(event: str, arguments: tuple[object, ...]) -> None:
    if not watching:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise SystemExit(f"opened {path} for writing")
    elif event.startswith(FORBIDDEN):
        raise SystemExit(f"{event} {arguments}")


def look(path: Path) -> str:
    try:
        with open_checkpoint(path) as checkpoint:
            text = show(checkpoint.archive.metadata, 300)
            list(outline(checkpoint.archive.metadata, 6))
            show([checkpoint.classes, checkpoint.settings, checkpoint.unsupported])
            for name, info in checkpoint.tensors.items():
                for module in checkpoint.modules_above(name):
                    show([module.class_name, getattr(module, "num_heads", None)])
                digest_of_tensor(checkpoint, name)
                stats(checkpoint.archive, info)
            return f"opened {len(checkpoint.tensors)}: {text}"
    except CheckpointError as error:
        return f"refused: {error}"


def main() -> None:
    global watching
    sys.addaudithook(hook)
    # Once without the hook: what is imported when it is needed is imported now, codecs too.
    look(Path(sys.argv[2]))
    did_you_mean("a", ["b"])
    for codec in ("cp437", "latin-1", "raw-unicode-escape", "ascii"):
        b"a".decode(codec)
    limit = 1 << 29
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    outcomes = {}
    for path in sorted(Path(sys.argv[1]).iterdir()):
        start = time.process_time()
        watching = True
        outcome = look(path)
        watching = False
        outcomes[path.name] = [outcome, time.process_time() - start]
    sys.stdout.write(json.dumps(outcomes))


main()
