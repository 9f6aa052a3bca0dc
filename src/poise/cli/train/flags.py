"""The flags of ``poise train sft``, each explained once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Targets(StrEnum):
    """What a confidence should become."""

    SSC = "ssc"
    CONSISTENCY = "consistency"
    P_TRUE = "p_true"
    LABELS = "labels"


class Losses(StrEnum):
    """How far a confidence is from it."""

    SMOOTH = "smooth"
    MSE = "mse"
    LOG = "log"
    TOKENISED_BRIER = "tokenised_brier"


class Wordings(StrEnum):
    """How the confidence is asked for."""

    OWN = "own"
    USER = "user"
    PROPOSED = "proposed"
    DIGIT = "digit"
    STATED = "stated"


class Adapted(StrEnum):
    """Which layers get an adapter."""

    QV = "qv"
    ALL = "all"


Pools = Annotated[list[Path], typer.Argument(help="Pool files with texts.", metavar="POOL…")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="The folder of this run.")]
Model = Annotated[
    str | None,
    typer.Option("-m", "--model", help=".gguf file or folder. Default: the embedded model."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Train nothing: say what it would take.")]
Target = Annotated[
    Targets,
    typer.Option("--target", help="ssc weighs agreement by P(True) where the pools keep it."),
]
Score = Annotated[
    bool, typer.Option("--score", help="Ask the untrained model for P(True) of samples first.")
]
Loss = Annotated[
    Losses | None,
    typer.Option(
        "--loss",
        help="Of the confidence. Default: smooth, for labels log. tokenised_brier, of digits, is"
        " prone to end on one.",
    ),
]
Wording = Annotated[
    Wordings,
    typer.Option(
        "--wording",
        help="Of the confidence question; digit: 0 to 9; stated: no question, the reply itself"
        " ends in a digit (the start of train rl).",
    ),
]
AnswerAbove = Annotated[
    float | None,
    typer.Option(
        "--answer-above",
        min=0.0,
        max=0.99,
        help="Stated confidences above are taken for an answer, others for abstaining, in the"
        " report. Default: 0.5.",
    ),
]
Weight = Annotated[float, typer.Option("--weight", min=0.0, help="Of the generation loss (omega).")]
Threshold = Annotated[
    float,
    typer.Option("--threshold", min=0.0, max=1.0, help="Targets above keep the response (eta)."),
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Train on the first N questions only.")
]
Rows = Annotated[
    int | None, typer.Option("--rows", min=1, help="Samples to train on. Default: 8 a question.")
]
Balance = Annotated[
    bool | None,
    typer.Option(
        "--balance/--no-balance",
        help="Rows evenly over 21 bins of the target. Default: for all targets but labels.",
    ),
]
Epochs = Annotated[float, typer.Option("--epochs", help="Passes over the rows.")]
Layers = Annotated[
    Adapted,
    typer.Option("--layers", help="That get an adapter: queries and values, or every linear one."),
]
Rate = Annotated[float, typer.Option("--lr", help="Peak learning rate of AdamW.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Rows at a time.")]
Accumulation = Annotated[int, typer.Option("--accumulation", min=1, help="Batches a step.")]
Longest = Annotated[int, typer.Option("--longest", min=8, help="Most tokens of a row.")]
HeldOut = Annotated[
    float, typer.Option("--held-out", help="Share of the questions never trained on.")
]
Segments = Annotated[
    list[str] | None,
    typer.Option("--hold-segment", help="Keep this segment out and measure on it; repeats."),
]
Others = Annotated[
    list[Path] | None,
    typer.Option("--eval", help="Pools of other questions to measure on as well; repeats."),
]
Questions = Annotated[
    int, typer.Option("--questions", min=1, help="Most questions measured of each set.")
]
InUse = Annotated[
    int | None,
    typer.Option(
        "--in-use",
        min=0,
        help="Fresh samples a measured question, to tell what stopping early gains; 0: leave out."
        " Default: 16, with --wording stated 0.",
    ),
]
Gap = Annotated[
    float, typer.Option("--gap", help="Least difference in probability between the two of a pair.")
]
Pairs = Annotated[int, typer.Option("--pairs", min=1, help="Most pairs of a question.")]
Beta = Annotated[
    float, typer.Option("--beta", help="How strongly the model is held to what it was.")
]
Draws = Annotated[
    int, typer.Option("--draws", min=1, help="Fresh samples of each measured question.")
]
SaveEvery = Annotated[int, typer.Option("--save-every", min=1, help="Steps between checkpoints.")]
CheckEvery = Annotated[
    int, typer.Option("--check-every", min=0, help="Steps between looks at accuracy; 0: none.")
]
Mixed = Annotated[
    bool, typer.Option("--mixed", help="Train with products in bfloat16; measured in full.")
]
Dtype = Annotated[str, typer.Option("--dtype", help="float32 or bfloat16.")]
ReportTo = Annotated[
    list[str] | None,
    typer.Option("--report-to", help="Tracker: trackio, wandb, mlflow, …; repeats."),
]
