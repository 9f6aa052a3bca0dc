"""The flags that several verbs share, each spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from poise.errors import UsageError
from poise.policies.bounds import MOST_SAMPLES
from poise.signals import signal
from poise.types import Kind

Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="Model name on the server, an alias of the configuration, a .gguf file,"
        " transformers:[MODEL][+ADAPTER] (PyTorch: a .gguf file or folder, the embedded model where"
        " none is named, and what train wrote), or stored:POOL.jsonl. Default: the embedded model.",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", help="An OpenAI-compatible server, e.g. http://localhost:8000/v1."),
]
KeyEnv = Annotated[
    str | None,
    typer.Option("--api-key-env", help="Environment variable that holds the server's key."),
]
Policy = Annotated[
    str | None,
    typer.Option(
        "--policy",
        help="Stop rule, as in fixed, beta:threshold=0.95 or value:price=0.002, and perhaps an exit"
        " rule: + abstain:threshold=0.8. docs/policies.md lists them. Default: beta.",
    ),
]
KindFlag = Annotated[
    Kind | None,
    typer.Option("--kind", help="What sort of answer is wanted; default: the file's, or inferred."),
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", min=0.0, max=10.0, help="Default: 0.8.")
]
Edt = Annotated[
    str | None,
    typer.Option(
        "--edt",
        metavar="T0,M,GAMMA",
        help="Entropy-based dynamic temperature in place of a fixed one, with -m transformers:…;"
        " 0.8,0.8,1 is Self-Calibration's.",
    ),
]
System = Annotated[str | None, typer.Option("--system", help="System message of the arm.")]
MaxSamples = Annotated[
    int | None,
    typer.Option(
        "--max-samples",
        min=1,
        max=MOST_SAMPLES,
        help="Most samples per question. Default: the policy's own (beta: 40).",
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        help="Cap on all tokens of a question, prompts and replies of every sample.",
    ),
]
ReplyTokens = Annotated[
    int | None,
    typer.Option(
        "--reply-tokens", help="Most tokens of one reply. Default: 24 embedded, 512 otherwise."
    ),
]
MaxSeconds = Annotated[
    float | None, typer.Option("--max-seconds", help="Deadline for each question.")
]
MaxUsd = Annotated[
    float | None,
    typer.Option("--max-usd", help="Cap per question in dollars; needs [prices] in the config."),
]
ProfileFile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help="Profile that makes probabilities, or none. Default: the embedded model's own.",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option("--budget", help="Cap for the whole file: 5000samples, 2e5tokens or 3usd."),
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", min=1, max=10_000, help="Questions worked on at once.")
]
Limit = Annotated[int | None, typer.Option("--limit", help="Only the first N questions.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an existing output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Count unusable lines and go on, instead of refusing.")
]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=2**32 - 1, help="Fixes every draw the server lets be fixed."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file, e.g. poise.toml.")
]
Signals = Annotated[
    str | None,
    typer.Option(
        "--signals", help="Signals by name, separated by commas, e.g. agreement,leader_p_true."
    ),
]


def one_signal(text: str | None, default: str) -> str:
    """The one signal of pools or questions in ``--signals``. Raises UsageError for any other."""
    names = listed(text) or (default,)
    if len(names) > 1:
        raise UsageError("--signals: one signal at a time is looked at here; name one")
    if signal(names[0]).level == "sample":
        raise UsageError(f"--signals {names[0]} is of single samples; name leader_{names[0]}")
    return names[0]


def edt(text: str | None) -> dict[str, float] | None:
    """The numbers of ``--edt``; None where the flag was not given. Raises UsageError."""
    if text is None:
        return None
    try:
        t0, m, gamma = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"--edt {text}: write three numbers T0,M,GAMMA, as in 0.8,0.8,1") from None
    return {"t0": t0, "m": m, "gamma": gamma}


def listed(text: str | None) -> tuple[str, ...] | None:
    """The names in ``--signals``; None where the flag was not given. Raises UsageError."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UsageError("--signals names no signal; separate names by commas")
    if len(set(names)) < len(names):
        raise UsageError("--signals names a signal twice")
    return names
