"""How the next token is drawn from a model's logits: temperature, truncation, EDT.

The order is llama.cpp's: what is left out is decided on the model's own probabilities, and only
then does temperature bend what is left. It does not know models, tokenizers or conversations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poise.errors import Rejected

if TYPE_CHECKING:
    import torch

__all__ = ["Decoding", "Edt"]

GREEDY = 1e-3
"""Below this temperature the likeliest token is taken."""


@dataclass(frozen=True, slots=True)
class Edt:
    """Entropy-based dynamic temperature: T(H) = t0 * m^(gamma / H), a token at a time.

    H is the entropy in nats of the model's own distribution over the next token, so that tokens it
    is sure of are drawn cooler (0 < m <= 1), and T nears ``t0`` where it is not. At H = 0 the
    likeliest token is taken. Source: EDT, Zhang et al. 2024, arXiv 2403.14541; Self-Calibration,
    arXiv 2503.00031, has t0 = m = 0.8, gamma = 1.
    """

    t0: float
    m: float
    gamma: float

    def temperatures(self, logits: torch.Tensor) -> torch.Tensor:
        """``logits`` (n, V), -inf for what cannot be drawn -> temperatures (n,), 0: greedy."""
        import torch  # noqa: PLC0415 - an optional extra, heavy to load

        # Not log-probabilities of the likeliest alone: sum of -p log p, 0 for what has none.
        entropy = torch.special.entr(logits.double().softmax(dim=-1)).sum(dim=-1)
        bent = self.t0 * torch.pow(self.m, self.gamma / entropy)
        return torch.where(entropy > 0, bent, torch.zeros_like(bent))


@dataclass(frozen=True, slots=True)
class Decoding:
    """What a request's decoding says, in this engine's words.

    ``temperature`` >= 0, or ``edt`` in its stead; ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 leave
    nothing out; ``ignore_eos``: a reply ends at ``max_tokens`` alone.
    """

    temperature: float = 1.0
    edt: Edt | None = None
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    max_tokens: int = 512
    ignore_eos: bool = False

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Decoding:
        """Raises Rejected for a key or a value that this engine does not know."""
        known = cls.__slots__
        for name in stated:
            if name not in known:
                raise Rejected(
                    f"decoding {name!r} is not known to the engine transformers; it has"
                    f" {', '.join(known)}"
                )
        if "edt" in stated and "temperature" in stated:
            raise Rejected("decoding: edt sets the temperature; state one of the two")
        edt = _edt(stated["edt"]) if "edt" in stated else None
        ends = stated.get("ignore_eos", False)
        if not isinstance(ends, bool):
            raise Rejected(f"decoding ignore_eos={ends!r}: must be true or false")
        return cls(
            temperature=_number(stated, "temperature", 1.0, 0.0, math.inf),
            edt=edt,
            top_k=_whole(stated, "top_k", 0, 0),
            top_p=_number(stated, "top_p", 1.0, 0.0, 1.0),
            min_p=_number(stated, "min_p", 0.0, 0.0, 1.0),
            max_tokens=_whole(stated, "max_tokens", 512, 1),
            ignore_eos=ends,
        )

    def draw(self, logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """``logits`` (n, V), ``uniform`` (n,) of float64 in [0, 1) -> token ids (n,).

        Logits are -inf for what cannot be drawn. A token is the one whose share of the cumulated
        probabilities its number falls into, so that the same number gives the same token.
        """
        import torch  # noqa: PLC0415 - an optional extra, heavy to load

        if self.edt is None:
            heat = torch.full(logits.shape[:1], self.temperature, device=logits.device)
        else:
            heat = self.edt.temperatures(logits)
        best = logits.argmax(dim=-1)
        greedy = heat < GREEDY
        if bool(greedy.all()):
            return best
        left, places = self._left(logits.double())
        bent = left / heat.double().clamp(min=GREEDY)[:, None]
        reached = bent.softmax(dim=-1).cumsum(dim=-1)
        wanted = uniform[:, None] * reached[:, -1:]
        place = torch.searchsorted(reached, wanted, right=True).clamp(max=left.shape[-1] - 1)
        drawn = place if places is None else places.gather(-1, place)
        return torch.where(greedy, best, drawn[:, 0])

    def _left(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits of what may be drawn, -inf for the rest; their ids where they are reordered."""
        import torch  # noqa: PLC0415

        places = None
        if 0 < self.top_k < logits.shape[-1]:
            logits, places = logits.topk(self.top_k, dim=-1)
        elif self.top_p < 1:
            logits, places = logits.sort(dim=-1, descending=True)
        if self.top_p < 1:
            shares = logits.softmax(dim=-1)
            before = shares.cumsum(dim=-1) - shares
            out = before >= self.top_p
            out[:, 0] = False  # the likeliest stays, whatever top_p
            logits = logits.masked_fill(out, -torch.inf)
        if self.min_p > 0:
            edge = logits.amax(dim=-1, keepdim=True) + math.log(self.min_p)
            logits = logits.masked_fill(logits < edge, -torch.inf)
        return logits, places


def _edt(stated: Any) -> Edt:
    names = ("t0", "m", "gamma")
    if not isinstance(stated, Mapping) or set(stated) != set(names):
        raise Rejected("decoding edt: must be an object of t0, m and gamma")
    t0 = _number(stated, "t0", 0.0, 0.0, math.inf)
    m, gamma = _number(stated, "m", 1.0, 0.0, 1.0), _number(stated, "gamma", 0.0, 0.0, math.inf)
    if t0 == 0 or m == 0:
        raise Rejected(f"decoding edt: t0={t0} and m={m} must be above 0")
    return Edt(t0, m, gamma)


def _number(
    stated: Mapping[str, Any], name: str, default: float, least: float, most: float
) -> float:
    value = stated.get(name, default)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:
        limits = f">= {least:g}" if most == math.inf else f"in [{least:g}, {most:g}]"
        raise Rejected(f"decoding {name}={value!r}: must be a finite number {limits}")
    return float(value)


def _whole(stated: Mapping[str, Any], name: str, default: int, least: int) -> int:
    value = stated.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise Rejected(f"decoding {name}={value!r}: must be a whole number >= {least}")
    return value
