"""The tables of forgetting again, from starts that were meta-learned: what do several clocks add then? [P 73, p. 28], [D]

`continual` and `digits` start their levels at random numbers, as no pre-trained model does. Here the state that each level
starts from, and its rate, are trained through the updates: on other languages, or on the ten digits under other names, so
that the loss is least on the way and, at the end, on everything that was taught. Beside it stand the same levels with a
start at random, of which the rates alone are trained. Task and fixed tables are those of the two experiments.

Written down before anything was run: the paper is *supported* if learned starts forget less than random ones and, among
learned starts, three clocks forget less than three levels at one clock and than one level with as many weights, having
learnt what came last as well; it is *contradicted* if these do as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hope_ref.config import cms_options
from hope_ref.experiments import fitting
from hope_ref.experiments.cells import Cell, Experiment, Measures, Records, Table, spread
from hope_ref.experiments.findings import findings
from hope_ref.parallel.continuum_memory import (
    ContinuumState,
    Level,
    after,
    demanded,
    first_state,
    read,
    weights_of,
)
from hope_ref.tasks import continual, digits, text
from hope_ref.training.settings import TrainingSettings

START, RATES = "learned start and rates", "random start, learned rates"
ONE, CLOCKS, LEVEL = "1 level", "3 clocks", "3 levels, one clock"
CHUNKS = {ONE: (16,), LEVEL: (16, 16, 16), CLOCKS: (16, 64, 256)}  # tokens, or images
SOURCES = ("Markov", "text", "digits")
STEEP = 10.0  # η = exp(10 p): p moves as far as a weight does, its rate by a useful factor
SYMBOLS, BRANCHES = 32, 4  # of a Markov language
CLASSES, ASKED = 10, 8  # of digits; images of each that training asks


def cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    """Three arrangements of levels, with and without a learned start, on three streams."""
    quick = scale == "quick"
    found = []
    for seed in seeds:
        for source in SOURCES[: 1 if quick else None]:
            for levels in list(CHUNKS)[: 1 if quick else None]:
                for learned in (START, RATES):
                    settings = {
                        "source": source,
                        "chunk_sizes": list(CHUNKS[levels]),
                        "learned": learned,
                        "width": 8 if quick else 64,
                        "hidden": 24 if quick else 192,  # of all levels together
                        "lanes": 2 if quick else 4,
                        # tokens of a language or images of a task, in training and, beyond it, in a second test
                        "phases": [32, 64] if quick else [64, 256] if source == "digits" else [320, 2112],
                        "tested": 16
                        if quick
                        else 64
                        if source == "digits"
                        else 256,  # tokens, or images of a task
                        "training": {"steps": 2 if quick else 400, "lr": 3e-3, "schedule": "one_cycle"},
                    }
                    found.append(Cell("learned_starts", source, f"{levels}; {learned}", seed, settings))
    return found


# --- what is taught -----------------------------------------------------------------------------------------------------


class Episode(NamedTuple):
    """Phases of what is taught in turn, then a test of each thing taught: inputs (lanes, T, d) and classes (lanes, T)."""

    phases: tuple[tuple[Tensor, Tensor], ...]
    tests: tuple[tuple[Tensor, Tensor], ...]


class Learner(nn.Module):
    """Levels that learn between a fixed table that reads and one that answers; their start and rates may be trained."""

    seen: Tensor  # (context, symbols, d): a symbol's vector by how long ago it was; digits: none
    answers: Tensor  # (classes, d)

    def __init__(self, settings: dict[str, Any], classes: int, seed: int) -> None:
        super().__init__()
        width, sizes = settings["width"], settings["chunk_sizes"]
        tables, weights = np.random.default_rng((seed, 2)), np.random.default_rng((seed, 3))
        context = {"Markov": 1, "text": 2, "digits": 0}[settings["source"]]
        seen = tables.normal(size=(context, classes, width)) / math.sqrt(max(context, 1))
        answers = tables.normal(size=(classes, width)) / math.sqrt(width)
        self.register_buffer("seen", torch.from_numpy(seen).float())
        self.register_buffer("answers", torch.from_numpy(answers).float())
        self.register_buffer("gain", torch.ones(width))
        hidden, trained = settings["hidden"] // len(sizes), settings["learned"] == START
        self.w1, self.w2 = nn.ParameterList(), nn.ParameterList()
        for _ in sizes:
            w1 = weights.normal(size=(width, hidden)) * math.sqrt(0.25 / hidden)
            w2 = weights.normal(size=(hidden, width)) / math.sqrt(width)
            self.w1.append(nn.Parameter(torch.from_numpy(w1).float(), requires_grad=trained))
            self.w2.append(nn.Parameter(torch.from_numpy(w2).float(), requires_grad=trained))
        first = [math.log(0.01 * sizes[0] / size) / STEEP for size in sizes]
        self.powers = nn.Parameter(torch.tensor(first))
        self.options = cms_options(len(sizes), sizes)

    @property
    def levels(self) -> list[Level]:
        """Where the levels start, and the gain of their inputs."""
        return [Level(w1, w2, self.gain) for w1, w2 in zip(self.w1, self.w2, strict=True)]  # type: ignore[arg-type]

    @property
    def rates(self) -> Tensor:
        """η of each level, (levels,)."""
        return (STEEP * self.powers).exp()

    def scores(self, x: Tensor, weights: Any) -> Tensor:
        """(lanes, T, classes) of inputs (lanes, T, d), at these weights of the levels."""
        return read(x, weights, self.levels, "sequential", "fast_to_slow")[0] @ self.answers.mT

    def seen_as(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and next symbols of tokens (lanes, context + T): x (lanes, T, d), (lanes, T)."""
        context, length = len(self.seen), tokens.shape[-1] - len(self.seen)
        x = sum(self.seen[ago][tokens[:, context - 1 - ago :][:, :length]] for ago in range(context))
        assert isinstance(x, Tensor)
        return x, tokens[:, context:]


