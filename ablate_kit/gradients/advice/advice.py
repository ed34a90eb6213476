"""A piece of advice, as a value."""

from dataclasses import dataclass

HARMLESS = "Harmless"


@dataclass(frozen=True)
class Advice:
    verdict: str  # that it is about, or "loss terms", "run"
    sentence: str
    tensors: tuple[str, ...]

    @property
    def harmless(self) -> bool:
        """Whether it says of its tensors that nothing is wrong with them."""
        return HARMLESS in self.sentence
