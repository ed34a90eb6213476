"""What an official file tells of its model: by its tensors, and by its training script's arguments.

The tensors' names and shapes decide nearly all. What they cannot tell (how many heads share a
projection) is an argument of the training script, which lies in files of training and not in those
that are published; without it, it is the repository's own default, and ``assumed`` says so.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.name_rules import NameRule
from ablate_kit.models.bridge.resnet import resnet_config
from ablate_kit.models.labels.classes import NO_CLASS, ClassNames

HEADS = 8  # of every published model
LARGEST = 999_999  # number that a file does not tell; all published ones are far below
_COCO = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra,
giraffe, , backpack, umbrella, , , handbag, tie, suitcase, frisbee, skis, snowboard, sports ball,
kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, , wine glass,
cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza,
donut, cake, chair, couch, potted plant, bed, , dining table, , , toilet, , tv, laptop, mouse,
remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, , book, clock, vase,
scissors, teddy bear, hair drier, toothbrush
"""

COCO_BY_ID = (NO_CLASS, *(name.strip() or NO_CLASS for name in _COCO.split(",")))
"""By category id, 0 to 90, of which 80 are classes."""
COCO_IN_ORDER = tuple(name for name in COCO_BY_ID if name != NO_CLASS)
"""The 80 classes, in the order of their ids."""


def _number(given: Any) -> Any:
    """As a number where it is written as one, of no more digits than are allowed."""
    text = str(given)
    return int(text) if text.isdecimal() and len(text) <= len(str(LARGEST)) else given


