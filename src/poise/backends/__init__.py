"""The only callers of models. Each back-end makes one attempt a call (see ``types.Backend``)."""

from __future__ import annotations

from poise.backends.http import Http
from poise.backends.llamacpp import LlamaCpp, embedded
from poise.backends.scripted import Scripted
from poise.backends.stored import Stored
from poise.backends.transformers import Transformers

__all__ = ["BACKENDS", "Http", "LlamaCpp", "Scripted", "Stored", "Transformers", "embedded"]

BACKENDS = {
    "http": Http,
    "llamacpp": LlamaCpp,
    "scripted": Scripted,
    "stored": Stored,
    "transformers": Transformers,
}
