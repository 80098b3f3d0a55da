"""Which module is this from? Passages of Python's standard library, two modules at a time. The toy form of [P Fig. 6, 9.1]; [D].

A class is a module that is written in Python. A passage is 64 words in a row, a question mark, and then a label. A word is
three letters or more, and stands as one of 235 numbers by its CRC-32: so a passage says something about its module without
anything having to learn to spell. (64 *bytes* do not: a small model's nearest class mean is right in 9 %, [D].)
Passages to learn from come from the first 70 % of a module's words, those to be asked from the rest.

Chance, with 20 classes and tasks of two: 1/20 blindly; 1/10 for who knows the last task and nothing else; 1/2 if the task is told.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import positive_integer
from hope_ref.tasks.common import Integers, Seed, generator, integer

# All of these are in Python 3.11 to 3.14; of the others each has at least 900 words.
_CLASSES = """
_pydecimal _pyio argparse asyncio.base_events difflib doctest email._header_value_parser enum http.cookiejar inspect
ipaddress mailbox pickletools pydoc subprocess tarfile typing unittest.mock urllib.request xml.etree.ElementTree
"""
_OTHERS = """
_markupbase _strptime ast asyncio.events asyncio.futures asyncio.locks asyncio.proactor_events asyncio.selector_events
asyncio.sslproto asyncio.streams asyncio.tasks asyncio.transports asyncio.unix_events asyncio.windows_events base64
bdb calendar cmd collections compileall concurrent.futures._base concurrent.futures.process configparser contextlib
csv dataclasses dbm.dumb dis email._parseaddr email._policybase email.charset email.contentmanager email.feedparser
email.generator email.header email.headerregistry email.message email.policy email.quoprimime email.utils filecmp
fileinput fractions ftplib functools gettext graphlib gzip hashlib heapq html.parser http.client http.cookies
http.server imaplib importlib.metadata json json.decoder json.encoder locale logging logging.config logging.handlers
mimetypes modulefinder multiprocessing.connection multiprocessing.context multiprocessing.forkserver
multiprocessing.heap multiprocessing.managers multiprocessing.pool multiprocessing.process multiprocessing.queues
multiprocessing.resource_tracker multiprocessing.shared_memory multiprocessing.spawn multiprocessing.synchronize
multiprocessing.util optparse pdb pickle pkgutil platform plistlib poplib pprint pstats pyclbr queue random
re._compiler re._parser selectors shelve shlex shutil smtplib socket socketserver ssl statistics symtable tabnanny
tempfile textwrap threading tokenize tomllib._parser trace traceback tracemalloc unittest.case unittest.loader
urllib.parse uuid wave weakref webbrowser wsgiref.handlers wsgiref.validate xml.dom.expatbuilder xml.dom.minidom
xml.dom.pulldom xml.dom.xmlbuilder xml.etree.ElementPath xml.sax.expatreader xml.sax.handler xml.sax.saxutils
xml.sax.xmlreader xmlrpc.client xmlrpc.server zoneinfo._zoneinfo
"""
CLASSES, OTHERS = tuple(_CLASSES.split()), tuple(_OTHERS.split())
WORDS, LABELS, VOCABULARY = 64, 20, 256
QUESTION = VOCABULARY - 1
FIRST_LABEL = QUESTION - LABELS  # words are the numbers below it
LENGTH = WORDS + 1  # tokens that are read before a label is due
SHARE = 0.7  # of a module's words, to learn from


class Task(NamedTuple):
    """Passages of two modules in random order, and others of them to be asked; integers, as arrays or as tensors."""

    labels: tuple[int, ...]  # of its modules, in [0, 20)
    passages: Any  # (n, 65), 64 words and the question mark
    named: Any  # (n,), the label of each
    questions: Any  # (m, 65)
    answers: Any  # (m,)


class Library(NamedTuple):
    """The words of some modules, (n,) each, and the SHA-256 of all their source."""

    words: tuple[Integers, ...]
    sha256: str


@cache
def library(names: tuple[str, ...]) -> Library:
    """Read the source of modules of the standard library; none of them is run, but for the packages they are in.

    Raises: ValueError for a module that this Python does not have as source.
    """
    words, checksum = [], hashlib.sha256()
    for name in names:
        spec = find_spec(name)
        if spec is None or not str(spec.origin).endswith(".py"):
            raise ValueError(f"names must be modules with source in Python, got {name!r}")
        raw = Path(str(spec.origin)).read_bytes()
        checksum.update(raw)
        words.append(numbers(raw.decode("utf-8")))
    return Library(tuple(words), checksum.hexdigest())


def numbers(text: str) -> Integers:
    """The words of a text as numbers in [0, 235), (n,)."""
    found = re.findall("[A-Za-z]{3,}", text)
    return np.array([zlib.crc32(word.encode()) % FIRST_LABEL for word in found], np.int64)


def split(words: Integers) -> tuple[Integers, Integers]:
    """The words to learn from, and those to ask: the first 70 %, rounded down, and the rest."""
    cut = int(SHARE * len(words))
    return words[:cut], words[cut:]


def passages(words: Integers, count: int, rng: np.random.Generator) -> Integers:
    """Passages from random places, (count, 65): 64 words in a row and the question mark."""
    if len(words) < WORDS:
        raise ValueError(f"words must be at least {WORDS}, got {len(words)}")
    starts = rng.integers(0, len(words) - WORDS + 1, size=count)
    return np.pad(words[starts[:, None] + np.arange(WORDS)], ((0, 0), (0, 1)), constant_values=QUESTION)


def stream(words: Sequence[Integers], seed: Seed, shown: int, asked: int) -> tuple[Task, ...]:
    """All modules in a random order, two at a time; a module's label is its number.

    Args:
        words: of each module, an even number of them, at most 20; first parts of `split`, to tune on nothing that is asked later.
        seed: of the order and of the passages, an integer or several.
        shown, asked: passages of each module.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    if not 0 < len(words) <= LABELS or len(words) % 2:
        raise ValueError(f"words must be of an even number of modules, at most {LABELS}, got {len(words)}")
    rng = generator(seed)
    order = rng.permutation(len(words))
    return _tasks([words[n] for n in order], order, shown, asked, rng)


