"""New languages in turn: what carries a lesson once attention has lost it, training through the updates or several clocks? [P Fig. 8, 9.2], [D]

Dictionaries of 16 words are taught one after the other, then every word is asked on its own (`hope_ref.tasks.languages`).
Written down before anything was run: the paper is *supported* if what learns in context falls to chance in turn, if % right
rises with the number of clocks, and if as many levels at one clock, or one level with as many parameters, do not rise; it is
*contradicted* if those controls do as well, or if training through the updates explains everything.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hope_ref.config import HopeConfig
from hope_ref.experiments import amnesia, fitting
from hope_ref.experiments.amnesia import Taught
from hope_ref.experiments.cells import Cell, Experiment, Measures, Records, Table, spread
from hope_ref.experiments.findings import NONE, findings
from hope_ref.parallel import hope_adaptation, lessons, states
from hope_ref.parallel.hope import Hope
from hope_ref.tasks import languages as task
from hope_ref.tasks.languages import CHANCE, WORDS
from hope_ref.training.settings import TrainingSettings

EMPTIED, HOPE_EMPTIED, FULL = "attention, emptied", "HOPE, emptied", "full attention"
MIXERS: dict[str, dict[str, Any]] = {
    EMPTIED: {"mixer": "softmax_attention"},
    HOPE_EMPTIED: {"mixer": "self_modifying_titans"},
    "attention, a window of one lesson": {"mixer": "softmax_attention", "blocks": 2, "heads": 2},
    "gated delta rule, carried": {"mixer": "gated_delta_rule"},
    "HOPE, carried": {"mixer": "self_modifying_titans"},
    FULL: {"mixer": "softmax_attention", "blocks": 2, "heads": 2},
}
CARRIED = tuple(MIXERS)[2:]  # what goes on through all lessons, and may answer from its context
WITH_LEVEL = tuple(MIXERS)[1:-1]  # what else is trained with a level that learns
ONE, CLOCKS = "1 level", "3 clocks"
# Chunk sizes in lessons, and how many times as wide the one level is.
LEVELS: dict[str, tuple[tuple[int, ...], int]] = {
    ONE: ((1,), 1),
    "1 level, 3 times as wide": ((1,), 3),
    "2 clocks": ((1, 2), 1),
    CLOCKS: ((1, 2, 8), 1),
    "3 levels, one clock": ((1, 1, 1), 1),
}
THROUGH, ORDINARY = "trained through the updates", "trained with levels held still"
# How the levels of a cell are trained.
STARTS = (THROUGH, ORDINARY, "learned rates", "a new random start in every episode")
# Levels × slowest clock: one level that learns once in so many lessons, beside one that stands still, and its rate per token.
PACES = {
    "1 level, a clock of 1 lesson": (1, 0.1),
    "1 level, a clock of 2 lessons": (2, 0.1),
    "1 level, a clock of 4 lessons": (4, 0.1),
    "1 level, a clock of 8 lessons": (8, 0.1),
    "1 level, a clock of 8 lessons, rate 1/8": (8, 0.1 / 8),
}
# Of what was not trained to learn at test time, the best of them counts.
RATES = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    """Numbers of levels and clocks by number of languages; mixers; ways to train; clocks of a single level."""
    quick = scale == "quick"
    found = []
    for seed in seeds:
        for count in (2,) if quick else (2, 4, 8):
            for form in ("own words",) if quick else ("own words", "shared words"):
                for name in list(LEVELS)[: 2 if quick else None]:
                    found.append(_cell(scale, seed, count, form, EMPTIED, name, THROUGH))
        for mixer in CARRIED[-1:] if quick else CARRIED:
            found.append(_cell(scale, seed, 2 if quick else 4, "own words", mixer, "none", ORDINARY))
        for mixer in () if quick else WITH_LEVEL:
            found.append(_cell(scale, seed, 4, "own words", mixer, ONE, THROUGH))
        for name in (ORDINARY,) if quick else STARTS[1:]:
            found.append(_cell(scale, seed, 2 if quick else 4, "own words", EMPTIED, ONE, name))
        for name in () if quick else PACES:
            found.append(_cell(scale, seed, 8, "own words", EMPTIED, name, THROUGH))
    return found


def _cell(scale: str, seed: int, count: int, form: str, mixer: str, levels: str, start: str) -> Cell:
    quick = scale == "quick"
    sizes, wide = LEVELS.get(levels, ((1,), 1))
    rates = [0.1 / len(sizes)] * len(sizes)
    if levels in PACES:
        sizes, rates = (1, PACES[levels][0]), [0.0, PACES[levels][1]]
    shared = form == "shared words"
    lesson = (3 if shared else 2) * WORDS
    config = {
        "width": 8 if quick else 32,
        "blocks": 1,
        **MIXERS[mixer],
        "levels_chunk_sizes": [lesson * size for size in sizes],
        "cms_rate": rates,
        "learned_rates": start == "learned rates",
        "window": lesson if "window" in mixer else 0,
    }
    settings = {
        "languages": count,
        "shared": shared,
        "mixer": mixer,
        "levels": levels,
        "start": start,
        "wide": wide,
        "config": config,
        "training": {
            "steps": 2 if quick else 2000 if levels == "none" else 600,
            "batch": 2 if quick else 32 if levels == "none" else 16,
            "lr": 3e-3,
            "schedule": "constant" if levels == "none" else "one_cycle",
        },
        "pupils": 2 if quick else 64,
        "asked": 4 if quick else 32,  # words of an episode that a training step asks
        # What `amnesia.in_context_loss` trains on.
        **({"reading": "symbols that come twice, then lessons"} if levels == "none" else {}),
        # Whether all weights are tried, too: a step of SGD after each lesson.
        "sgd": (mixer, levels) in ((EMPTIED, ONE), (FULL, "none"))
        and count == (2 if quick else 4)
        and not shared,
    }
    return Cell("languages", _task(count, form), _name(mixer, levels, start), seed, settings)


# --- one cell -----------------------------------------------------------------------------------------------------------


def built(settings: dict[str, Any], seed: int) -> Hope:
    """The model of a cell; a wide level has as many times the hidden units."""
    config = HopeConfig(
        vocabulary=task.vocabulary(settings["languages"], settings["shared"]),
        seed=seed,
        **{**settings["config"], "levels_chunk_sizes": tuple(settings["config"]["levels_chunk_sizes"])},
    )
    model = Hope(config)
    if settings["wide"] > 1:
        torch.manual_seed(seed)
        for block in model.blocks:
            for level in block.continuum.levels:  # type: ignore[union-attr]
                hidden = settings["wide"] * 4 * config.width
                level.w1 = nn.Parameter(torch.randn(config.width, hidden) * (0.25 / hidden) ** 0.5)
                level.w2 = nn.Parameter(torch.randn(hidden, config.width) * config.width**-0.5)
    return model


def answered(
    model: Hope, given: Taught, settings: dict[str, Any], asked: Tensor, learning: bool, through: bool
) -> Tensor:
    """Logits of the answers to the words in ``asked``, (batch, asked, vocabulary), after all lessons.

    Args: asked, numbers of questions, (batch, asked); learning, whether the levels learn while they read; through, whether
    the graph of their updates is kept.
    """
    count = given.questions.shape[-1]
    questions = given.questions.gather(1, asked[..., None].expand(-1, -1, count))
    if settings["mixer"] in (EMPTIED, HOPE_EMPTIED):
        lead = (len(asked),)
        levels = (
            amnesia.learned(model, given.lessons, differentiable=through)
            if learning
            else lessons.begin(model, lead)
        )
        return lessons.ask(model, questions, levels)[:, :, -1]
    line = torch.cat(given.lessons, 1)  # as `amnesia.in_line` has it
    if settings["levels"] != "none":  # a lesson is a chunk, so only the last one is closed
        line = torch.cat([*(lesson[:, :-1] for lesson in given.lessons), line[:, -1:]], 1)
    if learning:
        state = hope_adaptation.adapt(model, line, differentiable=through)[1].now
    else:
        state = model(line)[1]
    rows = asked.shape[1]
    many = states.mapped(lambda t: t[:, None].expand(-1, rows, *t.shape[1:]), state)
    return model(questions, many)[0][:, :, -1]


def loss_of(model: Hope, settings: dict[str, Any], seed: int, step: int) -> Tensor:
    """Mean -log p of the answers to some words of an episode, nats."""
    given = _episode(settings, settings["training"]["batch"], (seed, step))
    generator = torch.Generator().manual_seed(step)
    order = torch.rand(given.answers.shape, generator=generator).argsort(1)[:, : settings["asked"]]
    learning = settings["start"] != ORDINARY and settings["levels"] != "none"
    if settings["start"].startswith("a new random start"):
        redrawn(model, (seed, step))
    logits = answered(model, given, settings, order, learning, True)
    return cross_entropy(logits.flatten(0, 1), given.answers.gather(1, order).flatten())


def redrawn(model: Hope, seed: tuple[int, int]) -> None:
    """Levels that start from new random numbers, which no training can have chosen; where they start is not trained."""
    generator = torch.Generator().manual_seed(seed[0] * 1_000_003 + seed[1])
    with torch.no_grad():
        for block in model.blocks:
            for level in block.continuum.levels:  # type: ignore[union-attr]
                for name, scale in (("w1", 0.25), ("w2", 1.0)):
                    own = getattr(level, name)
                    own.copy_(torch.randn(own.shape, generator=generator) * (scale / own.shape[1]) ** 0.5)


def _episode(settings: dict[str, Any], batch: int, seed: tuple[int, ...]) -> Taught:
    return amnesia.episode(settings["languages"], batch, seed, contradicting=settings["shared"])


@torch.no_grad()
def tested(model: Hope, settings: dict[str, Any], given: Taught, learning: bool) -> list[float]:
    """% right of each language, first taught first; pupil after pupil, for attention that is carried takes room."""
    everything = torch.arange(given.answers.shape[1])[None]
    hits = []
    for pupil in range(len(given.answers)):
        own = slice(pupil, pupil + 1)
        one = Taught(tuple(z[own] for z in given.lessons), given.questions[own], given.answers[own])
        hits.append(answered(model, one, settings, everything, learning, False).argmax(-1) == one.answers)
    return [100 * float(part.double().mean()) for part in torch.cat(hits).split(WORDS, 1)]


def by_sgd(model: Hope, given: Taught, rate: float) -> list[float]:
    """% right of each language after plain dynamic evaluation: a step of SGD for *all* weights after each lesson, context emptied.

    The loss is that of the levels: the sum of -log p over the lesson. Every pupil begins with the weights of ``model``.
    """
    hits = []
    for pupil, answers in enumerate(given.answers):
        own = copy.deepcopy(model)
        optimiser = torch.optim.SGD(own.parameters(), lr=rate)
        for lesson in given.lessons:
            optimiser.zero_grad()
            hope_adaptation.loss_of(own(lesson[pupil, :-1])[0], lesson[pupil, 1:]).backward()
            optimiser.step()
        with torch.no_grad():
            hits.append(own(given.questions[pupil])[0][:, -1].argmax(-1) == answers)
    return [100 * float(part.double().mean()) for part in torch.stack(hits).split(WORDS, 1)]


def measure(cell: Cell) -> Measures:
    """Train, then ask: % right of each language with levels learning and held still; at every rate, where they were not trained to learn.

    Of some cells also what a step of SGD on all weights keeps, at every rate.
    """
    settings = dict(cell.settings)
    model = built(settings, cell.seed)
    training = TrainingSettings.from_dict({**settings["training"], "seed": cell.seed})
    if settings["levels"] == "none":  # learns to read in context
        loss = amnesia.in_context_loss(model, settings["languages"], training, cell.seed)
    else:
        loss = partial(loss_of, model, settings, cell.seed)
    fit = fitting.fit(model, loss, training)
    given = _episode(settings, settings["pupils"], (cell.seed, 1_000_003))
    through = settings["start"] != ORDINARY and settings["levels"] != "none"
    found: Measures = {
        "steps": fit.steps,
        "loss": mean(fit.losses[-20:]) if fit.losses else None,
        "loss_before": mean(fit.losses[-120:-100]) if len(fit.losses) >= 120 else None,
        "parameters": fitting.parameters(model),
        "training_seconds": fit.seconds,
        "seconds_per_step": fit.seconds_per_step,
        "still": tested(model, settings, given, False),
    }
    if through:
        found["learning"] = tested(model, settings, given, True)
        if settings["config"]["learned_rates"]:
            found["rates"] = model.log_rates.detach().exp().tolist()
    elif settings["levels"] != "none":
        found["by_rate"] = {
            f"{rate:g}": tested(amnesia.at_rate(model, rate), settings, given, True) for rate in RATES
        }
    if settings["sgd"]:
        found["sgd"] = {f"{rate:g}": by_sgd(model, given, rate) for rate in RATES[1:]}
    if (
        settings["sgd"] and settings["levels"] == "none"
    ):  # the ordinary model: what its level keeps, once the context is emptied
        found["emptied"] = {
            f"{rate:g}": list(amnesia.kept(amnesia.at_rate(model, rate), given)) for rate in RATES
        }
    found["right"] = mean(_best(found))
    return found


def _best(found: Measures) -> list[float]:
    """% right of each language: learning, or at the best of the rates, or held still."""
    if "by_rate" in found:
        return max(found["by_rate"].values(), key=mean)
    right: list[float] = found.get("learning") or found["still"]
    return right


# --- what the records say -------------------------------------------------------------------------------------------------

COUNTS = (2, 4, 8)
FORMS = ("own words", "shared words")


def _name(mixer: str, levels: str, start: str) -> str:
    return f"{mixer}; {levels}; {start}"


def _task(count: int, form: str = "own words") -> str:
    return f"{count} languages, {form}"


def by_age(records: Records, task_name: str, model: str) -> list[list[float]]:
    """% right of each language, the first one taught first, seed by seed."""
    return [_best(record.measures) for record in records.of(task_name, model)]


def tables(records: Records) -> list[Table]:
    """Levels and clocks; mixers and ways to train; all weights by SGD; one clock, slower and slower."""
    return [_clocks(records), _others(records), _sgd(records), _paces(records)]


def _clocks(records: Records) -> Table:
    rows = []
    for levels in LEVELS:
        name, row = _name(EMPTIED, levels, THROUGH), [levels]
        for form in FORMS:
            row += [records.text(_task(count, form), name, "right") for count in COUNTS]
        row.append(_ends(by_age(records, _task(8), name)))
        size = records.values(_task(8), name, "parameters")[:1]
        rows.append((*row, f"{size[0]:,.0f}" if size else "–"))
    rows.append(("a blind guess", *[f"{100 * CHANCE:.1f}"] * 6, "–", "–"))
    header = ("levels", *(f"{count}, {form}" for form in FORMS for count in COUNTS))
    header += ("8, own words: first / last taught", "parameters")
    return Table("Languages in turn, by levels and clocks", header, tuple(rows), _note(records))


def _note(records: Records) -> str:
    if not len(records):
        return "Not run yet."
    of_levels = [r.cell.settings["training"] for r in records.all if r.cell.settings["levels"] != "none"]
    training = of_levels[0] if of_levels else records.all[0].cell.settings["training"]
    return (
        f"% of all words right, every language {WORDS} words; attention is emptied after each lesson and before each question; levels "
        f"move in every table of this section. Clocks in lessons: 1 and 2, or 1, 2 and 8. {training['steps']} steps of "
        f"{training['batch']} pupils, AdamW, one-cycle up to {training['lr']:g}, through all updates; the rate of all levels "
        "together is 0.1 per token. Tested on pupils and dictionaries of their own. Shared words: the languages contradict each other."
    )


def _ends(found: Sequence[Sequence[float]]) -> str:
    """Of the first and of the last language taught, means over seeds."""
    return f"{mean(one[0] for one in found):.1f} / {mean(one[-1] for one in found):.1f}" if found else "–"


def _others(records: Records) -> Table:
    names = [_name(EMPTIED, ONE, start) for start in STARTS]
    names += [_name(mixer, ONE, THROUGH) for mixer in WITH_LEVEL]
    names += [_name(mixer, "none", ORDINARY) for mixer in CARRIED]
    rows = []
    for name in names:
        mixer, levels, start = name.split("; ")
        still = [mean(record.measures["still"]) for record in records.of(_task(4), name)]
        rows.append(
            (
                mixer,
                "level held still" if levels == "none" else start,
                records.text(_task(4), name, "right"),
                f"{mean(still):.1f}" if still else "–",
                _ends(by_age(records, _task(4), name)),
                records.text(_task(4), name, "seconds_per_step", 2),
            )
        )
    header = (
        "mixer",
        "training",
        "right",
        "the same weights, held still",
        "first / last taught",
        "s per step",
    )
    note = (
        f"Four languages, own words, one level that moves once a lesson. {ORDINARY.capitalize()}: then it learns at the best of "
        f"{', '.join(f'{rate:g}' for rate in RATES)} per token, chosen on these very words. Mixers but the first go on through all "
        "lessons. Attention that is not emptied has two blocks (with one it cannot look up what stood behind a word); what is trained "
        "with levels held still to read in context first learns sequences that come twice, half of its steps, and has more of them."
    )
    return Table("Four languages, by mixer and by training", header, tuple(rows), note)


def _sgd(records: Records) -> Table:
    names = {_name(EMPTIED, ONE, start): start for start in STARTS}
    names[_name(FULL, "none", ORDINARY)] = "to read in context, levels held still"
    rows = []
    for name, training in names.items():
        found = [record.measures for record in records.of(_task(4), name)]
        level = [mean(max(m["emptied"].values(), key=mean) if "emptied" in m else _best(m)) for m in found]
        best = [
            max(m["sgd"].items(), key=lambda one: mean(one[1])) for m in found
        ]  # (rate, % of each language)
        kept, rates = spread([mean(each) for _, each in best]), sorted({rate for rate, _ in best})
        rows.append((training, spread(level), kept, ", ".join(rates) or "–"))
    note = (
        "Four languages, own words, attention emptied: the level learns, or a step of SGD on the same summed loss moves all weights, "
        f"levels, attention and embedding alike, once after each lesson. Best of {len(RATES) - 1} rates, chosen on these very words; the level "
        "of what was not trained to learn is at its best rate, too."
    )
    header = ("training", "the level learns", "SGD on all weights", "its rate")
    return Table("Four languages, by what moves", header, tuple(rows), note)


def _paces(records: Records) -> Table:
    rows = []
    for levels in PACES:
        name = _name(EMPTIED, levels, THROUGH)
        found = by_age(records, _task(8), name)
        rows.append((levels, records.text(_task(8), name, "right"), _ends(found)))
    note = "Eight languages, own words: one level learns at that clock, beside one of equal size that stands still."
    return Table(
        "Eight languages, by the clock of one level",
        ("clock", "right", "first / last taught"),
        tuple(rows),
        note,
    )


def compared(records: Records, task_name: str, one: str, other: str) -> list[float]:
    """By how many points one model of this task is ahead of another, seed by seed."""
    own, theirs = (
        {
            record.cell.seed: record.measures["right"]
            for record in records.of(task_name, _name(EMPTIED, levels, THROUGH))
        }
        for levels in (one, other)
    )
    return [own[seed] - theirs[seed] for seed in sorted(own) if seed in theirs]


def sentence(records: Records) -> str:
    """Does training through the updates carry it, do the clocks, and does the start?"""
    hard, middle = _task(8), _task(4)
    through = records.values(hard, _name(EMPTIED, ONE, THROUGH), "right")
    if not through:
        return "Not run yet."
    if len(through) < 3:
        return f"Only {len(through)} of 3 seeds so far: too few for a verdict."
    said = [
        f"Trained through its updates, one level keeps {records.text(hard, _name(EMPTIED, ONE, THROUGH), 'right')} % of eight "
        f"languages taught in turn, all attention emptied in between"
    ]
    ordinary = records.values(middle, _name(EMPTIED, ONE, ORDINARY), "right")
    if ordinary:
        kept = records.text(middle, _name(EMPTIED, ONE, THROUGH), "right")
        best = records.text(middle, _name(EMPTIED, ONE, ORDINARY), "right")
        said[0] += (
            f"; of four it keeps {kept} %, and trained with levels held still {best} % at the best of all rates"
        )
    beside = {
        what: compared(records, hard, CLOCKS, other)
        for other, what in (
            (ONE, "one level"),
            ("1 level, 3 times as wide", "one level with as many parameters"),
            ("3 levels, one clock", "three levels at one clock"),
        )
    }
    verdicts = [f"{_verdict(beside[what], way)} {what}" for what, way in findings(beside, 1.0).items()]
    if verdicts:
        said.append(f"What three clocks keep: {'; '.join(verdicts)}")
    anew = _name(EMPTIED, ONE, "a new random start in every episode")
    if records.values(middle, anew, "right"):
        said.append(
            f"With a start that is drawn anew in every episode, and so holds nothing, one level keeps "
            f"{records.text(middle, anew, 'right')} % of four: what counts is that the model was trained through the steps"
            if mean(records.values(middle, anew, "right")) > 90
            else f"With a start that is drawn anew in every episode one level keeps {records.text(middle, anew, 'right')} % of four"
        )
    return ". ".join(said) + "."


def _verdict(points: Sequence[float], way: int) -> str:
    """More, less, or no difference found; in points, with their spread."""
    text = spread(points).replace("-", "−")
    if way == 0:
        return f"{NONE} ({text} points) from"
    return f"{'more' if way > 0 else 'less'} ({text} points) than"


EXPERIMENT = Experiment(
    name="languages",
    question=(
        "Languages are taught in turn and attention is emptied after each: what keeps them, training through the updates, or several clocks?"
    ),
    cells=cells,
    measure=measure,
    tables=tables,
    sentence=sentence,
    levels="move, in models that were trained through their updates, but for the rows that say otherwise",
)
