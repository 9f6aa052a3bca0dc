"""Train calibrated confidence into weights, and export what was trained.

One subcommand a file. To add one: its module here, with a function of its name, and a line below.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from poise.cli.train.export import export
from poise.cli.train.prefs import prefs
from poise.cli.train.probe import probe
from poise.cli.train.rl import rl
from poise.cli.train.sft import sft

__all__ = ["train"]

SUBCOMMANDS: dict[str, Callable[..., None]] = {
    "sft": sft,
    "rl": rl,
    "prefs": prefs,
    "probe": probe,
    "export": export,
}

train = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help=__doc__)
for _name, _command in SUBCOMMANDS.items():
    train.command(_name)(_command)