class Languages:
    """Markov languages, or Python's manual under other names of its bytes: draws what is read, and what is asked."""

    def __init__(self, source: str) -> None:
        self.is_text = source == "text"
        if self.is_text:
            data = text.load()[0]
            self.alphabet, self.data = np.unique(data, return_inverse=True)
            self.cut = len(text.split(data).train)
        self.classes = len(self.alphabet) if self.is_text else SYMBOLS

    def language(self, rng: np.random.Generator, plain: bool) -> Any:
        """Chances of a language, or a name for each byte; ``plain``: its own name."""
        if not self.is_text:
            return continual.markov(SYMBOLS, BRANCHES, (int(rng.integers(2**31)),))
        return np.arange(self.classes) if plain else rng.permutation(self.classes)

    def line(self, language: Any, length: int, rng: np.random.Generator, held_out: bool) -> Any:
        """So many tokens of it; of the text's last tenth if held out, else of the rest."""
        if not self.is_text:
            return continual.sample(language, length, (int(rng.integers(2**31)),))[0]
        low, high = (self.cut, len(self.data)) if held_out else (0, self.cut)
        start = int(rng.integers(low, high - length))
        return language[self.data[start : start + length]]

    def draw(
        self, learner: Learner, settings: dict[str, Any], rng: np.random.Generator, phase: int, held_out: bool
    ) -> Episode:
        """A, then B, in each lane two of its own; held out: then A again, A the manual as it is, tested where nobody has read."""
        lanes, context = range(settings["lanes"]), len(learner.seen)
        both = [[self.language(rng, plain) for _ in lanes] for plain in (held_out, False)]

        def piece(each: list[Any], length: int, late: bool) -> tuple[Tensor, Tensor]:
            lines = [self.line(own, context + length, rng, late) for own in each]
            return learner.seen_as(torch.from_numpy(np.stack(lines)))

        order = [*both, both[0]] if held_out else both
        read_, asked = (
            (piece(each, phase, False) for each in order),
            (piece(each, settings["tested"], held_out) for each in both),
        )
        return Episode(tuple(read_), tuple(asked))


