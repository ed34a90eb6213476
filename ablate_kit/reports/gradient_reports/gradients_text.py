"""A gradient diagnosis as text: the console's summary and the two reports of the notebook."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablate_kit.gradients.advice.advice import Advice
from ablate_kit.gradients.advice.words import few
from ablate_kit.gradients.attribution import Attribution
from ablate_kit.gradients.diagnose import (
    CRITICAL,
    FLAGS,
    FROZEN,
    UNSEEN,
    VERDICTS,
    Diagnosis,
    TensorReport,
)
from ablate_kit.gradients.diagnose import HEALTHY as SOUND
from ablate_kit.gradients.region import region
from ablate_kit.plural import counted
from ablate_kit.reports.table import Table, number, shape_text

TOP = 10  # healthy tensors that the summary lists


@dataclass(frozen=True)
class GradientReport:
    """What a report is written from."""

    about: Mapping[str, object]  # of the run: model, data, learning rate ...
    diagnosis: Diagnosis
    advice: Sequence[Advice]
    attribution: Attribution | None = None
    depth: int = 2  # levels of a name that make a module

    def unmeasured(self) -> dict[str, str]:
        """The verdict on each tensor that has no numbers."""
        thawed = dict.fromkeys(self.diagnosis.measured.thawed, UNSEEN)
        return thawed | dict.fromkeys(self.diagnosis.frozen, FROZEN)

    def modules(self) -> dict[str, dict[str, int]]:
        """Tensors per module and verdict, in the model's order."""
        found: dict[str, dict[str, int]] = {}
        verdicts = {tensor.name: tensor.verdict for tensor in self.diagnosis.tensors}
        verdicts |= self.unmeasured()
        for name in self.diagnosis.measured.elements:
            verdict = verdicts.get(name)
            if verdict is None:
                continue
            counts = found.setdefault(region(name, self.depth), {})
            counts[verdict] = counts.get(verdict, 0) + 1
        return found


def summary(report: GradientReport) -> str:
    """Modules, critical findings, advice, and the healthy tensors that changed most."""
    diagnosis = report.diagnosis
    counts = diagnosis.counts()
    sizes = diagnosis.measured.elements
    told = [*(tensor.name for tensor in diagnosis.tensors), *report.unmeasured()]
    lines = [
        f"{counted(sum(sizes[name] for name in told), 'element')} in "
        f"{counted(len(told), 'tensor')}, {counted(diagnosis.steps, 'step')}: "
        + ", ".join(f"{count} {_words(verdict)}" for verdict, count in counts.items()),
        "",
        module_table(report).text(),
    ]
    harmless = {name for one in report.advice if one.harmless for name in one.tensors}
    critical = [t for t in diagnosis.tensors if t.verdict in CRITICAL]
    grave = [t for t in critical if t.name not in harmless]
    if grave:
        lines += ["", f"critical issues: {counted(len(grave), 'tensor')}"]
    for verdict in CRITICAL:
        names = [one.name for one in grave if one.verdict == verdict]
        if names:
            lines.append(f"  {_words(verdict)} ({len(names)}): {few(names)}")
    if spared := [one.name for one in critical if one.name in harmless]:
        lines += ["", f"harmless by construction: {counted(len(spared), 'tensor')}: {few(spared)}"]
    if report.advice:
        lines += ["", "advice:"]
        lines += [f"  * {one.sentence}" for one in report.advice]
    healthy = diagnosis.of(SOUND)
    if healthy:
        top = sorted(healthy, key=lambda t: t.change_mean or 0.0, reverse=True)[:TOP]
        rows = [
            (t.name, f"{t.updates}", number(t.grad_norm, ".2e"), number(t.change_mean, ".2e"))
            for t in top
        ]
        header = ("tensor", "updates", "gradient", "mean change")
        title = f"healthy: {counted(len(healthy), 'tensor')}"
        if len(healthy) > 1:
            title += "; those that changed most"
        lines += ["", Table(title, header, tuple(rows), ("tensor",)).text()]
    if diagnosis.measured.notebook is not None:
        lines += ["", notebook_table(diagnosis).text()]
    return "\n".join(lines)


