"""A map of the model: a box for each part, in the order of the forward pass, colored by verdict."""

from collections.abc import Mapping

from markupsafe import Markup

from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.studies.noted import INSIDE_FREE, NOT_AFFORDED, Noted, NotedPart
from ablate_kit.text import line

STYLE = Markup("""<style>
.map, .map div { display: flex; flex-wrap: wrap; gap: 4px; }
.map .part { flex: 0 1 auto; flex-direction: column; padding: 4px 6px; border-radius: 6px;
  border: 1px solid var(--line); border-left-width: 6px; font-size: .75rem; line-height: 1.25;
  max-width: 100%; overflow-wrap: anywhere; background: var(--card); }
.map > .part { flex: 1 1 100%; }
.map .part > div { padding: 0; }
.map .part b { font-weight: 600; } .map .part small { display: block; }
.map .costs { border-color: #d55e00; } .map .free { border-color: #009e73; }
.map .gains { border-color: #0072b2; } .map .undecided { border-color: #9a9a9a; }
.map .uncut { border-style: dashed; border-left-width: 1px; color: var(--soft); }
.key span { border-left: 6px solid; padding: 0 .8rem 0 .3rem; }
</style>""")
_WORDS = {"costs": "costs", "free": "free", "gains": "better without it", "undecided": "undecided"}
_COLORS = {"costs": "#d55e00", "free": "#009e73", "gains": "#0072b2", "undecided": "#9a9a9a"}
_STATES = {INSIDE_FREE: "inside what looked free", NOT_AFFORDED: "not reached"}
_HOW = Markup(
    '<p class="key soft">removed: it adds nothing, or gives nothing; of a layer no branch adds '
    "anything, and norms behind the branches stay. mean: it gives its mean over some images, "
    "whatever the image. zero: its weights are zero, which it may never have met; the last resort."
    "</p>"
)


def model_map(study: Noted, ap: Mapping[str, Change]) -> Markup:
    """HTML that needs nothing but the page's own colors."""
    inside: dict[int | None, list[int]] = {}
    for number, one in enumerate(study.parts):
        inside.setdefault(one.parent, []).append(number)
    boxes = Markup().join(_box(study, inside, ap, number) for number in inside.get(None, ()))
    key = Markup().join(
        Markup('<span style="border-color: {}">{}</span>').format(color, word)
        for color, word in ((_COLORS[kind], word) for kind, word in _WORDS.items())
    )
    return Markup('{}<div class="map">{}</div><p class="key soft">{}dashed: not cut</p>{}').format(
        STYLE, boxes, key, _HOW
    )


def _box(
    study: Noted, inside: Mapping[int | None, list[int]], ap: Mapping[str, Change], number: int
) -> Markup:
    one = study.parts[number]
    change = ap.get(one.variant)
    kind = (change and change.outcome) or "uncut"
    children = inside.get(number, [])
    if change is None and not any(_is_cut(study, inside, ap, i) for i in children):
        children = []  # nothing inside was cut: one box says so
    inner = Markup().join(_box(study, inside, ap, i) for i in children)
    # What steered the study are verdicts one by one; the report's are adjusted for all of them.
    state = _STATES.get(one.state, one.state)
    number_told = state
    if change and change.change is not None:
        verdict = f"{_WORDS[kind]}: " if kind in _WORDS else ""  # not by its color alone
        number_told = f"{verdict}{change.change:+z.3f} AP, {one.how}{_zero(study, ap, one)}"
        if one.parent is not None and study.parts[one.parent].variant == one.variant:
            number_told = "the same cut as around it"
    return Markup(
        '<div class="part {}" title="{}"><span><b>{}</b> <small>{}</small></span>{}</div>'
    ).format(
        kind,
        line(f"{one.part}: {one.kind}, {one.how}"),
        line(_short(study, one)),
        number_told,
        Markup("<div>{}</div>").format(inner) if inner else "",
    )


def _zero(study: Noted, ap: Mapping[str, Change], one: NotedPart) -> str:
    """What the same part changes at zero, where that was cut beside its mean."""
    found = [ap[zero].change for zero, mean in study.zeros.items()
             if mean == one.variant and zero in ap]  # fmt: skip
    return f"; {found[0]:+z.3f}, zero" if found and found[0] is not None else ""


def _is_cut(
    study: Noted, inside: Mapping[int | None, list[int]], ap: Mapping[str, Change], number: int
) -> bool:
    return study.parts[number].variant in ap or any(
        _is_cut(study, inside, ap, i) for i in inside.get(number, ())
    )


def _short(study: Noted, one: NotedPart) -> str:
    """The name without that of the part around it."""
    if one.head is not None:
        return f"head {one.head}"
    if one.parent is None:
        return one.part
    return one.part.removeprefix(f"{study.parts[one.parent].part}.")
