"""Every block of the README that can be run is run, in a copy of what it needs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fault_server import FaultServer

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHELL = [body for language, body in BLOCKS if language == "sh"]
PYTHON = [body for language, body in BLOCKS if language == "python"]
NEEDS_SERVER = re.compile(r"--base-url|poise serve|localhost:8100")
BIN = Path(sys.executable).parent


def run(command: str, folder: Path) -> str:
    """Run a block where the README's relative paths hold; what it printed."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace(".venv/bin/", "")],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    return tmp_path


def test_every_block_is_of_a_kind_that_is_run_or_is_output() -> None:
    assert {language for language, _ in BLOCKS} <= {"sh", "python", "text"}
    assert SHELL[:2] == ["make demo\n", "make test\n"]


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_are_targets_of_the_makefile(target: str) -> None:
    """The demo's own commands run below; the tests are running already."""
    done = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.model
@pytest.mark.usefixtures("weights")
def test_the_demo_prints_a_table_and_the_comparison(folder: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    listed = subprocess.run(
        ["make", "--no-print-directory", "-n", "-o", ".venv/.user", "demo"],
        cwd=ROOT,
        env=plain,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    printed = run(re.sub(r"^\s*(touch|echo).*$", "", listed, flags=re.MULTILINE), folder)
    assert "20 questions, 20 answered" in printed
    assert "not calibrated" in printed
    assert re.search(r"^samples +\d+ +305 +0\.\d\d$", printed, re.MULTILINE)


@pytest.mark.model
@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("block", [b for b in SHELL[2:] if not NEEDS_SERVER.search(b)])
def test_a_shell_block_runs(block: str, folder: Path) -> None:
    run(block, folder)


@pytest.mark.parametrize("block", [b for b in SHELL if "--base-url" in b])
def test_a_block_that_names_a_server_runs_against_one(block: str, folder: Path) -> None:
    with FaultServer(models=("my-model",)) as server:
        printed = run(block.replace("http://localhost:8000/v1", server.base_url), folder)
    assert "my-model" in printed


@pytest.mark.model
@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("block", [b for b in PYTHON if not NEEDS_SERVER.search(b)])
def test_a_python_block_runs(block: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "StopReason" not in done.stdout


@pytest.mark.model
@pytest.mark.usefixtures("weights")
def test_the_gateway_answers_in_one_curl_and_through_the_official_client(folder: Path) -> None:
    (command,) = (block for block in SHELL if "poise serve" in block)
    (curl,) = (block for block in SHELL if block.startswith("curl"))
    (client,) = (block for block in PYTHON if "localhost:8100" in block)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    verb = shlex.split(command.replace("8100", port))[1:]
    with subprocess.Popen([BIN / "poise", *verb], cwd=folder) as serving:
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            reply = json.loads(run(curl.replace("8100", port), folder))
            assert reply["poise"]["calibrated"] is True
            assert reply["poise"]["recorded"] is True
            printed = run(f"python - <<'END'\n{client.replace('8100', port)}\nEND", folder)
            assert printed.split()[-1] in {"answer", "abstain"}
        finally:
            serving.terminate()
    assert serving.returncode == 0


def test_the_map_of_the_source_names_what_is_there() -> None:
    tree = README.split("src/poise/\n", 1)[1].split("benchmarks/", 1)[0]
    named = set(re.findall(r"[├└]── ([\w.]+)/?", tree))
    there = {path.name for path in (ROOT / "src/poise").iterdir()}
    assert named == there - {"__init__.py", "__pycache__", "py.typed"}
