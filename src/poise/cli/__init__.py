"""The command line: one verb per file, loaded only when it is called.

``poise --help`` must start at once, so the list of verbs stands here and nothing heavy is imported
to print it.
"""

from __future__ import annotations

import importlib
import os
import sys
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["VERBS", "main"]

VERBS = {
    "ask": "One question: an answer, and how sure.",
    "run": "A file of questions: results, sampling each only as much as it needs.",
    "fit": "Labelled pools: a profile that makes probabilities, with its held-out numbers.",
    "replay": "Policies on stored pools: accuracy against everything spent.",
    "tune": "Thresholds for a target, with a certificate, or refused.",
    "sample": "A file of questions: a pool file with N samples of each.",
    "score": "Stored answers: signals and probabilities, without generating anything.",
    "report": "The card: how true probabilities are; from a profile or graded pools.",
    "serve": "The gateway: OpenAI's API, with a probability on every answer.",
    "outcome": "A late truth, attached to an answer of the gateway.",
    "train": "Calibrated confidence into the weights: train, and export what was trained.",
    "label": "Which stored answers to label next, out and in as CSV.",
}


class _Verbs(TyperGroup):
    """Imports a verb's module when it is called; lists verbs without importing any."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        return TyperCommand(name=cmd_name, help=VERBS[cmd_name], rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name in VERBS:
            module = importlib.import_module(f"poise.cli.{name}")
            verb = getattr(module, name)
            app = verb
            if not isinstance(verb, typer.Typer):
                app = typer.Typer(add_completion=False, rich_markup_mode=None)
                app.command(name, help=module.__doc__)(verb)
            command = typer.main.get_command(app)
            command.name = name
        return name, command, rest


app = typer.Typer(
    cls=_Verbs,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as Typer calls it
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - only if asked

        print(f"poise {version('poise')}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(  # noqa: FBT001 - a flag; its callback does the work
        False,  # noqa: FBT003
        "--version",
        help="Print the version and stop.",
        is_eager=True,
        callback=_print_version,
    ),
) -> None:
    """A probability you can trust on a language model's answer, and compute spent by it."""


def main() -> None:
    """Entry point: one line per error, exit codes as documented (see ``errors``)."""
    # Read when numpy is first imported. Our matrices are small: a thread a core only waits for the
    # others, many times over where something else runs on the machine. (OMP_NUM_THREADS is left
    # alone: at 1 it makes llama.cpp ten times slower.)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Read when llama.cpp or PyTorch is first loaded. Threads that wait for others in a busy loop
    # take the core that the others need: beside another job both are several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, TextIOWrapper):
        # Half a surrogate pair in a model's text is no reason to lose the answer it is in.
        sys.stdout.reconfigure(errors="replace")
    try:
        app(prog_name="poise")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if code is None:
            raise
        print(f"poise: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        sys.exit(code)
