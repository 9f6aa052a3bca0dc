"""The card as page, picture and numbers: whole, offline, escaped, readable without colour."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from poise.errors import UsageError
from poise.report import Card, Decision, Evaluation, make_card, pictures, write_card
from poise.report.page import page
from poise.report.pictures import DPI, WIDTH, png, svgs

NASTY = "<script>alert('x')</script> & \"$\\frac{a}$\" _名\n\x00 " + "long " * 40
VOID = {"meta", "img", "br", "link"}


def make(m: int = 240, segments: int = 4, name: str = "", *, raw: bool = True) -> Card:
    rng = np.random.default_rng(0)
    stated = rng.beta(4, 2, m)
    right = (rng.random(m) < stated).astype(float)
    rows = Evaluation(
        right,
        stated,
        raw=np.round(stated, 1) if raw else None,
        raw_name=name or "vote share",
        segment=[f"{name}{place % segments}" for place in range(m)],
        baselines={name or "half": np.full(m, 0.5)} if not raw else {},
        left_out={name or "no grade": 3},
        name=name or "A set of questions",
    )
    decision = Decision(
        profile=name or "0123456789ab",
        arm={"model": name or "small", "decoding": {"temperature": 0.8}},
        datasets=(name or "sums",),
        policy=name or "beta: threshold 0.95",
        considered=(
            {"what": name or "platt", "log_loss": 0.41234, "brier": 0.1},
            {"what": "levels", "log_loss": None, "reason": name or "too many levels"},
        ),
        chosen=name or "platt",
        limits=(name or "Sums only.",),
        note=name,
        detection={name or "words": 0.98},
    )
    return make_card(rows, decision)


@pytest.fixture(scope="module")
def card() -> Card:
    return make()


@pytest.fixture(scope="module")
def text(card: Card) -> str:
    return page(card)


@pytest.fixture(scope="module")
def picture(card: Card) -> bytes:
    return png(card)


class Tree(HTMLParser):
    """Checks that tags nest, and gathers what the tests ask about."""

    def __init__(self, markup: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_says_the_headline_numbers_first_then_the_findings(card: Card, text: str) -> None:
    said = Tree(text).words
    order = [
        card.verdict,
        f"{card.stated.brier.value:.3f}",
        "What was found",
        card.findings[0].text,
        "Pictures",
        "Segments, worst first",
        "Beside other ways",
        "What was decided",
        "Limits",
    ]
    places = [said.index(words) for words in order]
    assert places == sorted(places)
    for one in (*(found.text for found in card.findings), *card.limits):
        assert one in said


def test_the_page_needs_no_network_and_no_script(text: str) -> None:
    tree = Tree(text)
    for tag, attributes in tree.tags:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"url\(|@import|https?:", re.sub(r"base64,[^\"]*", "", text))
    for one in tree.all("img"):
        svg = base64.b64decode((one["src"] or "").split(",")[1]).decode()
        assert not re.search(r"(?:href|src)=\"(?!#)", svg)


def test_the_page_is_small_and_made_for_a_telephone_and_paper(text: str) -> None:
    assert len(text.encode()) < 600_000
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in Tree(text).all(
        "meta"
    )
    assert "@media print" in text
    assert "overflow-x: auto" in text
    assert text.count('<div class="scroll"') == text.count("<table>") == 4


def test_every_picture_says_in_words_what_it_shows(text: str) -> None:
    alts = [one["alt"] or "" for one in Tree(text).all("img")]
    assert len(alts) == 4
    assert all(len(alt) > 40 for alt in alts)
    assert any("vote share: right" in alt for alt in alts)


def test_a_table_row_has_as_many_cells_as_the_head(text: str) -> None:
    for table in re.findall(r"<table>.*?</table>", text, re.DOTALL):
        head, *body = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        for row in body:
            wide = sum(int(n) - 1 for n in re.findall(r'colspan="(\d+)"', row))
            assert len(re.findall(r"<t[hd]", row)) + wide == head.count("<th")


@pytest.mark.parametrize("raw", [True, False])
def test_whatever_users_name_is_escaped_and_survives_every_format(
    raw: bool, tmp_path: Path
) -> None:
    card = make(m=60, segments=2, name=NASTY, raw=raw)
    for suffix in (".html", ".png", ".json"):
        write_card(card, tmp_path / f"card{suffix}")
    text = (tmp_path / "card.html").read_text("utf-8")
    tree = Tree(text)
    assert not tree.all("script")
    assert "<script" not in text
    assert tree.words.count("<script>alert('x')</script> & \"$\\frac{a}$\"") >= 8
    assert json.loads((tmp_path / "card.json").read_text("utf-8"))["name"] == NASTY


@pytest.mark.parametrize(
    ("m", "segments", "raw"), [(240, 4, True), (25, 4, True), (900, 40, False)]
)
def test_the_picture_is_grey_and_of_the_promised_width(m: int, segments: int, raw: bool) -> None:
    image = Image.open(io.BytesIO(png(make(m, segments, raw=raw))))
    image.load()
    assert image.format == "PNG"
    assert image.width == round((2 * WIDTH + 0.2) * DPI)
    assert 1.1 < image.height / image.width < 2.2
    pixels = np.asarray(image.convert("RGB")).astype(int)
    assert np.ptp(pixels, axis=2).max() == 0, "a line that is told apart by colour alone"
    assert pixels.min() < 40
    edge = pixels[:, -2:].reshape(-1)
    assert edge.min() > 250, "something is cut off at the right"


def test_each_picture_is_an_svg_of_a_telephones_width_and_names_what_is_missing(card: Card) -> None:
    drawn = svgs(card)
    assert list(drawn) == ["raw", "stated", "coverage", "segments"]
    for svg in drawn.values():
        root = ET.fromstring(svg)  # noqa: S314 - our own text
        assert root.get("width") == f"{72 * WIDTH:g}pt"
    assert list(svgs(make(m=25, raw=False))) == ["stated", "coverage"]


@pytest.mark.parametrize("name", ["", "a name, somewhat too long for its place"])
def test_no_words_of_a_picture_overlap_another_part_and_none_is_cut_off(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Any, list[tuple[str, Any]]]] = []
    settle = pictures._settle

    def measured(figure: Any) -> None:
        settle(figure)
        parts = [figure]
        for part in parts:
            parts.extend(part.subfigs)
        boxes = [(str(one), one.get_tightbbox()) for one in figure.get_axes()]
        texts = [one for part in parts for one in part.texts]
        boxes += [(one.get_text(), one.get_window_extent()) for one in texts]
        drawn.append((figure.bbox, boxes))

    monkeypatch.setattr(pictures, "_settle", measured)
    card = make(400, 12, name=name)
    svgs(card)
    png(card)
    assert len(drawn) == 5
    for whole, boxes in drawn:
        assert len(boxes) > 1
        for (first, one), (second, other) in itertools.combinations(boxes, 2):
            wide = min(one.x1, other.x1) - max(one.x0, other.x0)
            high = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert min(wide, high) < 2, (first, second)
        for what, box in boxes:
            assert min(box.x0, box.y0) >= -1, what
            assert box.x1 <= whole.width + 1, what
            assert box.y1 <= whole.height + 1, what


def test_equal_cards_give_equal_pages(text: str) -> None:
    assert page(make()) == text


def test_the_users_own_matplotlib_settings_change_nothing(card: Card, picture: bytes) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "text.usetex": True}):
        assert png(card) == picture
        assert mpl.rcParams["font.size"] == 30


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_and_one_row_can_be_drawn(label: int, tmp_path: Path) -> None:
    write_card(make_card(Evaluation([label] * 30, [0.97] * 30)), tmp_path / "a.png")
    write_card(make_card(Evaluation([label], [0.5])), tmp_path / "b.html")
    assert "Too few questions to judge: 1." in (tmp_path / "b.html").read_text("utf-8")


def test_a_json_file_is_the_cards_own_dictionary(card: Card, tmp_path: Path) -> None:
    write_card(card, tmp_path / "card.JSON")
    assert json.loads((tmp_path / "card.JSON").read_text("utf-8")) == card.to_dict()


def test_an_existing_file_is_kept_unless_it_may_be_overwritten(card: Card, tmp_path: Path) -> None:
    target = tmp_path / "card.json"
    target.write_text("mine")
    with pytest.raises(UsageError, match="exists; .*--overwrite"):
        write_card(card, target)
    assert target.read_text() == "mine"
    write_card(card, target, overwrite=True)
    assert json.loads(target.read_text("utf-8"))["schema"] == 1
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["card", "card.pdf", "card.html.gz"])
def test_another_suffix_is_refused(card: Card, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.html, \.png, \.json"):
        write_card(card, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_one_line(card: Card, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        write_card(card, tmp_path / "nowhere" / "card.json")


def test_without_matplotlib_numbers_can_be_written_and_pictures_say_what_to_install(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; sys.modules['matplotlib.style'] = None\n"
        "from poise.errors import UsageError\n"
        "from poise.report import Evaluation, make_card, write_card\n"
        "card = make_card(Evaluation([0, 1], [0.2, 0.7]))\n"
        f"write_card(card, {str(tmp_path / 'a.json')!r})\n"
        "for suffix in ('html', 'png'):\n"
        "    try:\n"
        f"        write_card(card, {str(tmp_path / 'a.')!r} + suffix)\n"
        "    except UsageError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install 'poise[report]'") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_importing_the_report_does_not_load_matplotlib() -> None:
    code = "import sys, poise.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
