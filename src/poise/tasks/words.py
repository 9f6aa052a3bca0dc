"""Questions about English words that take one word to answer: opposites, plurals, past tenses.

Graded for a small model: regular forms are easy, irregular ones are not, opposites lie between.
Knows nothing about models or how they write their answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from poise.tasks.labelled import Labelled
from poise.tasks.shares import shares
from poise.types import Kind, Question

__all__ = ["Words"]

# Pairs whose second word is the only common opposite of the first in most dictionaries.
_OPPOSITES = """
    hot cold | big small | up down | black white | fast slow | day night | happy sad | left right
    rich poor | strong weak | wet dry | hard soft | love hate | buy sell | win lose | true false
    loud quiet | near far | full empty | early late | open closed | inside outside | north south
    east west | push pull | deep shallow | thick thin | wide narrow | heavy light | sweet sour
    clean dirty | alive dead | always never | first last | before after | above below
    accept refuse | arrive depart | attack defend | beautiful ugly | brave cowardly
    cheap expensive | cruel kind | dangerous safe | entrance exit | floor ceiling | friend enemy
    guilty innocent | higher lower | import export | major minor | more less | noisy quiet
    peace war | positive negative | public private | question answer | remember forget
    simple complex | smooth rough | success failure | summer winter | teacher student
    tight loose | top bottom | victory defeat | young old | asleep awake | borrow lend
    build destroy | forward backward | maximum minimum | optimist pessimist | ancient modern
"""
_PLURALS = """
    dog dogs | book books | car cars | tree trees | house houses | river rivers | apple apples
    box boxes | bus buses | church churches | dish dishes | glass glasses | watch watches
    city cities | baby babies | lady ladies | story stories | country countries | fly flies
    boy boys | key keys | day days | toy toys | monkey monkeys | knife knives | leaf leaves
    life lives | wife wives | wolf wolves | half halves | shelf shelves | thief thieves
    loaf loaves | roof roofs | chief chiefs | potato potatoes | tomato tomatoes | hero heroes
    echo echoes | photo photos | piano pianos | child children | man men | woman women
    foot feet | tooth teeth | goose geese | mouse mice | louse lice | ox oxen | person people
    sheep sheep | deer deer | fish fish | species species | crisis crises | analysis analyses
    basis bases | thesis theses | cactus cacti | bacterium bacteria | criterion criteria
    phenomenon phenomena | nucleus nuclei | axis axes | door doors | window windows | hat hats
    bird birds | chair chairs | lamp lamps | brush brushes | fox foxes | class classes
    party parties | cherry cherries | berry berries | calf calves | scarf scarves | radio radios
"""
_PASTS = """
    walk walked | talk talked | play played | look looked | jump jumped | help helped
    ask asked | open opened | clean cleaned | watch watched | love loved | hope hoped
    bake baked | dance danced | live lived | stop stopped | plan planned | drop dropped
    carry carried | study studied | try tried | cry cried | enjoy enjoyed | stay stayed
    go went | come came | see saw | eat ate | give gave | take took | make made | run ran
    sit sat | stand stood | write wrote | drive drove | ride rode | speak spoke | break broke
    choose chose | wake woke | steal stole | freeze froze | begin began | drink drank
    sing sang | swim swam | ring rang | sink sank | buy bought | bring brought | catch caught
    teach taught | think thought | fight fought | seek sought | feel felt | keep kept
    leave left | mean meant | meet met | sleep slept | sweep swept | build built | lend lent
    send sent | spend spent | lose lost | find found | hold held | tell told | sell sold
    grow grew | know knew | throw threw | fly flew | draw drew | blow blew | fall fell
    hide hid | bite bit | shake shook | tear tore | wear wore | win won | dig dug | hang hung
"""
_ASKED = {
    "opposite": ("What is the opposite of {}?", _OPPOSITES),
    "plural": ("What is the plural of {}?", _PLURALS),
    "past tense": ("What is the past tense of {}?", _PASTS),
}


@dataclass(frozen=True, slots=True)
class Words:
    """``count`` questions about words in random order, as evenly as can be over the segments.

    Segments: opposite, plural, past tense. Raises RefusedError where there are fewer.
    """

    name: ClassVar[str] = "words"
    count: int = 200
    seed: int = 0

    def load(self) -> Iterator[Labelled]:
        """The questions, in an order that is random by the seed."""
        tables: list[tuple[str, str, list[list[str]]]] = []
        for segment, (template, table) in _ASKED.items():
            lines = [line.split("|") for line in table.strip().splitlines()]
            pairs = [pair.split() for line in lines for pair in line]
            Random(f"{self.seed}:{segment}").shuffle(pairs)  # noqa: S311
            tables.append((segment, template, pairs))
        counts = shares(self.count, [1] * len(tables), [len(pairs) for *_, pairs in tables])
        asked = [
            Labelled(
                Question.ask(
                    template.format(word), Kind.TEXT, id=f"{segment}: {word}", segment=segment
                ),
                gold,
            )
            for (segment, template, pairs), count in zip(tables, counts, strict=True)
            for word, gold in pairs[:count]
        ]
        Random(f"{self.seed}:order").shuffle(asked)  # noqa: S311
        yield from asked
