"""Where a command may write: what it would overwrite is looked at before any long work."""

from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path

HEAD = 4096  # bytes in which the mark of a file stands


def writable_folder(name: str, folder: Path) -> None:
    """Raise a ValueError unless the path is a folder that can be written to, or one that can be made."""
    folder = Path(os.path.abspath(folder))
    if any(len(os.fsencode(part)) > 255 for part in folder.parts):
        raise ValueError(
            f"{name} must be a folder whose name has at most 255 bytes, got {folder.name[:20]!r}…"
        )
    place = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    if not place.is_dir():
        raise ValueError(f"{name} must be a folder, got {str(folder)!r}, where {str(place)!r} is none")
    try:
        with tempfile.TemporaryDirectory(dir=place):
            pass  # permissions alone do not tell: it may be a read-only disk, or no disk at all
    except OSError as error:
        raise ValueError(
            f"{name} must be a folder that can be written to, got {str(folder)!r}: {error.strerror or error}"
        ) from error


def replaceable(name: str, path: Path, *marks: str) -> None:
    """Raise a ValueError unless a file can be written there: where nothing is, or a file whose head holds every mark.

    A mark is what tells a file that this command wrote before from somebody's own.
    """
    writable_folder(name, path.parent)
    if path.is_dir():
        raise ValueError(f"{name} must be a file, got the folder {str(path)!r}")
    if not os.path.lexists(path):
        return
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD) if path.is_file() else b""
    except OSError:
        head = b""
    if not all(mark.encode() in head for mark in marks):
        raise ValueError(
            f"{name} must be a new file or one that this command wrote, got {str(path)!r}, which is another: it stays as it is"
        )


def repository_folder(name: str, given: Path | None, inside: str = "") -> Path:
    """The folder that an option names; by default a folder of the repository of hope_ref that we stand in.

    Raises: ValueError if none is named and this is no such repository.
    """
    if given is not None:
        return given
    try:
        project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        project = None
    if project != "hope_ref":
        raise ValueError(f"{name} must be given outside a repository of hope_ref, got none")
    return Path(inside)
