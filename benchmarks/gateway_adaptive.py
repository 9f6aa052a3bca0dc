"""What adaptive sampling buys through the gateway: against always drawing 8, on the embedded model.

Questions with gold answers go through a running gateway by the official client, first to an alias
that draws 8 of each, then to one that stops by a policy; the same questions, two at a time, one
after the other in blocks that take turns, so that a noisy machine hits both. Tokens are those of
``usage``; accuracy differences are paired, their intervals a bootstrap over questions.

    python benchmarks/gateway_adaptive.py [--questions FILE] [-n 150] [--policy value:price=0.002]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from openai import AsyncOpenAI

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gateway_server import Serving
from poise.config import Alias, Config, Embedded, Store
from poise.grading import grade
from poise.pools import read_questions
from poise.types import Kind

BLOCK = 25
AT_ONCE = 2


async def _ask(client: AsyncOpenAI, model: str, question: Any) -> dict[str, Any]:
    started = time.perf_counter()
    reply = await client.chat.completions.create(
        model=model, messages=[dict(message) for message in question.messages]
    )
    poise: dict[str, Any] = reply.model_extra["poise"]  # type: ignore[index]
    assert reply.usage is not None
    return {
        "seconds": time.perf_counter() - started,
        "prompt": reply.usage.prompt_tokens,
        "generated": reply.usage.completion_tokens,
        "samples": poise["n_samples"],
        "answer": poise["answer"],
        "probability": poise["probability"],
    }


async def _block(url: str, model: str, questions: list[Any]) -> list[dict[str, Any]]:
    client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=600)
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(question: Any) -> dict[str, Any]:
        async with turn:
            return await _ask(client, model, question)

    try:
        return list(await asyncio.gather(*(one(question) for question in questions)))
    finally:
        await client.close()


def main() -> None:
    """Measure, print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", required=True)
    parser.add_argument("-n", type=int, default=150)
    parser.add_argument("--policy", action="append")
    parser.add_argument("--profile", help="for the first policy; the shipped one by default")
    given = parser.parse_args()
    labelled = list(read_questions(given.questions))[: given.n]
    policies = {"fixed-8": "fixed:max_samples=8"}
    policies |= {text: text for text in given.policy or ()}
    policies["shipped"] = ""
    aliases = tuple(
        Alias(
            name=name,
            kind=Kind.NUMBER,
            policy=text or None,
            profile=None if not text else "none",
        )
        for name, text in policies.items()
    )
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in policies}
    took = dict.fromkeys(policies, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            alias=aliases,
            embedded=Embedded(threads=1),
            store=Store(path=str(Path(folder) / "p.db")),
        )
        with Serving(config) as gateway:
            for start in range(0, len(labelled), BLOCK):
                questions = [one.question for one in labelled[start : start + BLOCK]]
                for name in policies:
                    started = time.perf_counter()
                    seen[name] += asyncio.run(_block(gateway.base_url, name, questions))
                    took[name] += time.perf_counter() - started
    _report(seen, took, labelled)


def _report(
    seen: dict[str, list[dict[str, Any]]], took: dict[str, float], labelled: list[Any]
) -> None:
    rng = np.random.default_rng(0)
    right = {
        name: np.array(
            [
                float(grade(one["answer"], line.gold, Kind.NUMBER).correct or 0)
                for one, line in zip(replies, labelled, strict=True)
            ]
        )
        for name, replies in seen.items()
    }
    base = right["fixed-8"]
    draws = rng.integers(len(base), size=(2000, len(base)))
    rows = []
    for name, replies in seen.items():
        difference = (right[name] - base)[draws].mean(axis=1)
        low, high = np.quantile(difference, (0.025, 0.975))
        seconds = sorted(one["seconds"] for one in replies)
        row = {
            "policy": name,
            "n": len(replies),
            "samples": sum(one["samples"] for one in replies),
            "prompt_tokens": sum(one["prompt"] for one in replies),
            "generated_tokens": sum(one["generated"] for one in replies),
            "seconds": took[name],
            "median_s": statistics.median(seconds),
            "p95_s": seconds[int(0.95 * len(seconds))],
            "accuracy": float(right[name].mean()),
            "difference": float((right[name] - base).mean()),
            "interval": [float(low), float(high)],
            "calibrated": sum(one["probability"] is not None for one in replies),
        }
        rows.append(row)
        print(
            f"{name:28} samples {row['samples']:5} generated {row['generated_tokens']:6}"
            f" prompt {row['prompt_tokens']:6} total {row['seconds']:6.1f} s median"
            f" {row['median_s']:.2f} p95 {row['p95_s']:.2f} accuracy {row['accuracy']:.3f}"
            f" ({row['difference']:+.3f}, {low:+.3f} to {high:+.3f})"
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
