"""Short yes-or-no facts that most people know: comparisons, parity, categories, capitals.

Made from a seed and the tables below, as a set of another kind than arithmetic. Knows nothing
about models or prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from poise.tasks.labelled import Labelled
from poise.tasks.shares import shares
from poise.types import Kind, Question

__all__ = ["Facts"]

Fact = tuple[str, str]
"""An id and the question it names."""

_NUMBERS = 160
"""Questions made of every kind that has no table of its own."""

_CAPITALS = {
    "Argentina": "Buenos Aires",
    "Australia": "Canberra",
    "Austria": "Vienna",
    "Bangladesh": "Dhaka",
    "Belgium": "Brussels",
    "Brazil": "Brasilia",
    "Bulgaria": "Sofia",
    "Canada": "Ottawa",
    "Chile": "Santiago",
    "China": "Beijing",
    "Colombia": "Bogota",
    "Croatia": "Zagreb",
    "Cuba": "Havana",
    "Denmark": "Copenhagen",
    "Ecuador": "Quito",
    "Egypt": "Cairo",
    "Estonia": "Tallinn",
    "Ethiopia": "Addis Ababa",
    "Finland": "Helsinki",
    "France": "Paris",
    "Germany": "Berlin",
    "Ghana": "Accra",
    "Greece": "Athens",
    "Hungary": "Budapest",
    "Iceland": "Reykjavik",
    "India": "New Delhi",
    "Indonesia": "Jakarta",
    "Iran": "Tehran",
    "Iraq": "Baghdad",
    "Ireland": "Dublin",
    "Italy": "Rome",
    "Jamaica": "Kingston",
    "Japan": "Tokyo",
    "Jordan": "Amman",
    "Kenya": "Nairobi",
    "Latvia": "Riga",
    "Lebanon": "Beirut",
    "Lithuania": "Vilnius",
    "Mongolia": "Ulaanbaatar",
    "Morocco": "Rabat",
    "Nepal": "Kathmandu",
    "New Zealand": "Wellington",
    "Norway": "Oslo",
    "Pakistan": "Islamabad",
    "Peru": "Lima",
    "Poland": "Warsaw",
    "Portugal": "Lisbon",
    "Romania": "Bucharest",
    "Russia": "Moscow",
    "Saudi Arabia": "Riyadh",
    "Serbia": "Belgrade",
    "South Korea": "Seoul",
    "Spain": "Madrid",
    "Sweden": "Stockholm",
    "Thailand": "Bangkok",
    "Turkey": "Ankara",
    "Ukraine": "Kyiv",
    "Uruguay": "Montevideo",
    "Venezuela": "Caracas",
    "Vietnam": "Hanoi",
}

_CATEGORIES = {
    "animal": "dog cat horse lion elephant tiger rabbit sheep wolf monkey zebra giraffe snake",
    "fruit": "banana apple grape peach mango pineapple strawberry cherry lemon melon",
    "vegetable": "carrot potato onion cabbage turnip radish leek beetroot",
    "vehicle": "car bus truck bicycle motorcycle tractor van train ambulance taxi",
    "musical instrument": "piano guitar violin trumpet flute drum clarinet cello harp trombone",
    "tool": "hammer screwdriver wrench saw drill shovel rake chisel",
    "piece of furniture": "chair table sofa bed bookcase wardrobe desk armchair",
    "piece of clothing": "shirt coat sweater jacket skirt sock scarf dress",
    "flower": "rose tulip daisy lily orchid sunflower daffodil",
    "building": "church castle hospital hotel palace library school",
}

_GROWN = ("animal", "fruit", "vegetable", "flower")
"""Made things are only ever mistaken for these: whether a piano is furniture is a matter of taste.
No member of these belongs to another category as well."""


def _comparisons(random: Random) -> tuple[list[Fact], list[Fact]]:
    """Two different numbers of as many digits; no pair is asked about twice."""
    pairs: dict[tuple[int, int], None] = {}
    while len(pairs) < _NUMBERS:
        low = random.choice((1, 10, 100))
        a, b = sorted(random.sample(range(low, 10 * low), 2))
        pairs[a, b] = None
    right: list[Fact] = []
    wrong: list[Fact] = []
    for i, (a, b) in enumerate(pairs):
        greater, yes = random.random() < 0.5, i % 2 == 0
        first, second = (b, a) if greater == yes else (a, b)
        word, sign = ("greater", ">") if greater else ("less", "<")
        fact = (f"{first}{sign}{second}", f"Is {first} {word} than {second}?")
        (right if yes else wrong).append(fact)
    return right, wrong


def _parities(random: Random) -> tuple[list[Fact], list[Fact]]:
    """Every number once, as even or as odd."""
    right: list[Fact] = []
    wrong: list[Fact] = []
    for i, value in enumerate(random.sample(range(1, 1000), _NUMBERS)):
        yes = i % 2 == 0
        claimed = "even" if (value % 2 == 0) == yes else "odd"
        (right if yes else wrong).append((f"{value} {claimed}", f"Is {value} an {claimed} number?"))
    return right, wrong


def _categories(random: Random) -> tuple[list[Fact], list[Fact]]:
    """Every member once in its own category and once in another."""
    right: list[Fact] = []
    wrong: list[Fact] = []
    for own, members in _CATEGORIES.items():
        others = [name for name in (_CATEGORIES if own in _GROWN else _GROWN) if name != own]
        for member in members.split():
            for facts, named in ((right, own), (wrong, random.choice(others))):
                facts.append((f"{member}: {named}", f"Is {_a(member)} {_a(named)}?"))
    return right, wrong


def _capitals(random: Random) -> tuple[list[Fact], list[Fact]]:
    """Every country once with its capital and once with another's."""
    countries = random.sample(list(_CAPITALS), len(_CAPITALS))
    shifted = [*countries[1:], countries[0]]
    return (
        [_capital(country, _CAPITALS[country]) for country in countries],
        [_capital(a, _CAPITALS[b]) for a, b in zip(countries, shifted, strict=True)],
    )


def _capital(country: str, city: str) -> Fact:
    return f"{country}: {city}", f"Is {city} the capital of {country}?"


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


_SEGMENTS: dict[str, Callable[[Random], tuple[list[Fact], list[Fact]]]] = {
    "comparison": _comparisons,
    "parity": _parities,
    "category": _categories,
    "capital": _capitals,
}


@dataclass(frozen=True, slots=True)
class Facts:
    """``count`` yes-or-no facts in random order, as evenly as can be over segments and answers.

    Segments: comparison ("Is 57 greater than 34?"), parity, category, capital. Raises RefusedError
    where there are fewer than ``count``.
    """

    name: ClassVar[str] = "facts"
    count: int = 400
    seed: int = 0

    def load(self) -> Iterator[Labelled]:
        """The questions, in an order that is random by the seed."""
        cells: list[tuple[str, str, list[Fact]]] = []
        for segment, make in _SEGMENTS.items():
            random = Random(f"{self.seed}:{segment}")  # noqa: S311
            for gold, facts in zip(("yes", "no"), make(random), strict=True):
                random.shuffle(facts)
                cells.append((segment, gold, facts))
        counts = shares(self.count, [1] * len(cells), [len(facts) for *_, facts in cells])
        asked = [
            Labelled(Question.ask(text, Kind.YESNO, id=known_as, segment=segment), gold)
            for (segment, gold, facts), count in zip(cells, counts, strict=True)
            for known_as, text in facts[:count]
        ]
        Random(f"{self.seed}:order").shuffle(asked)  # noqa: S311
        yield from asked
