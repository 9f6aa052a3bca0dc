"""Question sets with gold answers: one file each, made from a seed or read from a local file.

``TASKS`` maps a name to its class; ``TASKS[name](...).load()`` gives ``Labelled`` questions and
``write`` puts them into a question file. ``python -m poise.tasks`` does the same from a shell.
"""

from __future__ import annotations

from poise.tasks.aqua import Aqua
from poise.tasks.arc import Arc
from poise.tasks.arithmetic import Arithmetic
from poise.tasks.facts import Facts
from poise.tasks.gsm8k import Gsm8k
from poise.tasks.jsonl import Jsonl
from poise.tasks.labelled import Labelled, Task, write
from poise.tasks.mathqa import MathQa
from poise.tasks.mawps import Mawps
from poise.tasks.misconceptions import Misconceptions
from poise.tasks.objectcount import ObjectCount
from poise.tasks.strategyqa import StrategyQa
from poise.tasks.svamp import Svamp
from poise.tasks.words import Words

__all__ = ["TASKS", "Labelled", "Task", "write"]

_ALL: tuple[type[Task], ...] = (
    Arithmetic,
    Facts,
    Words,
    Misconceptions,
    Gsm8k,
    Svamp,
    Mawps,
    MathQa,
    Aqua,
    Arc,
    ObjectCount,
    StrategyQa,
    Jsonl,
)
TASKS: dict[str, type[Task]] = {task.name: task for task in _ALL}
