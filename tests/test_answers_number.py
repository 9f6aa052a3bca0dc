"""Reading numbers: where in a reply they stand, and their one canonical form."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.answers import KINDS, read
from poise.types import Kind, Reply

NUMBER = Kind.NUMBER


def answer(text: str) -> str | None:
    return read(Reply(text, finish="stop"), NUMBER).answer


@given(value=st.integers(-(10**12), 10**12))
def test_every_way_to_write_an_integer_reads_the_same(value):
    grouped, plain = f"{value:,}", str(value)
    sign, bare = ("-", plain[1:]) if value < 0 else ("", plain)
    for written in (
        plain,
        grouped,
        f"{grouped}.00",
        f"{sign}${grouped.lstrip('-')}",
        f"{plain}%",
        f"\\boxed{{{plain}}}",
        f"#### {grouped}",
        f"The answer is {plain}.",
        f"**{plain}**",
        f"x = {plain} apples",
        plain.replace("-", "\u2212"),
        grouped.replace(",", "{,}"),
        f"{sign}{bare}e0",
        f"{sign}{bare}0/10",
        f"{sign}\\frac{{{bare}}}{{1}}",
        f"1 + 1 = {plain}, which is more than 7",
    ):
        assert answer(written) == plain, written


@given(value=st.fractions(-1000, 1000, max_denominator=500))
def test_fractions_stay_exact(value):
    written = f"{value.numerator}/{value.denominator}"
    read_back = answer(written)
    assert read_back is not None
    assert Fraction(read_back) == value
    assert KINDS[NUMBER].same(written, read_back)


@given(value=st.decimals(-(10**6), 10**6, places=4))
def test_decimals_lose_their_trailing_zeros_only(value):
    read_back = answer(f"{value:f}")
    assert read_back is not None
    assert Fraction(read_back) == Fraction(value)
    assert not ("." in read_back and read_back.endswith(("0", ".")))


NUMBERS = {
    "23 + 45 = 108": "108",
    "23 + 45 = 111.": "111",
    "60 = 120": "120",
    "12 * 9 = 108\n108 is": "108",
    "To find 90 - 20, you need to subtract 2": "2",
    "90 -20": "20",
    "5-10": "10",
    "- 5 apples": "5",
    "so x = - 5": "-5",
    "it is -5": "-5",
    "1.5e3": "1500",
    "3 × 10^5": "300000",
    "2.5\\times10^{-3}": "0.0025",
    "2.5×10⁻³": "0.0025",
    "\\frac12": "0.5",
    "-\\dfrac{3}{4}": "-0.75",
    "1\\frac{1}{2}": "1.5",
    "2 1/2 cups": "2.5",
    "2/6": "1/3",
    "1,00,000": "100000",
    ".5": "0.5",
    "-0.0": "0",
    "007": "7",
    "٣٤": "34",
    "12 m^2": "12",
    "x^{-2} + 3": "3",
    "5 cm² of H2O": "5",
    "\\boxed{3 + 4 = 7} so 8": "7",
    "\\boxed{1} then \\boxed{2}": "2",
    "\\boxed{\\text{about } 5} and { }": "5",
    "#### 18\nin 3 days": "18",
    "#### Step 4\nit is 7": "7",
    "The answer is 3 apples + 4 apples = 7 apples. Not 9": "7",
    "**Answer:** 18 dollars because 3*6 = 19": "18",
    "answer is 4. No, the answer is:\n\n**-5** of 6": "-5",
    "a_1 >= 4": "4",
}


@pytest.mark.parametrize("text", NUMBERS)
def test_the_number_that_is_meant_is_read(text):
    assert answer(text) == NUMBERS[text]


@pytest.mark.parametrize(
    "text",
    [
        "none",
        "1/0",
        "10^5",
        "2**3",
        "5²",
        "3,5",
        "1.2.3",
        "12/25/2024",
        "H2O",
        "1e400",
        "1e-400",
        "1e99999999999",
        "9" * 301,
        "9" * 10000,
        "1/" + "3" * 299,
        "\\boxed{none} 4",
        "x^2",
    ],
)
def test_what_is_no_clear_number_is_unreadable(text):
    reading = read(Reply(text), NUMBER)
    assert reading.answer is None
    assert reading.reason


def test_a_number_at_the_end_of_a_cut_reply_is_unreadable_unless_it_is_closed():
    def cut(text: str) -> str | None:
        return read(Reply(text, finish="length"), NUMBER).answer

    assert read(Reply("3 = 12", finish="length"), NUMBER).reason == (
        "the reply was cut inside the number"
    )
    assert cut("the answer is 12") is None
    assert cut("1 + 2 = 3 and then") == "3"
    assert cut("3 = 12 ") == "12"
    assert cut("\\boxed{12}") == "12"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("0.5", "1/2", True),
        ("108.0", "108", True),
        ("1/3", "0.333", False),
        ("-1", "1", False),
        ("x", "x", True),
        ("x", "1", False),
        ("", "0", False),
        ("1e999999999", "1e999999998", False),
    ],
)
def test_numbers_are_compared_exactly(a, b, expected):
    assert KINDS[NUMBER].same(a, b) is expected
