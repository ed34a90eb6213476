"""Options that commands share: what Typer sees of a group, and what the command is given."""

import inspect
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from ablate_kit.cli.option_groups import with_groups


@dataclass(frozen=True, kw_only=True)
class Base:
    limit: Annotated[int | None, typer.Option(help="Only the first N.", min=1)] = None


@dataclass(frozen=True, kw_only=True)
class Group(Base):
    shapes: Annotated[bool, typer.Option("--shapes", help="The built-in ones.")] = False


def command(name: str, *, before: int = 1, group: Group, after: str = "z") -> None:
    """What it does."""
    typer.echo(f"{name} {before} {group} {after}")


def run(*words: str) -> str:
    app = typer.Typer()
    app.command()(with_groups(command))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.output


def test_options_of_a_group_stand_where_the_group_stands() -> None:
    names = list(inspect.signature(with_groups(command)).parameters)
    assert names == ["name", "before", "limit", "shapes", "after"]
    told = run("--help")
    assert "What it does." in told
    assert told.index("--before") < told.index("--limit") < told.index("--shapes")
    assert "Only the first N." in told


def test_a_group_may_have_a_heading_below_the_options_of_the_command() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Headed(Group):
        PANEL: ClassVar[str] = "What is seen"
        margin: Annotated[int, typer.Option(rich_help_panel="Statistics")] = 1

    def headed(*, group: Headed, after: int = 2) -> None:
        typer.echo(f"{group.limit} {after}")

    headed.__annotations__["group"] = Headed
    app = typer.Typer()
    app.command()(with_groups(headed))
    told = CliRunner().invoke(app, ["--help"]).output
    words = ("--after", "What is seen", "--limit", "--shapes", "Statistics", "--margin")
    places = [told.index(word) for word in words]
    assert places == sorted(places)
    assert "What is seen" not in run("--help")  # of the group that it derives from


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("x",), "x 1 Group(limit=None, shapes=False) z"),
        (("x", "--shapes", "--limit", "3"), "x 1 Group(limit=3, shapes=True) z"),
    ],
)
def test_the_command_is_given_the_group(words: tuple[str, ...], told: str) -> None:
    assert run(*words).strip() == told


def test_a_group_checks_its_options() -> None:
    app = typer.Typer()
    app.command()(with_groups(command))
    assert CliRunner().invoke(app, ["x", "--limit", "0"]).exit_code == 2


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_numbers_are_finite_in_every_command(value: str) -> None:
    def measured(
        *,
        own_share: Annotated[float, typer.Option(min=0)] = 0.5,
        other: Annotated[float | None, typer.Option()] = None,
    ) -> None:
        typer.echo(f"{own_share} {other}")

    app = typer.Typer()
    app.command()(with_groups(measured))
    assert CliRunner().invoke(app, ["--other", "2"]).output == "0.5 2.0\n"
    for option in ("--own-share", "--other"):
        result = CliRunner().invoke(app, [f"{option}={value}"])
        if value == "-inf" and option == "--own-share":  # which Typer sees
            assert result.exit_code == 2
        else:
            assert str(result.exception) == f"{option} is {value}; expected a finite number"
