"""Yes-or-no questions that invite a wrong answer, beside surprising facts and plain ones.

A confidence that only follows what is often said is sure of the first kind and wrong. The second
kind keeps "whatever sounds odd is false" from being right, the third is answered by nearly
everybody. Each fact is settled and can be looked up in an encyclopedia; none depends on the year.
Knows nothing about models or prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from poise.tasks.labelled import Labelled
from poise.tasks.shares import shares
from poise.types import Kind, Question

__all__ = ["Misconceptions"]

# What is often believed, asked as it is believed (no) or as it is (yes).
_BELIEVED_NO = """
    Is the Great Wall of China visible to the naked eye from the Moon?
    Did Viking warriors wear helmets with horns in battle?
    Do ostriches bury their heads in the sand when they are frightened?
    Do lemmings jump off cliffs to kill themselves?
    Would a penny dropped from the Empire State Building kill a person on the street?
    Does the rotation of the Earth decide which way water swirls down a kitchen sink?
    Are old window panes thicker at the bottom because glass flows slowly over the years?
    Does hair grow back thicker after it has been shaved?
    Do fingernails keep growing after a person has died?
    Does the human body lose most of its heat through the head?
    Can people catch warts by touching a toad?
    Do polar bears hunt penguins in the wild?
    Do mother birds abandon a chick because a human has touched it?
    Does drinking alcohol raise the core temperature of the body?
    Are most natural diamonds made from coal?
    Was the body of Walt Disney frozen after his death?
    Is Rio de Janeiro the capital of Brazil?
    Is Sydney the capital of Australia?
    Is Zurich the capital of Switzerland?
    Is the banana plant, botanically, a tree?
    Does the colour red in itself make bulls angry?
    Did Christopher Columbus set foot on the mainland of what is now the United States?
    Were the false teeth of George Washington made of wood?
    Is summer caused by the Earth being closer to the Sun?
    Is a mushroom a plant?
    Does a person swallow eight spiders a year while asleep?
"""
_BELIEVED_YES = """
    Can bats see with their eyes?
    Can lightning strike the same place twice?
    Can goldfish remember things for longer than a minute?
    Do people use far more than ten percent of their brains?
    Was Napoleon Bonaparte about as tall as an average Frenchman of his time?
    Are the humps of a camel made mostly of fat?
    Is the surface of Venus hotter than the surface of Mercury?
    Does sunlight reach the far side of the Moon?
    Is human blood red even when it carries little oxygen?
    Can dogs see some colours?
    Does the gravity of the Earth pull on astronauts aboard the International Space Station?
    Can the sides of the human tongue taste sweet things?
    Was Albert Einstein good at mathematics as a schoolboy?
    Were there electric lights before Thomas Edison made his?
    In the novel by Mary Shelley, is Frankenstein the man who makes the monster?
    Does Sirius look brighter in the night sky than the North Star?
    Is Antarctica a desert?
    Is the peanut plant a relative of peas and beans?
    Is a koala a marsupial?
    Is the killer whale a member of the dolphin family?
    Do a hammer and a feather fall equally fast on the Moon?
    Did scholars in ancient Greece know that the Earth is round?
    Does swallowed chewing gum normally leave the body within days?
    Does the Sun look white when it is seen from space?
    Will a bull charge at a moving cloth that is not red?
    Was Cleopatra descended from a Macedonian Greek family?
"""
# What is so although it sounds wrong (yes), or is not although it sounds right (no).
_SURPRISING_YES = """
    Does Venus take longer to turn once on its axis than to go once around the Sun?
    Does an octopus have three hearts?
    Is a banana, botanically, a berry?
    Is the University of Oxford older than the Aztec Empire?
    Is Cleopatra nearer in time to the first Moon landing than to the building of the Great Pyramid?
    Is the unicorn the national animal of Scotland?
    Do wombats produce droppings in the shape of cubes?
    Does sound travel faster in water than in air?
    Is the Eiffel Tower slightly taller on a hot day than on a cold day?
    Is a bolt of lightning hotter than the surface of the Sun?
    Did sharks exist before the first dinosaurs?
    Are birds descended from dinosaurs?
    Does Canada have the longest coastline of all countries?
    Is Australia wider from west to east than the Moon is across?
    Were there still woolly mammoths when the Great Pyramid was built?
    Was the company Nintendo founded before the year 1900?
    Was a fax machine patented before the telephone?
    Do male seahorses carry the unborn young?
    Measured from its base on the sea floor, is Mauna Kea taller than Mount Everest?
    Does Jupiter turn once on its axis in less than ten hours?
    Is Saturn less dense than water?
    Is Reno in Nevada farther west than Los Angeles?
    Is Rome farther north than New York City?
    Among 23 random people, is it likelier than not that two share a birthday?
    Is zero an even number?
    Does 0.999... with endless nines equal exactly 1?
