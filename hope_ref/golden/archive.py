"""The arrays of a golden vector as an .npz file: the same bytes every time; no size is taken on trust."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from hope_ref.common.files import check_regular, one_line, read_bytes
from hope_ref.common.validation import Array, name_difference
from hope_ref.golden.components import Arrays, Shapes

MOST = 2**28  # bytes of all arrays of a vector
PLAN = 1024  # bytes at most for what describes an array: its names, its place in the archive, its header
BLOCK = 2**20  # bytes that are unpacked at a time
START = b"\x93NUMPY\x01\x00"  # of an array in version 1.0 of NumPy's format
END, END_64 = b"PK\x05\x06", b"PK\x06\x07"  # of the directory of a zip archive, small and large


def pack(arrays: Arrays) -> bytes:
    """The arrays as a compressed .npz file, the same bytes at every time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry, content = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), io.BytesIO()
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            little = np.array(array, dtype="<f8", order="C")  # ascontiguousarray would give a number an axis
            np.lib.format.write_array(content, little, version=(1, 0), allow_pickle=False)
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def total(shapes: Shapes) -> int:
    """The bytes of float64 arrays of these shapes."""
    return sum(8 * math.prod(shape) for shape in shapes.values())


def read(path: Path, shapes: Shapes) -> bytes:
    """The file, if it is no longer than arrays of these shapes can make it. Raises: ValueError; OSError."""
    check_regular(path)
    return read_bytes(path, int(1.001 * total(shapes)) + PLAN * (len(shapes) + 1))


def unpack(content: bytes, shapes: Shapes) -> Arrays:
    """Exactly the arrays of these names and shapes, each finite and float64, in little more memory.

    Raises: ValueError, which says what the archive must hold, and what it does.
    """
    _check_directory(content, len(shapes))
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_entries(archive.infolist(), shapes)
            return {name: _array(archive, f"{name}.npy", shape) for name, shape in shapes.items()}
    except _Refused:
        raise
    except Exception as error:  # each damage of a zip archive has its own
        raise ValueError(
            f"must be a whole .npz archive, got {type(error).__name__}: {one_line(error)}"
        ) from error


class _Refused(ValueError):
    """What is read can be read, and is not what it must be."""


def _check_directory(content: bytes, count: int) -> None:
    """Raise a ValueError unless a directory of so many arrays ends the file: zipfile reads any."""
    end = content[-22:]
    if not end.startswith(END) or content[-42:].startswith(END_64):
        raise _Refused("must be a whole .npz archive, got a file that does not end as one")
    entries, length = int.from_bytes(end[10:12], "little"), int.from_bytes(end[12:16], "little")
    if entries != count or length > PLAN * count:
        raise _Refused(f"must hold {count} arrays, got {entries} with {length} bytes of names")


def _check_entries(entries: list[zipfile.ZipInfo], shapes: Shapes) -> None:
    """Raise a ValueError unless every array is there once, and each is as long as its shape says."""
    names = [entry.filename for entry in entries]
    want = [f"{name}.npy" for name in shapes]
    if difference := name_difference(names, want):
        raise _Refused(f"must hold the arrays of the manifest; {one_line(difference)}")
    if len(names) != len(want):
        raise _Refused(f"must hold each array once, got {one_line(', '.join(names))}")
    for entry in entries:
        size = 8 * math.prod(shapes[entry.filename.removesuffix(".npy")])
        if not size < entry.file_size <= size + PLAN:
            raise _Refused(
                f"{entry.filename} must unpack to {size} bytes and a header, got {entry.file_size} bytes"
            )
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
            raise _Refused(
                f"{entry.filename} must be deflated or stored, got another compression or encryption"
            )


def _array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...]) -> Array:
    """One array, unpacked block by block into its place."""
    array, entry = np.empty(shape, "<f8"), archive.getinfo(name)
    with archive.open(entry) as file:
        start = file.read(len(START) + 2)
        length = int.from_bytes(start[len(START) :], "little")
        header = file.read(min(length, PLAN)).decode("latin1").rstrip()
        want = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
        if not start.startswith(START) or header != want:
            raise _Refused(f"{name} must begin with {want}, got {one_line(header, 120)}")
        if entry.file_size != len(start) + length + array.nbytes:
            raise _Refused(
                f"{name} must have {array.nbytes} bytes after its header, "
                f"got {entry.file_size - len(start) - length}"
            )
        _fill(array, file)
    with np.errstate(invalid="ignore"):
        finite = not array.size or np.isfinite([array.min(), array.max()]).all()
    if not finite:
        raise _Refused(
            f"{name} must be finite, got {int((~np.isfinite(array)).sum())} NaN or infinite entries"
        )
    return array.astype(np.float64, copy=False)


def _fill(array: Array, file: IO[bytes]) -> None:
    """The rest of the file, whose checksum is looked at where it ends, as the entries of the array."""
    place, position = array.reshape(-1).view(np.uint8), 0
    while block := file.read(BLOCK):
        place[position : position + len(block)] = np.frombuffer(block, np.uint8)
        position += len(block)
    if position != array.nbytes:
        raise _Refused(f"must be whole, got {position} bytes of {array.nbytes} of an array")
