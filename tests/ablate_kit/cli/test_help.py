"""The help: commands in groups, examples that are commands, the version."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer.main

from ablate_kit import __version__
from ablate_kit.cli.app import COMMANDS, GROUPS, app
from ablate_kit.cli.examples import EXAMPLES
from ablate_kit.cli.usage import error_message


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_examples_are_commands(line: str) -> None:
    words = shlex.split(line)
    assert words[0] == "ablate"
    group = typer.main.get_command(app(words[1:]))
    name, command, rest = group.resolve_command(group.make_context("ablate", words[1:]), words[1:])
    assert command is not None
    command.make_context(name, rest)  # raises where an option or argument is not one of its


def test_every_command_has_examples_of_its_own() -> None:
    groups = {"data"}  # of commands, which say their own
    assert EXAMPLES.keys() | groups == COMMANDS.keys() | {"ablate"}
    for name, lines in EXAMPLES.items():
        assert all(line.startswith(f"ablate {name}") for line in lines if name != "ablate")


def test_an_example_with_a_wrong_option_would_be_found() -> None:
    group = typer.main.get_command(app(["keys"]))
    _, command, rest = group.resolve_command(
        group.make_context("ablate", ["keys", "x", "--depth", "2"]), ["keys", "x", "--depth", "2"]
    )
    with pytest.raises(Exception, match="No such option") as caught:
        command.make_context("keys", rest)
    assert error_message(caught.value)


def test_the_help_groups_commands_and_shows_examples(run: Callable[..., str]) -> None:
    told = run("--help")
    at = [told.index(f" {title} ") for title in GROUPS]
    assert at == sorted(at)
    assert "ablate keys model.pth 'decoder.**'" in told
    assert "--install-completion" in told
    assert "ablate keys builtin:shapes_tiny --format tree --levels 2" in run("keys", "--help")


@pytest.mark.parametrize("command", ["report", "replicate", "shrink"])
def test_the_margin_of_what_goes_on_with_a_run_is_said_to_be_the_run_s(
    run: Callable[..., str], command: str
) -> None:
    told = " ".join(run(command, "--help").replace("│", " ").split())
    assert "counts as free; by default as in the run" in told


def test_the_version(run: Callable[..., str]) -> None:
    assert run("--version") == f"ablate {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_commands_and_options(shell: str) -> None:
    asked = {
        "bash": {"COMP_WORDS": "ablate gra", "COMP_CWORD": "1"},
        "zsh": {"_TYPER_COMPLETE_ARGS": "ablate gra"},
        "fish": {"_TYPER_COMPLETE_ARGS": "ablate gra", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    done = subprocess.run(
        [sys.executable, "-m", "ablate_kit"],
        env={**os.environ, **asked, "_ABLATE_COMPLETE": f"complete_{shell}"},
        capture_output=True,
        text=True,
    )
    assert "gradients" in done.stdout
    assert "graft" in done.stdout
