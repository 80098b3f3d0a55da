"""Files that are never half written: into a temporary file beside the place first, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PART = ".part"  # ends the name of what is not whole yet; a dot begins it


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