def module_table(report: GradientReport) -> Table:
    """Elements, tensors and verdicts per module."""
    sizes: dict[str, int] = {}
    for tensor, elements in report.diagnosis.measured.elements.items():
        name = region(tensor, report.depth)
        sizes[name] = sizes.get(name, 0) + elements
    modules = report.modules()
    shown = [v for v in VERDICTS if any(v in counts for counts in modules.values())]
    rows = tuple(
        (
            name,
            f"{sizes.get(name, 0):,}",
            f"{sum(counts.values())}",
            *(f"{counts[verdict]}" if verdict in counts else "" for verdict in shown),
        )
        for name, counts in modules.items()
    )
    return Table("", ("module", "elements", "tensors", *map(_words, shown)), rows, ("module",))


def notebook_table(diagnosis: Diagnosis) -> Table:
    """The notebook's overlapping categories, by its own counting."""
    notebook = diagnosis.measured.notebook or {}
    rows = tuple((name, f"{int(members.sum())}") for name, members in notebook.items())
    return Table("the notebook's categories", ("category", "tensors"), rows, ("category",))


def detailed_report(report: GradientReport) -> str:
    """``gradient_flow_detailed_report.txt``: every parameter, not only the suspicious ones."""
    head = _head("GRADIENT FLOW, EVERY PARAMETER", report)
    return "\n".join([*head, details(report).text(), ""])


def details(report: GradientReport) -> Table:
    """A row per parameter, frozen ones last."""
    rows = [_row(tensor) for tensor in report.diagnosis.tensors]
    blank = ("",) * (len(_DETAILS) - 2)
    frozen = ((name, verdict, *blank) for name, verdict in report.unmeasured().items())
    words = ("parameter", "shape", "verdict", "all flags")
    return Table("", _DETAILS, (*rows, *frozen), words)


def analysis_report(report: GradientReport) -> str:
    """``gradient_analysis_report.txt``: by flag, so a tensor appears under each that is up."""
    lines = _head("GRADIENT ANALYSIS, BY FLAG", report)
    for flag, meaning in FLAGS.items():
        tensors = [tensor for tensor in report.diagnosis.tensors if flag in tensor.flags]
        if not tensors:
            continue
        lines += [f"{flag.upper()} ({len(tensors)}): {meaning}", "-" * 60]
        for tensor in tensors:
            why = tensor.why if tensor.verdict == flag else f"verdict: {tensor.verdict}"
            lines.append(f"{tensor.name}  {shape_text(tensor.shape)}  {why}")
        lines.append("")
    notebook = report.diagnosis.measured.notebook
    if notebook is not None:
        for name in notebook:
            members = [t.name for t in report.diagnosis.tensors if name in t.notebook]
            if members:
                title = f"notebook category {name} ({len(members)})"
                lines += [title, "-" * 60, *members, ""]
    lines += ["ADVICE", "-" * 60, *(f"* {one.sentence}" for one in report.advice), ""]
    return "\n".join(lines)


_DETAILS = (
    "parameter",
    "verdict",
    "shape",
    "mean at start",
    "mean now",
    "largest change",
    "mean |change|",
    "grad norm",
    "grad RMS",
    "zero",
    "update/weight",
    "gradients",
    "updates",
    "dead rows",
    "all flags",
)


def _row(tensor: TensorReport) -> tuple[str, ...]:
    gone = len(tensor.dead_rows) + len(tensor.faint_rows)
    return (
        tensor.name,
        tensor.verdict,
        shape_text(tensor.shape),
        number(tensor.mean_start, ".6f"),
        number(tensor.mean_now, ".6f"),
        number(tensor.change_max, ".2e"),
        number(tensor.change_mean, ".2e"),
        number(tensor.grad_norm, ".2e"),
        number(tensor.grad_rms, ".2e"),
        number(tensor.grad_zero, ".1%"),
        number(tensor.update_ratio, ".2e"),
        f"{tensor.gradients}",
        f"{tensor.updates}",
        f"{gone}/{tensor.rows}" if gone else "",
        " ".join(tensor.flags),
    )


def _head(title: str, report: GradientReport) -> list[str]:
    about = [f"{key}: {value}" for key, value in report.about.items()]
    counts = [f"{name}: {count}" for name, count in report.diagnosis.counts().items()]
    return [title, "=" * 80, *about, f"steps measured: {report.diagnosis.steps}", *counts, ""]


def _words(verdict: str) -> str:
    return verdict.replace("_", " ")
