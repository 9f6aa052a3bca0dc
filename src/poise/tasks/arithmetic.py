"""Graded arithmetic: sums of one to three digits, from easy to out of a small model's reach.

Made from a seed. No sum is asked twice, and 3 + 5 and 5 + 3 are the same sum. Knows nothing about
models or prompts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import ClassVar

from poise.errors import UsageError
from poise.tasks.labelled import Labelled
from poise.tasks.shares import shares
from poise.types import Kind, Question

__all__ = ["GRADES", "PARTS", "Arithmetic", "Grade"]


@dataclass(frozen=True, slots=True)
class Grade:
    """All sums of one difficulty: ``left`` ``op`` ``right``, where ``op`` is +, - or *.

    ``right`` None: both operands are of ``left`` and the first is no smaller, so that no pair
    comes twice and no difference is negative. Pairs of two multiples of ``easier`` belong to an
    easier grade. ``weight``: its share of the questions, out of 1800 over ``GRADES``.
    """

    name: str
    op: str
    weight: int
    left: Sequence[int]
    right: Sequence[int] | None = None
    easier: int | None = None

    @property
    def size(self) -> int:
        """How many different sums there are."""
        if self.easier is None:
            return self._pairs
        return self._pairs - _triangle(sum(value % self.easier == 0 for value in self.left))

    def draw(self, seed: int) -> Iterator[tuple[int, int]]:
        """Every sum once, in the random order of ``seed``; commuting operands in either order.

        The order does not depend on how many are taken. Sums, differences and products come
        as the operands ``(a, b)`` of ``a op b``.
        """
        random = Random(f"{seed}:{self.name}")  # noqa: S311
        moved: dict[int, int] = {}  # a Fisher-Yates shuffle that holds only what it has touched
        for i in range(self._pairs):
            j = random.randrange(i, self._pairs)
            chosen, moved[j] = moved.get(j, j), moved.get(i, i)
            flip = random.random() < 0.5
            a, b = self._pair(chosen)
            if self.easier is None or a % self.easier or b % self.easier:
                yield (b, a) if flip and self.op != "-" else (a, b)

    @property
    def _pairs(self) -> int:
        if self.right is None:
            return _triangle(len(self.left))
        return len(self.left) * len(self.right)

    def _pair(self, index: int) -> tuple[int, int]:
        if self.right is not None:
            row, column = divmod(index, len(self.right))
            return self.left[row], self.right[column]
        row = (math.isqrt(8 * index + 1) - 1) // 2
        return self.left[row], self.left[index - _triangle(row)]


def _triangle(n: int) -> int:
    return n * (n + 1) // 2


_ONE, _TWO, _THREE = range(10), range(10, 100), range(100, 1000)
_TENS, _HUNDREDS = range(10, 100, 10), range(100, 1000, 100)
_UNEVEN_TWO = tuple(value for value in _TWO if value % 10)

GRADES: dict[str, Grade] = {
    grade.name: grade
    for grade in (
        Grade("1-digit +", "+", 55, _ONE),
        Grade("1-digit -", "-", 55, _ONE),
        Grade("1-digit *", "*", 55, _ONE),
        Grade("tens +", "+", 45, _TENS),
        Grade("tens -", "-", 45, _TENS),
        Grade("tens * 1-digit", "*", 72, _TENS, range(2, 10)),
        Grade("hundreds +", "+", 45, _HUNDREDS),
        Grade("hundreds * 1-digit", "*", 72, _HUNDREDS, range(2, 10)),
        Grade("2-digit * 1-digit", "*", 340, _UNEVEN_TWO, range(2, 10)),
        Grade("2-digit + 1-digit", "+", 260, _TWO, range(1, 10)),
        Grade("2-digit - 1-digit", "-", 200, _TWO, range(1, 10)),
        Grade("2-digit +", "+", 180, _TWO, easier=10),
        Grade("2-digit -", "-", 120, _TWO, easier=10),
        Grade("2-digit *", "*", 76, _TWO),
        Grade("3-digit + 1-digit", "+", 60, _THREE, range(1, 10)),
        Grade("3-digit +", "+", 60, _THREE, easier=100),
        Grade("3-digit -", "-", 60, _THREE),
    )
}
"""By name, easy ones first. No sum is in two grades."""

PARTS: dict[str, tuple[int, ...]] = {"fit": (0, 1), "test": (2,), "all": (0, 1, 2)}
"""Which of every three consecutive sums of a grade's draw are in a part."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``count`` sums over ``grades`` by weight, in random order: "What is 23 + 45?", gold "68".

    ``part``: "fit" (two thirds of every grade), "test" (the other third) or "all". For one seed
    "fit" and "test" share no sum, whatever the counts. An id names its sum, whichever operand the
    question puts first. Raises UsageError for an unknown part or grade, and RefusedError where
    the part has fewer than ``count`` sums.
    """

    name: ClassVar[str] = "arithmetic"
    count: int = 600
    seed: int = 0
    part: str = "all"
    grades: tuple[str, ...] = tuple(GRADES)

    def load(self) -> Iterator[Labelled]:
        """The questions, in an order that is random by the seed."""
        if self.part not in PARTS:
            raise UsageError(f"no part {self.part!r}; there are {', '.join(PARTS)}")
        unknown = [name for name in self.grades if name not in GRADES]
        if unknown or not self.grades:
            raise UsageError(f"no grade {', '.join(unknown)!r}; there are {', '.join(GRADES)}")
        kept = PARTS[self.part]
        grades = [GRADES[name] for name in dict.fromkeys(self.grades)]
        available = [sum((grade.size - k + 2) // 3 for k in kept) for grade in grades]
        counts = shares(self.count, [grade.weight for grade in grades], available)
        asked = [
            _ask(grade, a, b)
            for grade, count in zip(grades, counts, strict=True)
            for a, b in islice(_of_part(grade.draw(self.seed), kept), count)
        ]
        Random(f"{self.seed}:order").shuffle(asked)  # noqa: S311
        yield from asked


def _of_part(draw: Iterator[tuple[int, int]], kept: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    return (pair for i, pair in enumerate(draw) if i % 3 in kept)


def _ask(grade: Grade, a: int, b: int) -> Labelled:
    gold = {"+": a + b, "-": a - b, "*": a * b}[grade.op]
    first, second = (a, b) if grade.op == "-" else sorted((a, b))
    question = Question.ask(
        f"What is {a} {grade.op} {b}?",
        Kind.NUMBER,
        id=f"{first}{grade.op}{second}",
        segment=grade.name,
    )
    return Labelled(question, str(gold))