"""
_SURPRISING_NO = """
    Is a strawberry, botanically, a berry?
    Is Greenland larger than Africa?
    Is one a prime number?
    Are flamingo chicks pink when they hatch?
    Is the Pacific entrance of the Panama Canal farther west than its Atlantic entrance?
    Is New York City the capital of the state of New York?
    Is a pound of feathers lighter than a pound of lead?
    Is a jellyfish a fish?
    Do Panama hats come originally from Panama?
    Did the Hundred Years' War last exactly one hundred years?
    Does the Sun shine because it burns oxygen?
    Is there lead in the core of an ordinary modern pencil?
    Is a larger part of Iceland than of Greenland covered by ice?
    Is the skin of a polar bear white under its fur?
    Is rhubarb, botanically, a fruit?
    Does water boil at 100 degrees Celsius on the top of Mount Everest?
    Can sound travel through a vacuum?
    Do all centipedes have exactly one hundred legs?
    Was the Statue of Liberty green when it was new?
    Did Tyrannosaurus rex live at the same time as Stegosaurus?
    Is the square root of 2 a fraction of two whole numbers?
    Is 91 a prime number?
    Is Pluto larger than the Moon of the Earth?
    Does Jupiter have solid ground that one could stand on?
    Is a guinea pig a kind of pig?
    Is London farther south than Calgary?
"""
# What nearly everybody knows.
_PLAIN_YES = """
    Is the Sun a star?
    Does a week have seven days?
    Do birds have feathers?
    Does a triangle have three sides?
    Is Paris a city in France?
    Is a puppy a young dog?
    Does the Earth go around the Sun?
    Is an hour sixty minutes long?
    Is fire hot?
    Do cows give milk?
    Does a spider have eight legs?
    Is gold a metal?
    Is the Pacific an ocean?
    Do bees make honey?
    Is a whale a mammal?
    Is January the first month of the year?
    Is ten greater than nine?
    Does a bicycle have two wheels?
    Is Africa a continent?
    Is ice frozen water?
    Can a person read a book?
    Is a rose a flower?
    Do fish live in water?
    Is a metre longer than a centimetre?
    Is half of ten five?
    Is snow cold?
"""
_PLAIN_NO = """
    Is the Moon larger than the Earth?
    Do fish have feathers?
    Does a square have five sides?
    Is London a city in Spain?
    Is a kitten a young horse?
    Does a year have ten months?
    Is ice hotter than steam?
    Do trees have wheels?
    Can a dog read a newspaper?
    Is two greater than seven?
    Is a cat a bird?
    Is fresh snow black?
    Is a minute longer than an hour?
    Is Asia a country?
    Is wood a metal?
    Is a day longer than a month?
    Is the river Nile in South America?
    Do elephants lay eggs?
    Is it usually darker at noon than at midnight?
    Is a bee larger than a horse?
    Is seven an even number?
    Does an octopus have twenty arms?
    Is Mount Everest in Africa?
    Is a hammer a fruit?
    Is the Sahara covered by trees?
    Is December the first month of the year?
"""
_SEGMENTS = {
    "misconception": {"yes": _BELIEVED_YES, "no": _BELIEVED_NO},
    "surprising": {"yes": _SURPRISING_YES, "no": _SURPRISING_NO},
    "plain": {"yes": _PLAIN_YES, "no": _PLAIN_NO},
}


@dataclass(frozen=True, slots=True)
class Misconceptions:
    """``count`` yes-or-no questions in random order, as evenly as can be over segments and answers.

    Segments: misconception (often believed otherwise), surprising (sounds otherwise), plain. Raises
    RefusedError where there are fewer than ``count``.
    """

    name: ClassVar[str] = "misconceptions"
    count: int = 156
    seed: int = 0

    def load(self) -> Iterator[Labelled]:
        """The questions, in an order that is random by the seed."""
        cells: list[tuple[str, str, list[str]]] = []
        for segment, tables in _SEGMENTS.items():
            for gold, table in tables.items():
                texts = [line.strip() for line in table.strip().splitlines()]
                Random(f"{self.seed}:{segment}:{gold}").shuffle(texts)  # noqa: S311
                cells.append((segment, gold, texts))
        counts = shares(self.count, [1] * len(cells), [len(texts) for *_, texts in cells])
        asked = [
            Labelled(Question.ask(text, Kind.YESNO, id=text.rstrip("?"), segment=segment), gold)
            for (segment, gold, texts), count in zip(cells, counts, strict=True)
            for text in texts[:count]
        ]
        Random(f"{self.seed}:order").shuffle(asked)  # noqa: S311
        yield from asked
