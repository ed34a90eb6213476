"""From a run that has ended to the runs of the same cuts in other checkpoints, side by side."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate_kit import text as safe
from ablate_kit.checkpoints.digest import checkpoint_digest
from ablate_kit.checkpoints.hub import is_hub_id
from ablate_kit.checkpoints.naming import names_of
from ablate_kit.errors import UserError
from ablate_kit.file_names import files_in
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.frameworks import own_code
from ablate_kit.plural import counted
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.estimates.sweep_size import size_of
from ablate_kit.sweeps.open_sweep import OpenSweep, open_sweep
from ablate_kit.sweeps.recipes.model_section import ModelSection
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe, load_sweep
from ablate_kit.sweeps.replications.replication import (
    Replication,
    refuse_other_cuts,
    refuse_unfit,
    refuse_unlike,
    replication,
    same_weights,
)
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.sweep_folder import begin
from detector.disk.atomic import new_text
from detector.disk.visible import is_of_macos
from detector.zoo import BUILTIN

MARK = "replication.json"  # in the folder of a replication


@dataclass(frozen=True)
class Replicas:
    """What a replication is of: a run, and what it is compared with.

    Attributes:
        run: folder of the first run.
        others: checkpoints, and folders of runs.
        swept: by number of ``others``, the folder of the run that is to be made of a checkpoint.
        names: of all in tables, the first run's before.
        folder: of the replication.
        recipe: of the first run; None where no checkpoint is to be cut.
    """

    run: Path
    others: Sequence[Path]
    swept: Mapping[int, Path]
    names: Sequence[str]
    folder: Path
    recipe: SweepRecipe | None

    @staticmethod
    def of(
        run: Path, others: Sequence[Path], runs: Sequence[bool], folder: Path | None
    ) -> "Replicas":
        """``runs``: which of the others are runs; ``folder``: by default beside the first run.

        Raises:
            UserError: something is given twice, the first run is not finished, is a race or has no
                recipe that other checkpoints could follow, or the folder holds something else.
        """
        refuse_unfit(Ledger.existing(run))
        given = [run, *others]
        names = names_of(given, "a checkpoint or run")
        models = [
            _model(one) if known else one for one, known in zip(given, [True, *runs], strict=True)
        ]
        folder = folder or run.with_name(f"{run.name}-replicated")
        _refuse_other(folder)
        before = _made_before(folder)
        if len({*map(str, models)}) == len(given):
            # Those that were cut before keep their names from the others: checkpoint-500 of two.
            there = {*map(_place_of, models)}
            more = [Path(one) for one in before if one not in there]
            names = names_of([*models, *more], "a checkpoint")[: len(given)]
        plain = [one.replace("/", "-") for one in names[1:]]
        places = files_in(folder, plain, what="checkpoints", taken=("report", "replication"))
        swept = {
            i: before.get(_place_of(others[i]), place)
            for i, place in enumerate(places)
            if not runs[i]
        }
        return Replicas(run, others, swept, names, folder, _recipe(run) if swept else None)

    def section(self, number: int, **given: Any) -> ModelSection:
        """A checkpoint as ``model`` of a recipe; what is not ``given`` is as of the first run.

        Raises:
            UserError: code of one's own ran the first, which is not in its recipe.
        """
        own = {name: value for name, value in given.items() if value}
        ran = str(Ledger.existing(self.run).inputs.get("framework", ""))
        if ran.startswith(f"{own_code.NAME}:") and "framework" not in own:
            raise UserError(
                f"code of your own ran the model of {self.run}; name it for the others, too: "
                f"--model {ran}"
            )
        return self._swept_by.model.model_copy(
            update={"checkpoint": str(self.others[number]), **own}
        )

    @contextmanager
    def opened(
        self, number: int, model: ModelSection, placement: Placement, adapter: Adapter | None = None
    ) -> Iterator[OpenSweep]:
        """The first run's sweep with another checkpoint; hold ``Ledger.locked`` of its folder."""
        recipe = self._swept_by.model_copy(update={"model": model})
        threads = Ledger.threads(self.swept[number])
        with open_sweep(recipe, placement, threads=threads, adapter=adapter) as opened:
            yield opened

    def begin(self, number: int, opened: OpenSweep, command: str) -> Ledger:
        """The run of another checkpoint, in its folder.

        Raises:
            UserError: it could not be compared with the first; nothing of it is written then.
        """

        def check(inputs: Mapping[str, Any]) -> None:
            before, other = self._before(number), self.others[number]
            refuse_unlike(before, other, inputs)
            if not size_of(opened).later:
                refuse_other_cuts(before[0], other, opened.variants)
            self.claim()

        return begin(opened, self.swept[number], command, check=check)

    @property
    def _swept_by(self) -> SweepRecipe:
        if self.recipe is None:
            raise ValueError("no checkpoint is to be cut")
        return self.recipe

    def claim(self) -> None:
        """Makes the folder, or goes on with it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {"run": str(self.run.absolute()), "others": [str(one) for one in self.others]}
        new_text(self.folder / MARK, safe.to_json(about, 1) + "\n", overwrite=True)

    def compared(
        self,
        sections: Mapping[int, ModelSection],
        sweep: Callable[[int, Path], None],
        statistics: Statistics,
    ) -> Replication:
        """What all runs come to.

        Args:
            sections: the checkpoints that are to be cut, by number.
            sweep: makes the run of one of these, by number and folder.

        Raises:
            UserError: see ``replication``.
        """
        given = self._before(0)
        for number, ledger in enumerate(given[1:], start=1):  # before hours of sweeps
            refuse_unfit(ledger)
            refuse_unlike(given[:number], ledger.folder, ledger.inputs)
        self._refuse_same(given, sections)
        for number, folder in self.swept.items():
            sweep(number, folder)
        places = [self.swept.get(number, other) for number, other in enumerate(self.others)]
        return replication(
            [Ledger.existing(one) for one in (self.run, *places)], self.names, statistics
        )

    def _refuse_same(self, given: Sequence[Ledger], sections: Mapping[int, ModelSection]) -> None:
        """Two of the same weights, as far as files tell before they are converted."""
        known = {(one.inputs["checkpoint"], one.inputs["weights"]): one.folder for one in given}
        for number, section in sections.items():
            if is_hub_id(section.checkpoint):
                continue
            with section.opened() as checkpoint:
                key = checkpoint_digest(checkpoint), checkpoint.place
            if key in known:
                raise same_weights(known[key], self.others[number])
            known[key] = self.others[number]

    def _before(self, number: int) -> list[Ledger]:
        """The runs that are there when a checkpoint is swept, the first run before all."""
        given = [one for i, one in enumerate(self.others) if i not in self.swept]
        swept = [folder for i, folder in self.swept.items() if i < number]
        return [Ledger.existing(one) for one in (self.run, *given, *swept)]


def told(found: Replication) -> list[str]:
    """What to note beside the numbers."""
    notes = []
    if left := found.only_in_some:
        notes.append(f"not all runs have {counted(len(left), 'cut')}, such as {left[0]}")
    for how, others in found.of_others.items():
        are = "is" if len(others) == 1 else "are"
        notes.append(
            f"{counted(len(others), 'cut')} {are} of other parts in each checkpoint"
            f"{how and f', chosen there {how}'}, such as {others[0]}"
        )
    return notes


def _refuse_other(folder: Path) -> None:
    """Raises ``UserError`` for a folder that holds something else than a replication."""
    if (folder / MARK).exists() or not folder.exists():
        return
    if not folder.is_dir() or not all(is_of_macos(one.name) for one in folder.iterdir()):
        raise UserError(f"{folder} holds something else; choose another folder with -o")


def _made_before(folder: Path) -> dict[str, Path]:
    """The runs that earlier calls left in the folder of a replication, by their checkpoints: what
    these are called depends on which others are given."""
    found = {}
    for inputs in sorted(folder.glob("*/inputs.json")):
        run = inputs.parent
        if (run / "recipe.yaml").exists():
            found[_place_of(Path(load_sweep(run / "recipe.yaml").model.checkpoint))] = run
    return found


def _place_of(checkpoint: Path) -> str:
    named = is_hub_id(checkpoint) or str(checkpoint).startswith(BUILTIN)
    return str(checkpoint) if named else os.path.abspath(checkpoint)  # noqa: PTH100 - as names_of


def _model(run: Path) -> Path:
    """What a run is of; the run itself where it does not say."""
    ledger = Ledger.existing(run)
    said: Mapping[str, Any] | None = ledger.manifest().model if ledger.finished else None
    return Path(str(said["checkpoint"])) if said and said.get("checkpoint") else run


def _recipe(run: Path) -> SweepRecipe:
    path = run / "recipe.yaml"
    if not path.exists():
        raise UserError(
            f"{run} has no recipe.yaml, by which its cuts could be made again; sweep the other "
            "checkpoints by the same cuts, and give these runs"
        )
    recipe = load_sweep(path)
    for name in ("screen", "patch"):
        if getattr(recipe, name):
            raise UserError(f"{path}: {name} is about this checkpoint alone; give a run without")
    return recipe