def episode(words: Sequence[Integers], seed: Seed, tasks: int, shown: int, asked: int) -> tuple[Task, ...]:
    """Tasks of two modules each, drawn from many, with labels drawn from all 20: to learn from how to learn.

    Args: words, of at least 2 tasks modules; seed; tasks, 1 to 10; shown and asked, passages of each module.
    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    count = 2 * integer("tasks", tasks, 1, LABELS // 2)
    if len(words) < count:
        raise ValueError(f"words must be of at least {count} modules, got {len(words)}")
    rng = generator(seed)
    chosen = rng.permutation(len(words))[:count]
    return _tasks([words[n] for n in chosen], rng.permutation(LABELS)[:count], shown, asked, rng)


def _tasks(
    words: Sequence[Integers], labels: Integers, shown: int, asked: int, rng: np.random.Generator
) -> tuple[Task, ...]:
    """Two modules after the other: of each ``shown`` passages to learn from, mixed, and ``asked`` others."""
    counts = positive_integer("shown", shown), positive_integer("asked", asked)
    made = []
    for at in range(0, len(words), 2):
        parts = zip(*(split(own) for own in words[at : at + 2]), strict=True)
        (learnt, named), (questions, answers) = (
            (
                np.concatenate([passages(part, count, rng) for part in own]),
                np.repeat(labels[at : at + 2], count),
            )
            for own, count in zip(parts, counts, strict=True)
        )
        order = rng.permutation(len(learnt))
        made.append(
            Task(tuple(labels[at : at + 2].tolist()), learnt[order], named[order], questions, answers)
        )
    return tuple(made)
