"""How the replies of a script arrive: spread over time, counted by a meter, heard word by word.

It knows no faults and no draws: what arrives is decided in ``scripted``.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poise.types import Meter

__all__ = ["Arriving", "Chunk", "Listen", "arrive", "chunks", "words"]

Chunk = Mapping[str, Any]
"""One chunk of a streamed chat completion."""

Listen = Callable[[Chunk], None]

PROGRESS_STEPS = 32
"""How often, at most, a call with latency reports what arrived: fine enough to cancel in between,
coarse enough that many calls at once do not crowd the event loop."""


def words(text: str) -> list[str]:
    """Words with the white space before them (the last one: also after), so that they join up."""
    return re.findall(r"\s*\S+(?:\s+\Z)?", text)


@dataclass(frozen=True, slots=True)
class Arriving:
    """What of one reply arrives, evenly over ``seconds``; ``chunks``: as it is heard."""

    tokens: int
    seconds: float
    chunks: tuple[Chunk, ...]

    def due(self, count: int, passed: float) -> int:
        """How many of ``count`` pieces have arrived after ``passed`` seconds."""
        return count if passed >= self.seconds else int(count * passed / self.seconds)


async def arrive(parts: Sequence[Arriving], meter: Meter | None, listen: Listen | None) -> None:
    """Let all parts pass side by side, telling the meter and the listener on the way."""
    total = max((part.seconds for part in parts), default=0.0)
    most = max(sum(part.tokens for part in parts), sum(len(part.chunks) for part in parts))
    told, heard = 0, [0] * len(parts)

    def tell(passed: float) -> None:
        nonlocal told
        due = sum(part.due(part.tokens, passed) for part in parts)
        if meter is not None and due > told:
            meter.received(due - told)
        told = due
        if listen is None:
            return
        fresh = [
            (place, index, part.chunks[place])
            for index, part in enumerate(parts)
            for place in range(heard[index], part.due(len(part.chunks), passed))
        ]
        for place, index, chunk in sorted(fresh, key=lambda one: one[:2]):
            heard[index] = place + 1
            listen(chunk)

    if total > 0:
        loop = asyncio.get_running_loop()
        start = loop.time()
        watched = meter is not None or listen is not None
        steps = max(1, min(most, PROGRESS_STEPS)) if watched else 1
        for step in range(1, steps + 1):
            # Against the start and not the last step, or the sleeps' lateness would add up.
            await asyncio.sleep(start + total * step / steps - loop.time())
            tell(total * step / steps)
    tell(math.inf)


def chunks(raw: Mapping[str, Any]) -> tuple[Chunk, ...]:
    """A whole choice as the chunks of a stream: the words, the tool calls, why it ended."""
    message = raw.get("message") or {}
    text = message.get("content") or ""
    said = [{"content": word} for word in words(text) or filter(None, [text])]
    calls = [{"index": place, **call} for place, call in enumerate(message.get("tool_calls") or ())]
    deltas: list[dict[str, Any]] = [*said, *([{"tool_calls": calls}] if calls else []), {}]
    deltas[0] = {"role": "assistant", **deltas[0]}
    entries = (raw.get("logprobs") or {}).get("content") or []
    made = []
    for place, delta in enumerate(deltas):
        last = place == len(deltas) - 1
        choice = {"index": raw.get("index", 0), "delta": delta, "finish_reason": None}
        if last:
            choice["finish_reason"] = raw.get("finish_reason")
        elif place < len(entries):
            choice["logprobs"] = {"content": [entries[place]]}
        made.append({"object": "chat.completion.chunk", "choices": [choice]})
    return tuple(made)
