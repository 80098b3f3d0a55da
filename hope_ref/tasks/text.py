"""Real text without a download: the language reference that every Python carries, or any file, byte by byte.

Source: `pydoc_data.topics`, the text behind `help("assert")` and its kin [D]; about 466 kB, a little different in
every minor version of Python, which is why `Text` carries a checksum: quote it beside any number.

What a number of bits per byte is worth, measured on the 5 % test stretch under Python 3.11 (`Text.sha256` begins
37d06970): 8 for a blind guess, 4.46 for the frequencies of single bytes
(`byte_entropy`), 3.30 for pairs of bytes (`bigram_bits`), 1.97 for gzip (`gzip_bits`).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from hope_ref.common.validation import positive_integer, scalar
from hope_ref.tasks.common import Integers, Seed, generator, integer

Bytes: TypeAlias = npt.NDArray[np.uint8]
SYMBOLS = 256


class Text(NamedTuple):
    """The bytes (n,), their SHA-256 in hexadecimal digits, and where they come from."""

    data: Bytes
    sha256: str
    name: str


class Split(NamedTuple):
    """Three contiguous stretches of one text, in the order of the text."""

    train: Bytes
    validation: Bytes
    test: Bytes


def _bytes(name: str, value: Any, least: int) -> Bytes:
    array = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else np.asarray(value)
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"{name} must be uint8 of shape (n,), got {array.dtype} of shape {array.shape}")
    if len(array) < least:
        raise ValueError(f"{name} must have at least {least} bytes, got {len(array)}")
    return array


def load(path: str | Path | None = None, name: str = "path") -> Text:
    """The bytes of a file; of Python's own language reference if no file is named.

    The reference is a dictionary, topic to text: its texts are joined in the sorted order of the topics.

    Args: path; name, what an error calls it.
    Raises: ValueError, if the file is missing, is a directory or is empty, or this Python comes without its reference.
    """
    if path is None:
        try:
            from pydoc_data.topics import topics
        except ImportError as error:
            raise ValueError(
                f"{name} must name a text file: this Python comes without pydoc_data.topics"
            ) from error
        raw = "".join(topics[topic] for topic in sorted(topics)).encode("utf-8")
        version = ".".join(platform.python_version_tuple()[:2])
        source = f"pydoc_data.topics of Python {version}"
    else:
        if not os.path.isfile(path):  # which is False, too, for what no system could take as a name
            raise ValueError(f"{name} must be a file that exists, got {str(path)!r}{other_kind(path)}")
        raw, source = Path(path).read_bytes(), Path(path).name
    if not raw:
        raise ValueError(f"{name} must be a file with at least 1 byte, got {source!r} with 0")
    return Text(np.frombuffer(raw, np.uint8), hashlib.sha256(raw).hexdigest(), source)


def other_kind(path: str | Path) -> str:
    """What is at a path, in words that follow it, if it is no regular file: a pipe, say, which cannot be read twice."""
    if os.path.isdir(path):
        return ", which is a folder"
    return ", which is a pipe or a device: save it as a file first" if os.path.exists(path) else ""


def split(data: Any, validation: Any = 0.05, test: Any = 0.05) -> Split:
    """Cut a text into its beginning, for training, and two stretches at its end, for validation and test.

    Contiguous stretches, never shuffled windows: a window of the test text that overlaps the training text would be
    known by heart.

    Args: data, (n,) uint8 or bytes; validation and test, their shares of n, rounded down, each at least one byte.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    array = _bytes("data", data, 1)
    sizes = [
        int(len(array) * scalar(name, share, low=0, high=1))
        for name, share in (("validation", validation), ("test", test))
    ]
    first = len(array) - sum(sizes)
    if min(first, *sizes) < 1:
        raise ValueError(
            f"data must leave every part a byte, got {len(array)} bytes cut into {[first, *sizes]}"
        )
    return Split(array[:first], array[first : first + sizes[0]], array[first + sizes[0] :])