class Images:
    """The ten digits under names drawn anew for each lane, five tasks of two classes in an order of its own."""

    classes = CLASSES

    def __init__(self, seed: int) -> None:
        # a test image must be none that any model has trained on, so the split belongs to the seed
        found = digits.tasks(digits.load(), (seed, 0))
        self.parts: dict[int, tuple[Any, Any]] = {}  # images of each class: to read, to be tested on
        for task in found:
            for label in task.classes:
                first, rest = (part.images[part.labels == label] for part in (task.train, task.test))
                self.parts[label] = first, rest

    def draw(
        self, learner: Learner, settings: dict[str, Any], rng: np.random.Generator, phase: int, held_out: bool
    ) -> Episode:
        """``phase`` images of two classes, five times; then of each task others, which no model has trained on if held out."""
        lanes: tuple[list[Any], list[Any]] = [], []
        for _ in range(settings["lanes"]):
            names, order = rng.permutation(CLASSES), rng.permutation(CLASSES)
            read_, asked = [], []
            for pair in order.reshape(-1, 2):
                own = [rng.permutation(self.parts[label][0]) for label in pair]
                rest = (
                    [self.parts[label][1] for label in pair] if held_out else [x[phase // 2 :] for x in own]
                )
                read_.append(_mixed(rng, names[pair], [x[: phase // 2] for x in own]))
                count = settings["tested"] // 2 if held_out else ASKED
                asked.append(_mixed(rng, names[pair], [x[:count] for x in rest]))
            lanes[0].append(read_)
            lanes[1].append(asked)

        def stacked(each: list[list[Any]]) -> tuple[tuple[Tensor, Tensor], ...]:
            return tuple(
                (
                    torch.from_numpy(np.stack([x for x, _ in task])).float(),
                    torch.from_numpy(np.stack([y for _, y in task])),
                )
                for task in zip(*each, strict=True)
            )

        return Episode(*map(stacked, lanes))


def _mixed(rng: np.random.Generator, names: Any, images: Sequence[Any]) -> tuple[Any, Any]:
    """Images of some classes in a random order, each with the name of its class."""
    labels = np.repeat(names, [len(own) for own in images])
    order = rng.permutation(len(labels))
    return np.concatenate(images)[order], labels[order]


def source_of(name: str, seed: int) -> Languages | Images:
    """What the cells of this source are taught."""
    return Images(seed) if name == "digits" else Languages(name)


# --- learning, and learning to learn --------------------------------------------------------------------------------------


class Followed(NamedTuple):
    """Mean -log p of each phase while it was read, nats; scores of every test after every phase (the last alone if training)."""

    online: list[Tensor]
    scores: list[list[Tensor]]


def follow(learner: Learner, episode: Episode, *, differentiable: bool) -> Followed:
    """Read phase after phase; levels move by the summed loss of each segment, from where they start [P 71]."""
    options = learner.options._replace(rates=tuple(learner.rates))
    now: ContinuumState = first_state(learner.levels, (episode.phases[0][0].shape[0],))
    online: list[Tensor] = []
    scores: list[list[Tensor]] = []
    size = options.chunk_sizes[0]

    def forward(x: Tensor, weights: Any, state: Any, _: Any) -> tuple[Tensor, Any]:
        return learner.scores(x, weights), state

    def loss(found: Tensor, wanted: Tensor) -> Tensor:
        return cross_entropy(found.flatten(0, -2), wanted.flatten(), reduction="sum")

    with torch.set_grad_enabled(differentiable):
        for number, (x, wanted) in enumerate(episode.phases):
            read_ = []
            for at in range(0, x.shape[1], size):
                part = slice(at, at + size)
                demands, found, _ = demanded(
                    x[:, part],
                    wanted[:, part],
                    weights_of(now),
                    None,
                    forward,
                    loss,
                    options.rule,
                    differentiable,
                )
                now = after(now, demands, size, options)
                read_.append(found if differentiable else found.detach())
            online.append(loss(torch.cat(read_, 1), wanted) / wanted.numel())
            if not differentiable or number == len(episode.phases) - 1:
                scores.append([learner.scores(asked, weights_of(now)) for asked, _ in episode.tests])
    return Followed(online, scores)


def loss_of(learner: Learner, episode: Episode) -> Tensor:
    """Mean -log p while reading plus that of all tests at the end, nats, through every update."""
    found = follow(learner, episode, differentiable=True)
    asked = [
        cross_entropy(own.flatten(0, 1), y.flatten())
        for own, (_, y) in zip(found.scores[-1], episode.tests, strict=True)
    ]
    return torch.stack(found.online).mean() + torch.stack(asked).mean()


def measure(cell: Cell) -> Measures:
    """Train start and rates, or rates alone; then teach what is new, as long as in training and longer: {"short": …, "long": …}."""
    settings = dict(cell.settings)
    training = TrainingSettings.from_dict({**settings["training"], "seed": cell.seed})
    source = source_of(settings["source"], cell.seed)
    learner = Learner(settings, source.classes, cell.seed)

    def loss(step: int) -> Tensor:
        rng = np.random.default_rng((cell.seed, 6, step))
        return loss_of(learner, source.draw(learner, settings, rng, settings["phases"][0], False))

    trained = [p for p in learner.parameters() if p.requires_grad]
    fit = fitting.fit(learner, loss, training, torch.optim.AdamW(trained, weight_decay=0.0))
    found: Measures = {
        "steps": fit.steps,
        "loss": mean(fit.losses[-20:]) if fit.losses else None,
        "loss_before": mean(fit.losses[-120:-100]) if len(fit.losses) >= 120 else None,
        "rates": learner.rates.detach().tolist(),
        "parameters": sum(w.numel() for w in (*learner.w1, *learner.w2)),
        "training_seconds": fit.seconds,
    }
    for name, phase in zip(("short", "long"), settings["phases"], strict=True):
        drawn = source.draw(learner, settings, np.random.default_rng((cell.seed, 5)), phase, True)
        found[name] = _tested(learner, drawn)
    return found


def _tested(learner: Learner, episode: Episode) -> Measures:
    """Bits and % right of each test after each phase, and what is read off them."""
    followed = follow(learner, episode, differentiable=False)
    bits, right = [], []
    for scores in followed.scores:
        pairs = [(own, y) for own, (_, y) in zip(scores, episode.tests, strict=True)]
        bits.append([float(cross_entropy(own.flatten(0, 1), y.flatten())) / math.log(2) for own, y in pairs])
        right.append([float((own.argmax(-1) == y).double().mean()) for own, y in pairs])
    if not np.isfinite(bits).all():
        return {"diverged": True}
    found: Measures = {
        "diverged": False,
        "online": sum(map(float, followed.online)) / len(followed.online) / math.log(2),
        "bits": bits,
        "right": right,
    }
    if len(episode.phases) == len(episode.tests):  # tasks in turn
        accuracy = [[round(entry, 9) for entry in row] for row in right]
        found["kept"], found["lost"] = digits.mean_accuracy(accuracy), digits.forgetting(accuracy)
        found["last"] = accuracy[-1][-1]
    else:  # A, B, A
        found["kept"], found["lost"] = bits[1][0], continual.forgetting(bits[0][0], bits[1][0])
        found["last"] = bits[1][1]
    return found


# --- what the records say -------------------------------------------------------------------------------------------------

HEADER = ("levels", "start", "A after B", "forgetting", "B after B", "while reading")
OF_DIGITS = (
    "levels",
    "start",
    "right in the end (%)",
    "forgetting (%)",
    "last task (%)",
    "while reading (bits)",
)
MEASURES = ("kept", "lost", "last", "online")
LEAST = 0.05  # bits: less is no finding, however sure it is


def tables(records: Records) -> list[Table]:
    """Every arrangement of levels with both starts, for phases as long as in training and for longer ones."""
    return [
        _table(records, source, length)
        for source in SOURCES
        if records.of(source)
        for length in ("short", "long")
    ]


def _table(records: Records, source: str, length: str) -> Table:
    of_digits = source == "digits"
    rows = []
    for levels in CHUNKS:
        for learned in (RATES, START):
            name = f"{levels}; {learned}"
            texts = [
                records.text(source, name, f"{length}.{measure}", *_scale(source, measure))
                for measure in MEASURES
            ]
            lost = sum(record.measures[length]["diverged"] for record in records.of(source, name))
            rows.append((levels, learned + (f", {lost} diverged" if lost else ""), *texts))
    settings, shared = records.of(source)[0].cell.settings, records.of(source)[0].measures
    phase = settings["phases"][length == "long"]
    unit = "images per task, five tasks of two digits" if of_digits else "tokens per language, A then B"
    what = "in training" if length == "short" else f"in training there were {settings['phases'][0]}"
    note = (
        f"{phase} {unit}; {'as many ' if length == 'short' else ''}{what}. Three clocks: {', '.join(map(str, CHUNKS[CLOCKS]))}; "
        f"all models have {shared['parameters']} weights that learn, {settings['lanes']} learners per seed. "
    )
    note += (
        "Ten classes: chance is 10 %, and who knows the last task alone has 20 %. The start has seen the training images under other "
        "names; test images are new to it."
        if of_digits
        else "Bits per symbol on text that was not read. A symbol does not tell whose it is: who has learned both, and cannot know "
        "which one is asked, loses up to one bit."
    )
    return Table(f"{_title(source)}, {length} phases", OF_DIGITS if of_digits else HEADER, tuple(rows), note)


def _title(source: str) -> str:
    return {"Markov": "Markov languages", "text": "Renamed bytes of Python's manual", "digits": "Digits"}[
        source
    ]


def _scale(source: str, measure: str) -> tuple[int, float]:
    """Digits after the point, and a factor: shares of the digits in per cent."""
    return (1, 100.0) if source == "digits" and measure != "online" else (2, 1.0)


def ahead(records: Records, source: str, one: str, other: str, length: str = "long") -> list[float]:
    """By how much less one model forgets than another, seed by seed: bits, or points of the digits right in the end."""
    first, second = (
        {
            r.cell.seed: r.measures[length]
            for r in records.of(source, name)
            if not r.measures[length]["diverged"]
        }
        for name in (one, other)
    )
    sign = 100.0 if source == "digits" else -1.0
    return [sign * (first[seed]["kept"] - second[seed]["kept"]) for seed in sorted(first) if seed in second]


def sentence(records: Records) -> str:
    """What a learned start gives, and what clocks add to it (`findings` of every stream)."""
    said = []
    for source in SOURCES:
        start = ahead(records, source, f"{ONE}; {START}", f"{ONE}; {RATES}")
        clocks = [ahead(records, source, f"{CLOCKS}; {START}", f"{other}; {START}") for other in (LEVEL, ONE)]
        if not start or not all(clocks):
            continue
        names = ("three levels at one clock", "one level")
        beside = dict(zip(("start", *names), (start, *clocks), strict=True))
        judged = findings(beside, 1.0 if source == "digits" else LEAST)
        compared = {name: _compared(source, beside[name], judged.get(name, 0)) for name in beside}
        against = [f"{compared[name]} {name}" for name in names]
        said.append(
            f"{_title(source)}: one level with a learned start is {compared['start']} with a random one; among learned "
            f"starts three clocks are {' and '.join(against)}"
        )
    return ". ".join(said) + "." if said else "Not run yet."


def _compared(source: str, more: Sequence[float], way: int) -> str:
    """Better or worse, and by how much, or that no difference was found."""
    of_digits = source == "digits"
    text_ = f"{spread(more, 1 if of_digits else 2)} {'points right in the end' if of_digits else 'bits on A after B'}"
    if way == 0:
        return f"not found to differ ({text_.replace('-', '−')}) from"
    return f"{'better' if way > 0 else 'worse'} ({text_.replace('-', '−')}) than"


EXPERIMENT = Experiment(
    name="learned_starts",
    question="Forgetting again, from starts that were meta-learned: what does the start give, and what do several clocks add to it?",
    cells=cells,
    measure=measure,
    tables=tables,
    sentence=sentence,
    levels="move, from starts that were trained through the updates, and beside them from random ones",
    needs=("sklearn",),
)
