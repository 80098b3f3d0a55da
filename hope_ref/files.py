"""Files that are never half written: into a temporary file beside the place first, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: str | Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """A file to write into, which takes the place of ``path`` when the block ends well; else what was there stays.

    Args: path, taken as it is, in a folder that exists; private: for the owner alone, instead of readable by all.
    Raises: OSError if it cannot be written.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        if not private:
            os.chmod(temporary, 0o644)  # mkstemp's are for their owner alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, record: dict[str, Any]) -> Path:
    """Write a record as indented JSON, into a folder that is made if need be; returns the path. Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())
    return path
