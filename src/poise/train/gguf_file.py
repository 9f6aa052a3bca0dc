"""A .gguf file with some of its matrices replaced by others, everything else byte for byte.

The file's own numbers say how a matrix lies in it: a new one is written in the order of rows in
which the old one, unpacked, is the model's own. It does not know adapters, or what was trained.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from poise.errors import InputError
from poise.files import whole

if TYPE_CHECKING:
    from gguf import GGUFReader
    from gguf.gguf_reader import ReaderTensor

__all__ = ["Replaced", "rewrite"]

FloatArray = npt.NDArray[np.float32]
Replaced = Mapping[str, tuple[FloatArray, FloatArray]]
"""By the layer's name in transformers: the old and the new matrix, (rows, columns) each."""

SOME = 1e-2
"""Of a matrix's largest weight: what reading it in a shorter dtype may have moved it by."""

MOST_F16 = 65504.0


def rewrite(base: Path, target: Path, replaced: Replaced, heads: tuple[int, ...]) -> None:
    """Write ``base`` to ``target`` with the new matrices as F16.

    ``heads``: numbers of heads that rows may be interleaved by (llama.cpp rotates neighbouring
    rows, transformers the two halves of a head). Raises InputError where the file has no tensor for
    a layer, where its tensor is not the old matrix, and for weights that F16 cannot hold.
    """
    reader = _open(base)
    names = _names(reader, base)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    new: dict[str, bytes] = {}
    for layer, (before, after) in replaced.items():
        tensor = tensors.get(f"{names(layer)}.weight")
        if tensor is None:
            raise InputError(f"it holds no tensor for the layer {layer}", base)
        laid = _layout(tensor, before, heads)(after)
        if not float(np.abs(laid).max()) <= MOST_F16:
            raise InputError(f"the new weights of {layer} are too large for F16, or not finite")
        new[tensor.name] = laid.astype("<f2").tobytes()
    _write(reader, target, new)


def _open(base: Path) -> GGUFReader:
    import gguf  # noqa: PLC0415 - comes with transformers' reader of these files

    try:
        reader = gguf.GGUFReader(base)
    except (ValueError, IndexError, OSError) as error:
        raise InputError(f"not a readable .gguf file ({error})", base) from error
    version = int(reader.fields["GGUF.version"].parts[0][0])
    if version < 2 or reader.endianess != gguf.GGUFEndian.LITTLE:
        raise InputError("only little-endian .gguf files of version 2 or later can be kept", base)
    return reader


def _names(reader: GGUFReader, base: Path) -> Callable[[str], str | None]:
    """A layer's name in transformers -> its name in the file."""
    import gguf  # noqa: PLC0415

    architecture = _value(reader, "general.architecture", base)
    known = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    if architecture not in known:
        raise InputError(f"its architecture {architecture!r} is not known to gguf", base)
    blocks = _value(reader, f"{architecture}.block_count", base)
    table = gguf.get_tensor_name_map(known[architecture], int(blocks))
    return table.get_name


def _value(reader: GGUFReader, name: str, base: Path) -> Any:
    field = reader.get_field(name)
    if field is None:
        raise InputError(f"it does not state {name}", base)
    return field.contents()


def _layout(
    tensor: ReaderTensor, before: FloatArray, heads: tuple[int, ...]
) -> Callable[[FloatArray], FloatArray]:
    """How the model's rows are ordered in the file, found by comparing the old matrix with it."""
    import gguf  # noqa: PLC0415

    stored = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    orders: list[Callable[[FloatArray], FloatArray]] = [
        np.asarray,
        *(_interleaving(n) for n in heads if before.shape[0] % (2 * n) == 0),
    ]
    if stored.shape == before.shape:
        apart = [float(np.abs(order(before) - stored).max()) for order in orders]
        best = int(np.argmin(apart))
        if apart[best] <= SOME * float(np.abs(stored).max()):
            return orders[best]
    raise InputError(
        f"its tensor {tensor.name} is not the matrix that was trained on; export beside the file"
        " that the base was loaded from"
    )


def _interleaving(heads: int) -> Callable[[FloatArray], FloatArray]:
    def order(matrix: FloatArray) -> FloatArray:
        rows, columns = matrix.shape
        halves = matrix.reshape(heads, 2, rows // heads // 2, columns)
        return halves.swapaxes(1, 2).reshape(rows, columns)

    return order


def _write(reader: GGUFReader, target: Path, new: Mapping[str, bytes]) -> None:
    """Header and fields as they are, then tensors described anew, then their data."""
    import gguf  # noqa: PLC0415

    raw, aligned = reader.data, reader.alignment
    head = raw[: int(reader.tensors[0].field.offset)].tobytes()
    described, offset = b"", 0
    for tensor in reader.tensors:
        kind, size = int(tensor.tensor_type), int(tensor.n_bytes)
        if tensor.name in new:
            kind, size = int(gguf.GGMLQuantizationType.F16), len(new[tensor.name])
        name = tensor.name.encode()
        described += struct.pack("<Q", len(name)) + name
        described += struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        described += struct.pack("<IQ", kind, offset)
        offset += size + _gap(size, aligned)
    with whole(target) as stream:
        stream.write(head + described + bytes(_gap(len(head) + len(described), aligned)))
        for tensor in reader.tensors:
            start = int(tensor.data_offset)
            kept = raw[start : start + int(tensor.n_bytes)]
            data = new[tensor.name] if tensor.name in new else kept.tobytes()
            stream.write(data + bytes(_gap(len(data), aligned)))


def _gap(size: int, aligned: int) -> int:
    return -size % aligned
