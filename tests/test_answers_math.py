"""Reading mathematical expressions, and comparing them in a process that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.answers import KINDS, read
from poise.answers.clusters import Clusters
from poise.answers.equivalence import Equivalence
from poise.answers.math import Maths
from poise.errors import PoiseError, UsageError
from poise.types import Kind, Reply

HANGS = ("9^{9^{9^{9}}}", "9^{9^{9^{8}}}")
"""Two power towers: math-verify tries to write them out and never returns."""


def answer(text: str, finish: str = "stop") -> str | None:
    return read(Reply(text, finish=finish), Kind.MATH).answer


@pytest.fixture(scope="module")
def equivalence():
    process = Equivalence(timeout_seconds=5.0)
    yield process
    process.close()


def child_of(equivalence: Equivalence) -> int:
    """The process id of the running child."""
    assert equivalence._child is not None
    return equivalence._child.pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# -- reading ----------------------------------------------------------------------------------

EXPRESSIONS = {
    "so \\boxed{\\dfrac{1}{2}} and 3": "\\frac{1}{2}",
    "\\boxed{1} or \\boxed{\\{1, 2\\}}": "\\{1,2\\}",
    "\\boxed{\\boxed{5}}": "5",
    "\\boxed{12 \\text{ cm}}": "12\\text{cm}",
    "\\boxed{12 apples}": "12",
    "\\boxed{no solution}": "\\text{no solution}",
    "\\boxed{x=5\\text{ or }x=6}": "x=5\\text{or}x=6",
    "\\boxed{y = 2x+1}": "2x+1",
    "\\boxed{x^2 + y^2 = 1}": "x^2+y^2=1",
    "\\boxed{x \\le 5}": "x\\le 5",
    "The answer is (1, 2).": "(1,2)",
    "The answer is $\\tfrac{1}{2}$, not $3$.": "\\frac{1}{2}",
    "**Answer:** 12 apples, since 3*4 = 12": "12",
    "first $x=4$, then $x = 5$": "5",
    "the result is \\(x+1\\)": "x+1",
    "\\[ \\left( -\\infty, 5 \\right] \\]": "(-\\infty,5]",
    "it costs $5 and $6 total": "6",
    "First 1.\nSo 2 + 3 = 5.": "5",
    "therefore she has 12 apples": "12",
    "\\sin x": "\\sin x",
    "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}": "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
    "1{,}234": "1,234",
    "\u2212x": "-x",
}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_the_expression_that_is_meant_is_read_and_tidied(text):
    assert answer(text) == EXPRESSIONS[text]


@pytest.mark.parametrize(
    "text",
    [
        "no idea",
        "\\boxed{",
        "\\boxed{}",
        "$$",
        "{x",
        "x^{2",
        "}{",
        "=",
        "\\boxed{" + "x+" * 300 + "1}",
    ],
)
def test_prose_broken_braces_and_long_texts_are_unreadable(text):
    reading = read(Reply(text), Kind.MATH)
    assert reading.answer is None
    assert reading.reason


def test_an_expression_at_the_end_of_a_cut_reply_is_unreadable_unless_it_is_closed():
    assert answer("x = 3y + 1", finish="length") is None
    assert answer("the answer is 3y + 1", finish="length") is None
    assert answer("so $x = 3y$", finish="length") == "3y"
    assert answer("\\boxed{3y}", finish="length") == "3y"


# -- comparing --------------------------------------------------------------------------------

SAME = [
    ("\\frac{1}{2}", "0.5"),
    ("1/2", "\\frac12"),
    ("2x+1", "1+2x"),
    ("\\sqrt{8}", "2\\sqrt{2}"),
    ("(x+1)^2", "x^2+2x+1"),
    ("\\{1,2\\}", "\\{2,1\\}"),
    ("1,234", "1234"),
    ("x=5\\text{or}x=6", "x=6\\text{or}x=5"),
    ("\\text{No solution}", "\\text{no solution}"),
    ("007", "7"),
]
OTHER = [
    ("1", "2"),
    ("x", "y"),
    ("(1,2)", "(2,1)"),
    ("\\frac{1}{2}", "\\frac{1}{3}"),
    ("\\text{no solution}", "\\text{none}"),
    ("x+1", "x-1"),
    ("\\frac{", "}"),
]


@pytest.mark.parametrize(
    ("pair", "expected"), [(pair, True) for pair in SAME] + [(pair, False) for pair in OTHER]
)
def test_equal_expressions_are_the_same_in_either_order(pair, expected, equivalence):
    maths = Maths(equivalence)
    assert maths.same(*pair) is expected
    assert maths.same(*reversed(pair)) is expected


@given(text=st.text("x+1{}\\^$ ", min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_every_expression_is_the_same_as_itself_without_asking_the_process(text):
    unasked = Equivalence()
    assert Maths(unasked).same(text, text)
    assert Maths(unasked).same(text, text + " ")
    assert unasked._child is None


@given(a=st.integers(), b=st.integers())
def test_integers_are_compared_without_the_process(a, b):
    unasked = Equivalence()
    assert Maths(unasked).same(str(a), str(b)) is (a == b)
    assert unasked._child is None


def test_clusters_of_maths_compare_with_first_members():
    clusters = Clusters(Kind.MATH)
    drawn = ["\\frac{1}{2}", "0.5", None, "2", "1/2", "2"]
    assert [clusters.add(each) for each in drawn] == [0, 0, None, 1, 0, 1]


# -- the process ------------------------------------------------------------------------------


def test_a_comparison_that_hangs_is_killed_in_time_and_the_next_one_works():
    equivalence = Equivalence(timeout_seconds=5.0)
    assert equivalence.same("x+1", "1+x")
    first = child_of(equivalence)
    equivalence.timeout_seconds = 0.5
    begun = time.perf_counter()
    assert not equivalence.same(*HANGS)
    assert 0.5 <= time.perf_counter() - begun < 2.5
    # Not merely dead: waited for, so that no zombie is left.
    assert not is_alive(first)
    equivalence.timeout_seconds = 5.0
    assert equivalence.same("x+1", "1+x")
    second = child_of(equivalence)
    assert second != first
    equivalence.close()
    equivalence.close()
    assert not is_alive(second)


def test_the_process_is_kept_between_comparisons_and_survives_nonsense(equivalence):
    assert equivalence.same("x+1", "1+x")
    before = child_of(equivalence)
    for nonsense in ("", "\n", "\\" * 200, "{" * 200, "((" * 150, "\x00", "é\ud800", '"]'):
        assert not equivalence.same(nonsense, "x+1")
    assert equivalence.same("x+1", "1+x")
    assert child_of(equivalence) == before


def test_a_process_that_was_killed_from_outside_is_replaced(equivalence):
    assert equivalence.same("x+1", "1+x")
    dead = child_of(equivalence)
    os.kill(dead, signal.SIGKILL)
    equivalence._child.wait()
    assert equivalence.same("x+1", "1+x")
    assert child_of(equivalence) != dead


def test_threads_share_the_process_and_get_their_own_verdicts(equivalence):
    pairs = [(f"x+{i}", f"{i + i % 2}+x") for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda pair: equivalence.same(*pair), pairs))
    assert verdicts == [i % 2 == 0 for i in range(40)]


def test_the_process_may_not_take_all_memory(equivalence):
    assert equivalence.same("x+1", "1+x")
    limits = Path(f"/proc/{child_of(equivalence)}/limits")
    # The limit is set on Linux, which is where such a file exists.
    if limits.exists():
        (line,) = [each for each in limits.read_text().splitlines() if "address space" in each]
        assert int(line.split()[3]) <= 4 << 30


FORKED = """
import os
from poise.answers.equivalence import Equivalence
equivalence = Equivalence()
assert equivalence.same("x+1", "1+x")
parents = equivalence._child.pid
forked = os.fork()
if forked == 0:
    right = equivalence.same("x+2", "2+x") and equivalence._child.pid != parents
    equivalence.close()
    os._exit(0 if right else 1)
assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
assert equivalence.same("x+1", "1+x") and equivalence._child.pid == parents
"""


def test_a_fork_starts_a_process_of_its_own_and_leaves_the_first_alone():
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=30)


ORPHAN = f"""
from poise.answers.equivalence import Equivalence
equivalence = Equivalence(timeout_seconds=0.5)
equivalence.same("x+1", "1+x")
print(equivalence._child.pid, flush=True)
equivalence.timeout_seconds = 60
equivalence.same(*{HANGS!r})
"""


def test_a_hanging_process_ends_by_itself_when_its_parent_was_killed():
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.2)
        parent.kill()
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    """Alive and not a zombie (in a container nobody may wait for orphans)."""
    if not Path("/proc/self/stat").exists():
        return is_alive(pid)
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return not state.startswith("Z")


UNGUARDED = """
print("the caller's program runs")
from poise.answers import KINDS
print(KINDS["math"].same("x+1", "1+x"))
"""


def test_a_program_without_a_main_guard_is_not_run_again_and_leaves_nothing(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "the caller's program runs\nTrue\n"
    assert done.stderr == ""


def test_without_math_verify_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "math_verify.py").write_text("raise ModuleNotFoundError('math_verify')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    maths = Maths(Equivalence())
    assert maths.same("x + 1", "x+1")
    with pytest.raises(UsageError, match=r"pip install 'poise\[maths\]'"):
        maths.same("x+1", "1+x")


def test_a_process_that_dies_at_the_start_is_an_error_and_no_verdict(tmp_path, monkeypatch):
    (tmp_path / "math_verify.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(PoiseError, match="did not start"):
        Equivalence().same("x+1", "1+x")


def test_reading_and_importing_answers_does_not_import_computer_algebra():
    code = (
        "import sys; from poise.answers import read; from poise.types import Kind, Reply; "
        "read(Reply('$x+1$'), Kind.MATH); "
        "print({'sympy', 'math_verify', 'multiprocessing'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_kind_in_the_table_uses_the_process():
    assert KINDS[Kind.MATH].same("x+1", "1+x")
