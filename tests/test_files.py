"""Outputs: whole or not at all, and what is no file is written into and never replaced."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from poise.errors import InputError, UsageError
from poise.files import refuse_existing, whole


def test_a_file_appears_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    with whole(target) as place:
        place.write(b"half")
        assert not target.exists()
    assert target.read_text() == "half"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("failure", [InputError("bad line"), RuntimeError("defect")])
def test_a_failure_inside_passes_through_and_keeps_what_was_there(
    failure: Exception, tmp_path: Path
) -> None:
    target = tmp_path / "out.txt"
    target.write_text("before")
    with pytest.raises(type(failure)), whole(target) as place:
        place.write(b"half")
        raise failure
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_link_names_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "real.txt", tmp_path / "link.txt"
    target.write_text("before")
    link.symlink_to(target)
    with whole(link) as place:
        place.write(b"after")
    assert link.is_symlink()
    assert target.read_text() == "after"


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    reader.start()
    refuse_existing(pipe, overwrite=False)
    with whole(pipe) as place:
        place.write(b"through")
    reader.join()
    assert heard == ["through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_full_device_is_one_line_and_is_still_there() -> None:
    with pytest.raises(UsageError, match="/dev/full: cannot be written"), whole("/dev/full") as to:
        to.write(b"x")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_ones_own_output_that_goes_to_a_file_is_written_into(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    code = (
        "from poise.files import refuse_existing, whole\n"
        "refuse_existing('/dev/stdout', overwrite=False)\n"
        "with whole('/dev/stdout') as place: place.write(b'said')\n"
    )
    log.write_text("earlier, ")
    with log.open("a") as stream:
        before = log.stat().st_ino
        subprocess.run([sys.executable, "-c", code], stdout=stream, check=True)
    assert (log.read_text(), log.stat().st_ino) == ("earlier, said", before)
    assert list(tmp_path.iterdir()) == [log]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"), whole(tmp_path / "no" / "out") as place:
        place.write(b"x")
    with pytest.raises(UsageError, match="half of a surrogate"), whole(tmp_path / "out") as place:
        place.write("\ud800".encode())
    with pytest.raises(UsageError, match="Is a directory"), whole(tmp_path) as place:
        place.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_refused_and_so_is_a_folder_or_none(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    refuse_existing(target, overwrite=False)
    target.write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        refuse_existing(target, overwrite=False)
    refuse_existing(target, overwrite=True)
    with pytest.raises(UsageError, match="is a folder"):
        refuse_existing(tmp_path, overwrite=True)
    with pytest.raises(UsageError, match="no such folder"):
        refuse_existing(tmp_path / "no" / "out", overwrite=True)
