"""``poise train export``: an adapter merged into its base, for transformers and for llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from poise.cli import options
from poise.cli.train.extra import needed


def export(
    run: Annotated[Path, typer.Argument(help="What train sft wrote, or an adapter's folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")],
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", help="The base: .gguf file or folder. Default: embedded."),
    ] = None,
    as_json: options.AsJson = False,  # noqa: FBT002 - a flag
) -> None:
    """Merged weights in a folder, and a .gguf file that llama.cpp serves, with their parity."""
    with needed():
        from poise.train import export as exporting  # noqa: PLC0415 - an optional extra, heavy
        from poise.train.model import load, open_adapter  # noqa: PLC0415
    adapted = open_adapter(load(model), run)
    made = exporting.export(adapted, output).to_dict()
    print(json.dumps(made) if as_json else json.dumps(made, indent=1))  # noqa: T201
