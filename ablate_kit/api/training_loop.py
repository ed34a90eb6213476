"""A training loop under the monitor, with its report."""

from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from ablate_kit.gradients import monitor
from ablate_kit.gradients.thresholds import GradientThresholds
from ablate_kit.reports.gradient_reports.gradients_folder import report_of, write_gradients
from ablate_kit.reports.gradient_reports.gradients_text import summary


class GradientMonitor(monitor.GradientMonitor):
    """``with ak.GradientMonitor(model, optimizer, "runs/gradients"):`` around a training loop.

    ``runs/gradients/report.html`` says of every parameter whether it learns, why not, and what to
    try. It is written when the loop ends, be it by an error or an interruption.

    Args:
        model: any module; wrappers (compilation, data parallelism) do not show in names.
        optimizer: the one whose steps are measured. Parameters that need a gradient and are not
            its own are measured, too, and will be found not to be trained.
        output: folder of the report; without it, ``summary`` and ``report`` tell what was found.
        thresholds: limits of the verdicts.
        interval: steps whose measurements are fetched from the device together.
        compat: keep the thesis notebook's counters as well (one more copy of the weights).

    Example:
        >>> import torch, ablate_kit as ak
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with ak.GradientMonitor(model, optimizer) as monitor:
        ...     for _ in range(3):
        ...         model(torch.ones(1, 2)).sum().backward()
        ...         optimizer.step()
        ...         optimizer.zero_grad()
        >>> print(monitor.summary().splitlines()[0])
        3 elements in 2 tensors, 3 steps: 2 healthy
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        output: str | Path | None = None,
        *,
        thresholds: GradientThresholds | None = None,
        interval: int = 20,
        compat: bool = False,
    ) -> None:
        super().__init__(model, optimizer, thresholds=thresholds, interval=interval, compat=compat)
        self._output = None if output is None else Path(output)
        self._about = {"model": type(model).__name__}

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        if self._output is not None:
            self.report(self._output)

    def summary(self) -> str:
        """What was found up to now: modules, critical issues, advice."""
        return summary(report_of(self, self._about))

    def report(self, output: str | Path) -> Path:
        """Writes all that was found up to now into a folder; gives the path of its page."""
        write_gradients(Path(output), report_of(self, self._about))
        return Path(output) / "report.html"
