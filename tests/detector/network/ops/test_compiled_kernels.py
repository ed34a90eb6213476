"""Compiled kernels are optional: nothing imports them before a GPU tensor asks for them."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import torch
from detector.network.ops.dcnv4 import dcnv4
from detector.network.ops.deformable_attention import multi_scale_deformable_attention
from detector.network.ops.neighborhood_attention import neighborhood_attention

dcnv4(torch.ones(1, 4, 4, 16), torch.ones(1, 4, 4, 32), groups=1)
maps = torch.ones(1, 1, 4, 4, 2)
neighborhood_attention(maps, maps, maps, kernel=3)
multi_scale_deformable_attention(
    torch.ones(1, 16, 1, 2), [(4, 4)], torch.ones(1, 1, 2), torch.ones(1, 1, 1, 1, 1, 2),
    torch.ones(1, 1, 1, 1, 1),
)
print("done")
"""


def test_the_cpu_never_imports_them(tmp_path: Path, repository: Path) -> None:
    for package in ("natten", "DCNv4"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('imported')")
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PYTHONPATH": f"{tmp_path}:{repository}"},
        capture_output=True,
        text=True,
    )
    assert run.stdout == "done\n", run.stderr
