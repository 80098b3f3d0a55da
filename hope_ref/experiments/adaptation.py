"""HOPE that goes on learning while it reads (``signal="task"``): does that help on text it has not seen, and what stays? [D]

A tiny HOPE is trained on Python's manual, then reads the unseen end of the manual and, as another kind of text, Python's
own source, while its levels learn from its loss on the bytes just read [S 14-15]. Every rate reads the same bytes from
the same weights; rate 0 is the control that must change nothing. Two ways of reading: one state carried through the
whole passage, and a mixer that begins afresh in every window of the training length, so that the levels alone remember.
"""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hope_ref.experiments import text_reading as reading
from hope_ref.experiments import text_runs
from hope_ref.experiments.cells import Cell, Experiment, Measures, Records, Table
from hope_ref.experiments.findings import NONE
from hope_ref.parallel.hope import BlockState, Hope, HopeState
from hope_ref.parallel.hope_adaptation import AdaptationState, adapt
from hope_ref.tasks.text import Bytes

SOURCES = ("argparse", "statistics")  # modules of Python that are written in Python
KINDS = ("manual", "source")
WAYS = ("carried", "windows")


def cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    """One model for every seed; every rate reads with it."""
    quick = scale == "quick"
    sizes = [8, 16] if quick else [64, 256]
    settings = text_runs.settings_of(scale, 150, {"levels_chunk_sizes": sizes})
    del settings["long"], settings["test_bytes"]
    settings |= {
        "rates": [0.0, 1.0]
        if quick
        else [0.0, 0.1, 1.0, 3.0, 10.0, 30.0],  # times the default, 0.1 / chunk size
        "lanes": 2 if quick else 4,  # passages side by side, each with levels of its own
        "passage": 64 if quick else 2048,  # bytes that are read and learnt from
        "after": 32 if quick else 1024,  # bytes behind them that are read without learning
        "sources": list(SOURCES),
    }
    return [Cell("adaptation", "text", "HOPE", seed, settings) for seed in seeds]


# --- what is read ---------------------------------------------------------------------------------------------------


class Passages(NamedTuple):
    """A passage of every lane, (lanes, passage + 1), and the unseen text behind it, (lanes, after + 1)."""

    read: Tensor
    unseen: Tensor


def passages(data: Bytes, settings: Mapping[str, Any]) -> Passages:
    """Lanes that begin at equal distances. Raises: ValueError if the text is too short for that."""
    lanes, first, after = settings["lanes"], settings["passage"], settings["after"]
    apart = len(data) // lanes
    if apart < first + after + 1:
        raise ValueError(f"data must have {lanes * (first + after + 1)} bytes, got {len(data)}")
    rows = np.stack([data[lane * apart :][: first + after + 1] for lane in range(lanes)]).astype(np.int64)
    whole = torch.from_numpy(rows)
    return Passages(whole[:, : first + 1], whole[:, first:])


def source(names: Sequence[str]) -> tuple[Bytes, str]:
    """The source of modules of Python, one behind the other, and its SHA-256."""
    raw = b""
    for name in names:
        raw += Path(str(importlib.import_module(name).__file__)).read_bytes()
    return np.frombuffer(raw, np.uint8), hashlib.sha256(raw).hexdigest()


# --- how it is read -------------------------------------------------------------------------------------------------


def measure(cell: Cell) -> Measures:
    """Train once, then read at every rate: {"manual": {"carried": {"rate0": …}}}, all in bits per byte."""
    settings = dict(cell.settings)
    model, found = text_runs.trained(settings, cell.seed)
    cut, about = text_runs.parts()
    code, checksum = source(settings["sources"])
    given = {"manual": passages(cut.test, settings), "source": passages(code, settings)}
    start = time.perf_counter()
    for kind in KINDS:
        found[kind] = {
            way: {
                f"rate{number}": followed(model, settings, given[kind], given["manual"].unseen, way, rate)
                for number, rate in enumerate(settings["rates"])
            }
            for way in WAYS
        }
        # what reading without `adapt` gives; a rate of 0 has to give the same
        plain = {way: read(model, given[kind].read, way, settings) for way in WAYS}
        found[kind]["without"] = {way: _mean(lost) for way, lost in plain.items()}
    found["reading_seconds"] = time.perf_counter() - start
    found["text"], found["source_sha256"] = about, checksum
    return found


def followed(
    model: Hope, settings: Mapping[str, Any], given: Passages, manual: Tensor, way: str, rate: float
) -> Measures:
    """Read a passage once while learning from it, then others, and the same again, with what was learnt and no more."""
    rates = tuple(rate * 0.1 / size for size in model.config.levels_chunk_sizes)
    learner = Hope(model.config.replace(cms_rate=rates))
    learner.load_state_dict(model.state_dict())
    lost, learned = learn(learner, given.read, way, settings["training"]["tokens"])
    quarter = settings["passage"] // 4
    return {
        "whole": _mean(lost),
        "first": _mean(lost[:, :quarter]),
        "last": _mean(lost[:, -quarter:]),
        "again": _mean(read(learner, given.read, "windows", settings, learned.now)),
        "unseen": _mean(read(learner, given.unseen, "windows", settings, learned.now)),
        "manual": _mean(read(learner, manual, "windows", settings, learned.now)),
    }


