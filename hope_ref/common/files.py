"""Files that are never half written and never read on trust.

What is written goes into a temporary file beside its place first, which is then renamed. What is read has a size that is
looked at first, and one ValueError names the file, what it holds and what it must hold.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PART = ".part"  # ends the name of what is not whole yet; a dot begins it
JSON_LIMIT = 2**20  # bytes; hundreds of configurations, and little memory whatever the text holds
DIGITS = 40  # of an integer in JSON


@contextmanager
def replacing(path: str | Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """A file to write into, which takes the place of ``path`` when the block ends well; else what was there stays.

    The disk has it before it is renamed: a power cut, too, leaves the old file or the new one.

    Args: path, taken as it is, in a folder that exists; private: for the owner alone, instead of readable by all.
    Raises: OSError if it cannot be written.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not private:
            os.chmod(temporary, 0o644)  # mkstemp's are for their owner alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":  # a folder can be waited for only there
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json(path: Path, record: dict[str, Any]) -> Path:
    """Write a record as indented JSON, into a folder that is made if need be; returns the path. Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())
    return path


def read_bytes(path: str | Path, limit: int | None = None) -> bytes:
    """All bytes of a file; without a limit a regular one, whose size is known, no device or pipe.

    Raises: ValueError if it is another thing or longer than ``limit``; OSError if it cannot be read.
    """
    if limit is None or Path(path).is_dir():
        check_regular(path)
    with open(path, "rb") as file:
        content = file.read(-1 if limit is None else limit + 1)
    if limit is not None and len(content) > limit:
        raise ValueError(f"{path} must have at most {limit} bytes, got more")
    return content


def check_regular(path: str | Path) -> None:
    """Raise a ValueError for a folder, a device or a pipe; what is not there is left to whoever opens it."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} must be a file, got a folder")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} must be a regular file, got a device or a pipe")


@contextmanager
def stored_records(path: str | Path, kind: str) -> Iterator[zipfile.ZipFile]:
    """The zip archive in a file, whole: no record is compressed, together they are no longer than the file, each has its checksum.

    Raises: ValueError, ``<path> must be <kind>: …``, if it is another file, and for whatever error leaves the block;
    OSError if the file cannot be opened.
    """
    check_regular(path)
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                _check_records(archive, os.fstat(file.fileno()).st_size)
                yield archive
        except Exception as error:  # zip archives have many, and so has what they hold
            raise ValueError(f"{path} must be {kind}: {one_line(error)}") from error


def _check_records(archive: zipfile.ZipFile, size: int) -> None:
    records = archive.infolist()
    _once([(record.filename, record) for record in records])
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
            raise ValueError(f"its records must be stored uncompressed, got {record.filename!r}")
    if (total := sum(record.file_size for record in records)) > size:
        raise ValueError(f"its records must fit into its {size} bytes, got {total}")
    if damaged := archive.testzip():
        raise ValueError(f"it is damaged, the checksum of its record {damaged!r} is wrong")


def read_json(path: str | Path, limit: int = JSON_LIMIT, *, finite: bool = True) -> dict[str, Any]:
    """The one JSON object in a file, as `json_object` reads it. Raises: ValueError that names the file; OSError."""
    try:
        text = read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be JSON in UTF-8: {error.reason} at byte {error.start}") from error
    return json_object(text, str(path), finite=finite)


def json_object(text: str, name: str = "text", *, finite: bool = True) -> dict[str, Any]:
    """One JSON object as a dict: every name once, no integer of more than 40 digits, if ``finite`` no NaN and no infinity.

    Raises: ValueError for anything else, which says ``name``.
    """
    number = _finite if finite else float
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_constant=number, parse_float=number, parse_int=_integer
        )
    except RecursionError as error:
        raise ValueError(f"{name} must be JSON, got one that is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{name} must be JSON: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be one JSON object, got {type(value).__name__}")
    return value


def one_line(error: object, length: int = 300) -> str:
    """What an error says, on one line that every terminal can show, cut to a length."""
    text = " ".join(str(error).encode("utf-8", "backslashreplace").decode().split()) or type(error).__name__
    return text if len(text) <= length else text[: length - 1] + "…"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict. Raises: ValueError if a name stands twice."""
    names: dict[str, Any] = {}
    for name, value in pairs:
        if name in names:
            raise ValueError(f"each name must stand once, got {name!r} twice")
        names[name] = value
    return names


def _finite(text: str) -> float:
    """The number. Raises: ValueError for NaN, Infinity and what is too large for a float64."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"each number must be finite, got {text}")
    return number


def _integer(text: str) -> int:
    """The integer. Raises: ValueError if it is so long that no size or count can be meant."""
    if (digits := len(text.lstrip("-"))) > DIGITS:
        raise ValueError(f"each integer must have at most {DIGITS} digits, got one of {digits}")
    return int(text)
