"""The flags of ``poise train rl`` that no other training has, each explained once."""

from __future__ import annotations

from typing import Annotated

import typer

Adapter = Annotated[
    str,
    typer.Option(
        "--adapter",
        help="The folder of train sft --wording stated to start from; none: a new adapter.",
    ),
]
Reward = Annotated[
    list[str] | None,
    typer.Option(
        "--reward",
        metavar="NAME=WEIGHT",
        help="A reward of docs/rewards.md with its weight; repeats. Default: correctness=1 brier=1"
        " formatted=0.1.",
    ),
]
Split = Annotated[
    bool,
    typer.Option(
        "--split",
        help="The confidence's rewards reach the tokens of the statement alone, all others the"
        " rest (formatted both).",
    ),
]
Mix = Annotated[
    float | None,
    typer.Option(
        "--mix",
        min=0.0,
        max=1.0,
        help="Target of the reward capability, from 0, this answer, to 1, the others. Default: 1.",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Train on a sum of rewards that is refused as gameable.")
]
Group = Annotated[int, typer.Option("--group", min=2, help="Replies to each question.")]
PerStep = Annotated[int, typer.Option("--questions-per-step", min=1, help="Questions of a step.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Optimizer steps.")]
Rate = Annotated[float, typer.Option("--lr", help="Learning rate of AdamW, constant.")]
Kl = Annotated[
    float, typer.Option("--kl", min=0.0, help="Weight of the distance to the starting model.")
]
Temperature = Annotated[
    float,
    typer.Option("--temperature", help="Of the replies that are trained on; 1: as the model is."),
]
ReplyTokens = Annotated[
    int | None,
    typer.Option(
        "--reply-tokens",
        min=1,
        help="Most tokens of a reply before its statement. Default: as the pools were drawn.",
    ),
]
Batch = Annotated[
    int | None,
    typer.Option("--batch", min=1, help="Replies at a time in the loss. Default: a whole step's."),
]
Draws = Annotated[
    int, typer.Option("--draws", min=1, help="Fresh replies to each question that is measured.")
]