def learn(model: Hope, tokens: Tensor, way: str, window: int) -> tuple[Tensor, AdaptationState]:
    """Bits of every byte but the first while the levels learn, (lanes, T), and the state: tokens (lanes, T+1)."""
    if way == "carried":
        logits, state = adapt(model, tokens)
        return text_runs.bits(logits[:, :-1], tokens[:, 1:]), state
    found = []
    first = model.initial_state(tokens.shape[:-1])
    state = AdaptationState(first, first, tokens[:, :0])
    for at in range(0, tokens.shape[1] - 1, window):
        # one byte more than the window: with it the last target of the window is known, and the levels move
        piece = tokens[:, at : at + window + 1]
        logits, state = adapt(model, piece, state)
        found.append(text_runs.bits(logits[:, :-1], piece[:, 1:]))
        again = fresh(model, state.now)
        state = AdaptationState(again, again, tokens[:, :0])
    return torch.cat(found, 1), state


@torch.no_grad()
def read(
    model: Hope, tokens: Tensor, way: str, settings: Mapping[str, Any], state: HopeState | None = None
) -> Tensor:
    """Bits of every byte but the first without learning, (lanes, T), with the levels of a state: tokens (lanes, T+1)."""
    if state is None:
        state = model.initial_state(tokens.shape[:-1])
    length = tokens.shape[1] - 1 if way == "carried" else settings["training"]["tokens"]
    found = []
    for at in range(0, tokens.shape[1] - 1, length):
        piece = tokens[:, at : at + length + 1]
        logits, _ = model(piece[:, :-1], fresh(model, state))
        found.append(text_runs.bits(logits, piece[:, 1:]))
    return torch.cat(found, 1)


def fresh(model: Hope, state: HopeState) -> HopeState:
    """The levels of a state, and nothing else of what was read: mixers that have seen nothing, where the levels stand.

    Levels stand at the end of a chunk of theirs, which is one of the mixers' too: these read as from position 0.
    """
    position = state.blocks[0].continuum.position
    new = (block.mixer for block in model.initial_state(state.lead).blocks)
    mixers = (mixer._replace(memory=mixer.memory._replace(position=position)) for mixer in new)
    pairs = zip(mixers, state.blocks, strict=True)
    blocks = tuple(BlockState(mixer, old.continuum) for mixer, old in pairs)
    return HopeState(blocks, position, model.config)


def _mean(lost: Tensor) -> float | None:
    return text_runs.finite(float(lost.double().mean()))


# --- what was found -------------------------------------------------------------------------------------------------

TITLES = {"manual": "the unseen end of the manual", "source": "Python's own source"}
DIFFERENT = 1e-4  # bits per byte; between two ways of computing the same it is rounding


def tables(records: Records) -> list[Table]:
    """One for every text: what each rate changes, beside rate 0."""
    return [_table(records, kind) for kind in KINDS] if len(records) else []


def _rates(records: Records) -> dict[str, float]:
    """The rates by their names in the records."""
    settings = records.all[0].cell.settings
    return {f"rate{number}": rate for number, rate in enumerate(settings["rates"])}


def _changed(records: Records, kind: str, way: str, name: str, measure: str) -> list[float]:
    """By how much a rate changes a measure, beside rate 0, seed by seed."""
    measures = (f"{kind}.{way}.{rate}.{measure}" for rate in (_control(records), name))
    return reading.between(*(reading.by_seed(records, "text", "HOPE", path) for path in measures))


def _control(records: Records) -> str:
    return next(name for name, rate in _rates(records).items() if rate == 0)


def _table(records: Records, kind: str) -> Table:
    columns = ["first", "last", "again", "unseen", *(["manual"] if kind == "source" else [])]
    rows = []
    for way, title in (("carried", "carried"), ("windows", "afresh")):
        for name, rate in _rates(records).items():
            path = f"{kind}.{way}.{name}"
            if rate == 0:
                entries = [records.text("text", "HOPE", f"{path}.{column}", 3) for column in columns]
            else:
                entries = [
                    reading.signed(_changed(records, kind, way, name, column), 3) for column in columns
                ]
            rows.append((title, f"{rate:g}", *entries))
    titles = {
        "first": "first quarter",
        "last": "last quarter",
        "again": "read again",
        "unseen": "unseen behind it",
        "manual": "unseen manual",
    }
    return Table(
        f"Reading {TITLES[kind]} while learning from it, bits per byte",
        ("mixer", "rate", *(titles[column] for column in columns)),
        tuple(rows),
        _note(records),
    )


