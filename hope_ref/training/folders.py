"""A run's folder: whose it is, who holds it, and what is left of a start that failed. [D]"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from hope_ref.common.files import PART
from hope_ref.common.outputs import writable_folder
from hope_ref.training.files import CURVE, METRICS, RUN, checkpoints, held_run

LOCK, HOLDER = ".run.lock", ".run.pid"
NAMES = ("checkpoint-????????.pt", RUN, METRICS, CURVE)  # what a run writes; nothing else is touched
LOGGER = logging.getLogger("hope_ref")


class Claim:
    """A run's folder, made if need be, and held by this process alone until the block ends.

    A new run wants a folder without any file of the names that a run writes. If it fails before `keep` is called, all that
    it wrote is removed, and so are the folders that it made.
    """

    def __init__(self, folder: Path, new: bool) -> None:
        self.folder, self.new, self.kept = folder, new, not new
        self.made: list[Path] = []

    def __enter__(self) -> Claim:
        """Raises: ValueError if the folder is no place for this run, or another process holds it."""
        if self.new:
            refuse_other(self.folder)
        absent = (one for one in (self.folder, *self.folder.parents) if not one.exists())
        self.made = list(absent) if self.new else []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / LOCK, timeout=0)
            self._lock.acquire()
        except Timeout:
            raise ValueError(
                f"out must be a folder that no training holds, got {str(self.folder)!r}, held by {_holder(self.folder)}"
            ) from None
        except OSError as error:
            self._remove_folders()
            raise ValueError(
                f"out must be a folder that can be written to, got {str(self.folder)!r}: {error.strerror or error}"
            ) from error
        try:
            if self.new:
                refuse_other(self.folder)  # once more: another start may have been quicker
            if (self.folder / HOLDER).exists():
                LOGGER.warning(
                    "%s was held by %s, which ended without a word: its lock is taken over",
                    self.folder,
                    _holder(self.folder),
                )
            (self.folder / HOLDER).write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        except BaseException:
            self._release()
            raise
        return self

    def keep(self) -> None:
        """From now on what the run has written stays, whatever happens."""
        self.kept = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not self.kept:
            sweep(self.folder)
            remove_run(self.folder)
        self._release()
        if kind is not None and not self.kept:
            self._remove_folders()

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            (self.folder / HOLDER).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # where a locked file cannot be removed it stays
            (self.folder / LOCK).unlink(missing_ok=True)
        self._lock.release()

    def _remove_folders(self) -> None:
        for folder in self.made:
            with contextlib.suppress(OSError):  # not empty: somebody else's by now
                folder.rmdir()


def _holder(folder: Path) -> str:
    """The process that holds a folder, or did when it ended."""
    try:
        return (folder / HOLDER).read_text(errors="replace").strip() or "another process"
    except OSError:
        return "another process"


def files_of_a_run(folder: Path) -> list[Path]:
    """The files in a folder that bear names a run writes."""
    return sorted(path for name in NAMES for path in folder.glob(name))


def refuse_other(folder: Path) -> None:
    """Raise a ValueError unless a new run can begin here: in no file's place, beside no file of a run's names."""
    writable_folder("out", folder)
    present = files_of_a_run(folder)
    if not present:
        return
    if checkpoints(folder) or (folder / RUN).exists():
        try:
            run = held_run(folder)
        except ValueError:
            run = None
        if run is not None:
            raise ValueError(
                f"out must be a folder without a run, got {str(folder)!r}: resume it, or name another"
            )
    raise ValueError(
        f"out must be a folder without files of the names that a run writes, got {str(folder)!r} with "
        f"{', '.join(path.name for path in present)}, which would be overwritten: name another folder"
    )


def remove_run(folder: Path) -> None:
    """Remove what a run has written, and nothing else."""
    for path in files_of_a_run(folder):
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half written of a run's files."""
    for name in NAMES:
        for left in folder.glob(f".{name}.*{PART}"):
            left.unlink(missing_ok=True)