def windows(data: Any, batch: Any, length: Any, seed: Seed) -> Integers:
    """Windows at random places: columns 0..T-1 are the input, columns 1..T what comes next.

    Args: data, (n,) uint8 or bytes, n > T; batch B; length T; seed, an integer or several, such as (seed, step).
    Returns: int64, (B, T+1); every one of the n - T places is equally likely.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    batch, length = positive_integer("batch", batch), positive_integer("length", length)
    array = _bytes("data", data, length + 1)
    starts = generator(seed).integers(0, len(array) - length, size=batch)  # (B,)
    return array[starts[:, None] + np.arange(length + 1)].astype(np.int64)


def batches(data: Any, batch: Any, length: Any, seed: int, start: Any = 0) -> Iterator[Integers]:
    """Endless training batches: number i is `windows(data, batch, length, (seed, i))`, so a run resumes at any i.

    Args: as `windows`; start, the number of the first batch.
    """
    step = integer("start", start, 0)
    while True:
        yield windows(data, batch, length, (seed, step))
        step += 1


def stream(data: Any, length: Any, lanes: Any = 1) -> Iterator[Integers]:
    """A text once, from its beginning to its end, for evaluation: every byte after a lane's first is predicted once.

    The text is cut into equal lanes that are read side by side; at most lanes - 1 bytes at its end are left over.
    Each piece begins with the byte that the piece before ended with, so a model may carry its state along.

    Args: data, (n,) uint8 or bytes; length T, predictions per piece; lanes L.
    Returns: int64 pieces (L, T+1) in order; the last one may be shorter, with at least two columns.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    length, lanes = positive_integer("length", length), positive_integer("lanes", lanes)
    array = _bytes("data", data, lanes + 1)
    size = (len(array) - 1) // lanes  # predictions per lane
    places = np.arange(lanes)[:, None] * size  # (L, 1)
    for first in range(0, size, length):
        yield array[places + np.arange(first, min(first + length, size) + 1)].astype(np.int64)


def byte_entropy(data: Any) -> float:
    """Σ_b -p_b log₂ p_b with p_b the frequency of byte b in this text: bits per byte for who ignores all context."""
    counts = np.bincount(_bytes("data", data, 1), minlength=SYMBOLS)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def bigram_bits(train: Any, test: Any, smoothing: Any = 1.0) -> float:
    """Bits per byte on the test text for who knows the last byte alone and has counted pairs in the training text.

    p(b | a) = (n(a, b) + s) / (n(a) + 256 s) with n the counts of `train` and s the smoothing, 1 by default; the mean
    of -log₂ p over the n_test - 1 bytes of `test` that have one before them.
    """
    first, second = _bytes("train", train, 1).astype(np.int64), _bytes("test", test, 2).astype(np.int64)
    extra = scalar("smoothing", smoothing, low=1e-12)  # with 0 an unseen pair would cost infinitely many bits
    counts = np.bincount(first[:-1] * SYMBOLS + first[1:], minlength=SYMBOLS**2).reshape(SYMBOLS, SYMBOLS)
    share = (counts + extra) / (counts.sum(axis=1, keepdims=True) + SYMBOLS * extra)
    return float(-np.log2(share[second[:-1], second[1:]]).mean())


def gzip_bits(train: Any, test: Any) -> float:
    """Bits per byte that the test text adds to a gzip file: 8 (|gzip(train + test)| - |gzip(train)|) / n_test.

    Level 9, no time stamp. gzip looks back 32 kB, so only the last 32 kB of `train` help; another version of zlib may
    give a slightly different size.
    """
    first, second = _bytes("train", train, 0).tobytes(), _bytes("test", test, 1).tobytes()
    sizes = [len(gzip.compress(raw, compresslevel=9, mtime=0)) for raw in (first + second, first)]
    return 8 * (sizes[0] - sizes[1]) / len(second)