def _note(records: Records) -> str:
    first = records.all[0]
    settings, checksum = first.cell.settings, first.measures["source_sha256"]
    sizes = " and ".join(map(str, settings["config"]["levels_chunk_sizes"]))
    return (
        f"{reading.told(records)} The source is {' and '.join(settings['sources'])} of the standard library, SHA-256 "
        f"{checksum[:8]}…. {settings['lanes']} passages of {settings['passage']} bytes side by side, levels of {sizes} tokens, "
        f"trained for {settings['training']['steps']} steps without learning while reading; rates times the default, 0.1 / chunk "
        f'size. Rate 0 as it is, all others as changes to it on the same bytes, seed by seed; < 0 is better. "Afresh": the mixer '
        f"forgets every {settings['training']['tokens']} bytes, so the levels alone remember. The last columns are read afresh "
        f"and without further learning: the same passage, {settings['after']} bytes behind it, the manual after the source. "
        f"All seeds read the same bytes."
    )


def sentence(records: Records) -> str:
    """What learning while reading gives at the default rate and at the best one, what it remembers and what it forgets."""
    if not len(records):
        return "Not run yet, or with too few seeds."
    judged = reading.verdicts(_judged(records))
    if not set(KINDS) & set(judged):
        return "Not run yet, or with too few seeds."
    parts = (
        _mismatch(records),
        _forgot(records, judged.get("manual, after the source")),
        *(_gain(records, kind, judged.get(kind)) for kind in KINDS),
    )
    return " ".join(part for part in parts if part)


def _judged(records: Records) -> dict[str, list[float]]:
    """All that the sentence judges: what each kind of text gains at the default rate, and what the best rate costs on the manual."""
    found = {kind: _changed(records, kind, "windows", _default(records), "last") for kind in KINDS}
    best = _best(records, "source")
    return found | (
        {"manual, after the source": _changed(records, "source", "windows", best, "manual")} if best else {}
    )


def _default(records: Records) -> str:
    return next(name for name, rate in _rates(records).items() if rate == 1)


def _mismatch(records: Records) -> str:
    """Whether rate 0 changes something, which it must not."""
    off = [
        abs(difference)
        for kind in KINDS
        for way in WAYS
        for difference in reading.between(
            reading.by_seed(records, "text", "HOPE", f"{kind}.without.{way}"),
            reading.by_seed(records, "text", "HOPE", f"{kind}.{way}.{_control(records)}.whole"),
        )
    ]
    worst = max(off, default=0.0)
    return "" if worst < DIFFERENT else f"The control fails: rate 0 changes {worst:.4f} bits per byte."


def _best(records: Records, kind: str) -> str | None:
    """The rate that is best on the last quarter, of those that are finite for every seed.

    It is chosen on the text that it is shown on, which the sentence says.
    """
    means = {
        name: mean(changed)
        for name in _rates(records)
        if name != _control(records)
        and len(changed := _changed(records, kind, "windows", name, "last")) == len(records)
    }
    return min(means, key=lambda name: means[name], default=None)


def _gain(records: Records, kind: str, judged: str | None) -> str:
    default, best = _default(records), _best(records, kind)
    if best is None or judged is None:
        return ""
    does = {
        "better": "Learning while reading helps on",
        "worse": "Learning while reading hurts on",
        NONE: "No difference found by learning while reading on",
    }[judged]

    def changed(name: str, measure: str) -> str:
        return reading.signed(_changed(records, kind, "windows", name, measure), 2)

    return (
        f"{does} {TITLES[kind]}: {changed(default, 'last')} bits per byte in the last quarter at the "
        f"default rate, {changed(best, 'last')} at the best of the rates ({_rates(records)[best]:g} times, chosen on this text); "
        f"read again, the passage itself changes by {changed(best, 'again')}, unseen text behind it by {changed(best, 'unseen')}."
    )


def _forgot(records: Records, judged: str | None) -> str:
    """What the best rate on the source costs on the manual."""
    best = _best(records, "source")
    if best is None or judged is None:
        return ""
    cost = _changed(records, "source", "windows", best, "manual")
    said = {
        "worse": "Learning from other text forgets the manual",
        "better": "Learning from other text helps on the manual, too",
        NONE: "No difference found on the manual after learning from other text",
    }[judged]
    return f"{said}: {reading.signed(cost, 2)} bits per byte after the source at {_rates(records)[best]:g} times the default rate."


EXPERIMENT = Experiment(
    name="adaptation",
    question="HOPE's levels go on learning while it reads: does that lower the loss on unseen text, and is what was read remembered or the rest forgotten?",
    cells=cells,
    measure=measure,
    tables=tables,
    sentence=sentence,
    levels="move, in a model that was trained with levels that stood still",
)