class Told:
    def __init__(
        self,
        checkpoint: Checkpoint,
        heads: int | None = None,
        classes: ClassNames | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            heads: of each attention, where the file does not tell.
            classes: of the outputs, where the file does not tell.
            arguments: of the training script, where the file does not tell.
        """
        self.checkpoint = checkpoint
        self.assumed: list[str] = []
        self._given = dict(arguments or {})
        self._used: set[str] = set()
        self.arguments: Mapping[str, Any] = checkpoint.settings
        self._heads, self._classes = heads, classes

    def __contains__(self, name: str) -> bool:
        return name in self.checkpoint.tensors

    def shape(self, name: str, dimensions: int = 2) -> tuple[int, ...]:
        """Of a tensor that must be there, with so many dimensions."""
        shape = tuple(self.checkpoint.tensor(name).shape)
        if len(shape) != dimensions:
            raise UserError(f'"{name}" is of shape {shape}; expected {dimensions} dimensions')
        return shape

    def rows(self, name: str, dimensions: int = 2) -> int:
        return self.shape(name, dimensions)[0]

    def count(self, prefix: str) -> int:
        """How many parts there are: the numbers after ``prefix`` and a dot, from 0 on."""
        pattern = re.compile(rf"{re.escape(prefix)}\.([0-9]+)\.")
        numbers = {int(m[1]) for name in self.checkpoint.tensors if (m := pattern.match(name))}
        if numbers != set(range(len(numbers))):
            raise UserError(f"{self.checkpoint} has {prefix} {sorted(numbers)}; expected 0, 1, ...")
        return len(numbers)

    def reads(self, name: str) -> None:
        """More arguments, which the file has under this name, and which count before the others."""
        more = self.checkpoint.archive.metadata.get(name)
        if isinstance(more, Mapping):
            self.arguments = {**self.arguments, **more}

    def _stated(self, argument: str, read: Callable[[Any], Any] = str) -> Any:
        """An argument, by the file or by whoever converts it, whose words ``read`` reads."""
        told, given = self.arguments.get(argument), self._given.get(argument)
        self._used.add(argument)
        if given is not None:
            given = read(given)
        if told is not None and given is not None and told != given:
            raise UserError(f"the file says {argument} {told!r}, and --set {given!r}")
        return given if told is None else told

    def choice(self, argument: str, options: Sequence[str], words: str) -> str:
        """One of some values, the first of them the repository's default, which may be given;
        ``words`` say what is assumed where neither that nor the file tells."""
        found = self._stated(argument)
        if found is None:
            self.assumed.append(words)
            return options[0]
        if found not in options:
            raise UserError(f"{argument} is {found!r}; expected {' or '.join(options)}")
        return str(found)

    @property
    def class_names_are_given(self) -> bool:
        """By whoever converts the file."""
        return self._classes is not None

    def number(self, argument: str, default: int, what: str) -> int:
        """An argument, which may be given; ``what`` says what is assumed where neither that nor
        the file tells."""
        said = self._stated(argument, _number)
        if said is None:
            self.assumed.append(f"{default} {what} (--set {argument})")
            return default
        if type(said) is not int or not 1 <= said <= LARGEST:
            raise UserError(f"{argument} is {said!r}; expected a number from 1 to {LARGEST:,}")
        return said

    def numbers(
        self, argument: str, default: Sequence[int], what: str, least: int = 1
    ) -> tuple[int, ...]:
        """Several, as ``number`` reads one; none is less than ``least``."""
        said = self.arguments.get(argument)
        if said is None:
            self.assumed.append(what.format(", ".join(map(str, default))))
            return tuple(default)
        if not isinstance(said, Sequence) or not all(
            type(one) is int and one >= least for one in said
        ):
            raise UserError(f"the file says {argument} {said!r}; expected numbers from {least} on")
        return tuple(said)

    def average_is_evaluated(self) -> None:
        """Notes that the repository evaluates the average, where the file has it beside these."""
        for other in self.checkpoint.alternatives:
            if other.is_average and other.tensors.keys() == self.checkpoint.tensors.keys():
                self.assumed.append(
                    f'the weights "{self.checkpoint.place}", where the repository evaluates their '
                    f"average (--weights {other.place})"
                )

    def heads(self, argument: str, width: int, default: int = HEADS) -> int:
        """Of each attention, by the argument of this name."""
        said = self.arguments.get(argument)
        if self._heads is not None and said not in (None, self._heads):
            raise UserError(f"the file says {argument} {said}, and --num-heads {self._heads}")
        found = said if self._heads is None else self._heads
        if found is None:
            self.assumed.append(f"{default} heads in each attention (--num-heads)")
            found = default
        if type(found) is not int or found < 1:
            raise UserError(f"the file says {argument} {found!r}; expected a positive number")
        if width % found:
            raise UserError(f"{found} heads do not divide {width} channels")
        return found

    def must(self, argument: str, *allowed: Any, words: str) -> None:
        """An argument for which only ``allowed`` values can be carried over, the first of them the
        repository's default; ``words`` say what is assumed where the file does not tell."""
        if argument not in self.arguments:
            self.assumed.append(words)
        elif self.arguments[argument] not in allowed:
            expected = " or ".join(map(repr, allowed))
            raise UserError(
                f"{argument} is {self.arguments[argument]!r}, which has no exact counterpart in "
                f"transformers; expected {expected}"
            )

    def classes(self, outputs: int, coco: tuple[str, ...] = COCO_BY_ID) -> tuple[str, ...]:
        """A name for each output: as told, or those of ``coco`` where there are as many."""
        if outputs < 1:
            raise UserError(f"{self.checkpoint} has no output for a class")
        numbered = tuple(f"class_{i}" for i in range(outputs))
        if self._classes is not None:
            return self._classes.of(numbered, f"{self.checkpoint}, whose classes count from 0")
        names = self.checkpoint.classes
        if names is not None and len(names) == outputs:
            return tuple(names)
        if outputs == len(coco):
            self.assumed.append(f"COCO's class names, for {outputs} outputs (--class-names)")
            return coco
        self.assumed.append(f"names class_0 to class_{outputs - 1} (--class-names)")
        return numbered

    def counterpart(
        self,
        config: Mapping[str, Any],
        processor: Mapping[str, Any],
        rules: tuple[NameRule, ...],
        dropped: tuple[str, ...] = (),
    ) -> Counterpart:
        """With all that was assumed until now.

        Raises ``UserError`` for an argument that was given and tells nothing of this model.
        """
        for name in self._given.keys() - self._used:
            known = f"; it takes {', '.join(sorted(self._used))}" if self._used else ""
            raise UserError(f"--set {name} tells nothing of {self.checkpoint}{known}")
        return Counterpart(config, processor, rules, dropped, assumed=tuple(self.assumed))

    def resnet(
        self, prefix: str, stages: Sequence[int], stem: str = "conv1", first: str = "layer1"
    ) -> dict[str, Any]:
        """The configuration of the ResNet at ``prefix``, of which ``stages`` are handed on; its
        ``stem`` and ``first`` stage have torchvision's names by default."""
        block, number = f"{prefix}.{first}.0", int(first[-1])
        bottleneck = f"{block}.conv3.weight" in self
        base = self.rows(f"{block}.conv1.weight", 4)
        last = "conv3" if bottleneck else "conv2"
        if self.rows(f"{block}.{last}.weight", 4) != base * (4 if bottleneck else 1):
            raise UserError(
                f"{self.checkpoint}: {prefix} is a wide ResNet, which transformers lacks"
            )
        if self.shape(f"{block}.conv2.weight", 4)[1] != base:
            raise UserError(f"{self.checkpoint}: {prefix} is a ResNeXt, which transformers lacks")
        return resnet_config(
            "bottleneck" if bottleneck else "basic",
            [self.count(f"{prefix}.{first[:-1]}{number + i}") for i in range(4)],
            base=base,
            stem=self.rows(f"{prefix}.{stem}.weight", 4),
            stages=stages,
        )
