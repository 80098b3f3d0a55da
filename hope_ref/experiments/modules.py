"""Modules in turn: what keeps twenty classes of text that come two at a time, levels that learn or a list of class means? [P Fig. 6, 9.1], [D]

Passages of ten pairs of modules are taught in turn, and attention is emptied after each passage; then any passage is asked among
all twenty (`hope_ref.tasks.modules`). Written down before any of these cells was run: the paper is *supported* if levels with a
start that was trained through their updates are right more often than what learns in context (10 % at the very most: a context
of 1,024 tokens holds passages of the last task alone), than EWC and than the nearest class mean; it is *contradicted* if the
nearest class mean is ahead, or if no more than the last task is kept (10 %).

All backbones are trained here, on 132 other modules: the text model that is shipped reads bytes, of which 64 tell next to
nothing, and knows no labels. Every way has its rate from a grid (levels: a multiple of their own rates), by what it has right
in the end on other seeds, whose passages and questions all come from the part of the modules that may be learnt from.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from statistics import mean
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from hope_ref.config import HopeConfig
from hope_ref.experiments import fitting
from hope_ref.experiments.cells import Cell, Experiment, Measures, Records, Table, spread
from hope_ref.experiments.findings import findings
from hope_ref.parallel import lessons, states
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.layers import rms_norm
from hope_ref.tasks import digits
from hope_ref.tasks import modules as task
from hope_ref.tasks.common import Integers, generator
from hope_ref.tasks.modules import FIRST_LABEL, LABELS, LENGTH, QUESTION, WORDS, Task
from hope_ref.training.settings import TrainingSettings

ORDINARY = "ordinary start"
# Of backbones that are trained through the updates: the clocks of their levels, in passages.
LEVELS: dict[str, tuple[int, ...]] = {
    "1 level": (1,),
    "3 clocks": (1, 4, 16),
    "3 levels, one clock": (1, 1, 1),
}
LEARNING, STILL, CONTEXT = "levels learning", "levels held still", "attention carried"
MEANS = ("nearest class mean", "nearest class mean, shared covariance")
FINE, MLP, EWC = "all weights, in turn", "MLP, in turn", "MLP, in turn, EWC"
AT_ONCE = ("all weights, all tasks at once", "MLP, all tasks at once")
COUNTS = "counts of words, no network"
# Grids: of multiples of the levels' own rates, of AdamW's rates for all weights, of SGD's for an MLP, and of EWC's strengths.
GRIDS = {
    "levels": [1.0, 0.3, 0.1, 0.03, 0.01, 0.003],
    "all weights": [3e-5, 1e-4, 3e-4, 1e-3, 3e-3],
    "MLP": [0.001, 0.003, 0.01, 0.03, 0.1],
    "EWC": [1.0, 10.0, 100.0, 1000.0],
}
TASK, TUNING = "modules in turn", 1_000_003  # the second begins every seed that rates are chosen on
LENGTHS, LONG = (10, 40), "40"  # passages of a module to learn from
EASY = 0.9  # of a blind guess's loss: below it, episodes get another task


def cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    """One backbone each: trained as any other, or through the updates of its levels."""
    quick = scale == "quick"
    names = (ORDINARY, *LEVELS)[: 2 if quick else None]
    return [Cell("modules", TASK, name, seed, _settings(name, quick)) for seed in seeds for name in names]


def _settings(name: str, quick: bool) -> dict[str, Any]:
    clocks = LEVELS.get(name, (1,))
    training = {"steps": 2 if quick else 700, "batch": 2 if quick else 8, "lr": 4e-3}
    return {
        "config": {
            "width": 8 if quick else 32,
            "heads": 4,
            "blocks": 1,
            "mixer": "softmax_attention",
            "levels_chunk_sizes": [LENGTH * size for size in clocks],
            "cms_rate": 0.05 / len(clocks),
            "learned_rates": name in LEVELS,
        },
        "pretraining": {"steps": 2 if quick else 1000, "batch": 2 if quick else 32, "lr": 3e-3},
        **({"training": training} if name in LEVELS else {}),
        # Of an episode: the most tasks, the fewest and the most passages of a module to learn from, and those to ask.
        "episode": [2, 2, 2, 2] if quick else [6, 2, 6, 2],
        # Of a stream: modules, passages of a module to learn from, and to ask; and how many streams choose the rates.
        "classes": 4 if quick else 20,
        "lengths": list(LENGTHS[: 1 if quick else None]),
        "asked": 2 if quick else 20,
        "tuned": 1 if quick else 2,
        "others": 12 if quick else len(task.OTHERS),
        "passes": 1 if quick else 5,  # over a task, where SGD or AdamW learns
        "hidden": 16 if quick else 128,  # of the MLP
        "grids": {way: grid[: 2 if quick else None] for way, grid in GRIDS.items()},
    }


# --- the backbone -------------------------------------------------------------------------------------------------------


def built(settings: dict[str, Any], seed: int) -> Hope:
    """The model of a cell before any training."""
    sizes = tuple(settings["config"]["levels_chunk_sizes"])
    config = {**settings["config"], "vocabulary": task.VOCABULARY, "levels_chunk_sizes": sizes}
    return Hope(HopeConfig(seed=seed, **config))


def trained(model: Hope, settings: dict[str, Any], words: Sequence[Integers], seed: int) -> list[fitting.Fit]:
    """Train a model on the words of other modules: on what comes next, then, but for the ordinary start, on episodes."""
    losses: dict[str, Callable[[int], Tensor]] = {
        "pretraining": partial(next_token, model, words, settings["pretraining"]["batch"], seed),
        "training": growing(model, settings, words, seed),
    }
    return [
        fitting.fit(model, loss, TrainingSettings.from_dict({**settings[name], "seed": seed}))
        for name, loss in losses.items()
        if name in settings
    ]


def next_token(model: Hope, words: Sequence[Integers], batch: int, seed: int, step: int) -> Tensor:
    """Mean -log p, nats, over passages with any label behind them: that a label comes can be learnt, and not which."""
    rng = generator((seed, step, 0))
    drawn = [task.passages(words[n], 1, rng) for n in rng.integers(0, len(words), size=batch)]
    line = torch.cat([torch.from_numpy(one) for one in drawn])
    labels = torch.from_numpy(FIRST_LABEL + rng.integers(0, LABELS, size=(batch, 1)))
    return cross_entropy(model(line)[0].flatten(0, 1), torch.cat([line[:, 1:], labels], 1).flatten())


def growing(
    model: Hope, settings: dict[str, Any], words: Sequence[Integers], seed: int
) -> Callable[[int], Tensor]:
    """The loss of step number 0, 1, …: of episodes that get a task more whenever the most there are have become easy.

    Mean -log p of the questions' labels among all 20, nats, through every update that the levels have made while reading passages.
    """
    most = 1

    def loss(step: int) -> Tensor:
        nonlocal most
        rng = generator((seed, step, 1))
        limit, low, high, asked = settings["episode"]
        tasks, shown = int(rng.integers(1, most + 1)), int(rng.integers(low, high + 1))
        seeds = [(seed, step, 2 + pupil) for pupil in range(settings["training"]["batch"])]
        drawn = [joined(tensors(task.episode(words, one, tasks, shown, asked))) for one in seeds]
        now = lessons.begin(model, (len(drawn),))
        for lines in torch.stack([labelled(one) for one in drawn]).unbind(1):  # (B, 66)
            _, now = lessons.learn(model, lines, now, differentiable=True)
        questions, answers = torch.stack([one.questions for one in drawn]), [one.answers for one in drawn]
        logits = of_labels(lessons.ask(model, questions, now)[:, :, -1])  # (B, m, 20)
        found = cross_entropy(logits.flatten(0, 1), torch.cat(answers))
        if tasks == most < limit and float(found.detach()) < EASY * math.log(2 * tasks):
            most += 1
        return found

    return loss


def of_labels(logits: Tensor) -> Tensor:
    """Those of the 20 labels, (..., 20), among logits of all tokens."""
    return logits[..., FIRST_LABEL:QUESTION]


# --- the stream, and what learns it ---------------------------------------------------------------------------------------


_Learner: TypeAlias = tuple[Callable[[Task], None], Callable[[Tensor], Tensor]]
"""What learns a task, and what scores questions: (m, 20)."""


class Way(NamedTuple):
    """A learner for every choice of its rate, and what it is given."""

    make: Callable[[Any], _Learner]
    choices: tuple[Any, ...] = (None,)
    features: bool = False  # of the backbone, in the place of tokens
    at_once: bool = False  # all tasks, as one


def tensors(stream: Sequence[Task]) -> tuple[Task, ...]:
    """The same tasks, for PyTorch."""
    return tuple(Task(one.labels, *map(torch.from_numpy, one[1:])) for one in stream)


def joined(stream: Sequence[Task]) -> Task:
    """All tasks as one."""
    labels = tuple(label for one in stream for label in one.labels)
    return Task(labels, *(torch.cat(parts) for parts in zip(*(one[1:] for one in stream), strict=True)))


def labelled(one: Task) -> Tensor:
    """Each passage with its label behind it, (n, 66)."""
    return torch.cat([one.passages, FIRST_LABEL + one.named[:, None]], 1)


def ways(model: Hope, settings: dict[str, Any], name: str, seed: int) -> dict[str, Way]:
    """Who learns the stream on this backbone, by name."""
    grids = {way: tuple(grid) for way, grid in settings["grids"].items()}
    own = {
        LEARNING: Way(partial(by_levels, model), grids["levels"]),
        STILL: Way(partial(by_levels, model), (0.0,)),
        MEANS[0]: Way(partial(nearest_mean, False), features=True),
        MEANS[1]: Way(partial(nearest_mean, True), features=True),
    }
    if name in LEVELS:
        return own
    fine, head = partial(fine_tuned, model, settings["passes"], seed), partial(mlp, settings, seed)
    plain, both = (tuple(product(grids["MLP"], strengths)) for strengths in ((0.0,), grids["EWC"]))
    return own | {
        CONTEXT: Way(lambda _: in_context(model)),
        FINE: Way(fine, grids["all weights"]),
        MLP: Way(head, plain, features=True),
        EWC: Way(head, both, features=True),
        AT_ONCE[0]: Way(fine, grids["all weights"], at_once=True),
        AT_ONCE[1]: Way(head, plain, features=True, at_once=True),
        COUNTS: Way(lambda _: counted()),
    }


def by_levels(model: Hope, factor: float) -> _Learner:
    """Levels that learn at so many times their own rates, one passage after the other; attention is emptied after each."""
    rates = tuple(factor * float(torch.as_tensor(rate).detach()) for rate in model.cms_options.rates)
    own = Hope(model.config.replace(cms_rate=rates, learned_rates=False)).to(model.embedding.dtype)
    own.load_state_dict({key: value for key, value in model.state_dict().items() if key != "log_rates"})
    now = lessons.begin(own)

    def learn(one: Task) -> None:
        nonlocal now
        for line in labelled(one) if factor else ():
            _, now = lessons.learn(own, line, now)

    @torch.no_grad()
    def scores(questions: Tensor) -> Tensor:
        return of_labels(lessons.ask(own, questions, now)[:, -1])

    return learn, scores


def in_context(model: Hope, context: int = 1024) -> _Learner:
    """Attention alone: before every question it reads the last passages, as many as fit in the context with the question."""
    held = (context - LENGTH) // (LENGTH + 1)
    lines = torch.empty(0, LENGTH + 1, dtype=torch.int64)

    def learn(one: Task) -> None:
        nonlocal lines
        lines = torch.cat([lines, labelled(one)])[-held:]

    @torch.no_grad()
    def scores(questions: Tensor) -> Tensor:
        state = model(lines.flatten())[1]
        many = states.mapped(lambda t: t.expand(len(questions), *t.shape), state)
        return of_labels(model(questions, many)[0][:, -1])

    return learn, scores


@torch.no_grad()
def features(model: Hope, tokens: Tensor) -> Tensor:
    """The mean of the last hidden state over a passage, (n, d), of a backbone that stands still; tokens (n, 65)."""
    x = functional.embedding(tokens, model.embedding)
    for block in model.blocks:
        x, _ = block(x)
    return rms_norm(x, model.norm).mean(-2)


def nearest_mean(shared: bool, _: Any = None) -> _Learner:
    """Minus half the squared distance to the mean of a class; with ``shared``, in units of the covariance within classes.

    The idea of [P 9.1]'s InCA. Sums alone are carried, so no order of the tasks matters; a tenth of its mean variance is
    added to the covariance's diagonal [D]. A class that has not come yet has -inf.
    """
    sums: Any = 0.0  # (20, d), and Σ f fᵀ, (d, d)
    products: Any = 0.0
    counts = torch.zeros(LABELS, dtype=torch.float64)

    def learn(one: Task) -> None:
        nonlocal sums, products, counts
        f, hot = one.passages.double(), functional.one_hot(one.named, LABELS).double()
        sums, products, counts = sums + hot.T @ f, products + f.T @ f, counts + hot.sum(0)

    def scores(questions: Tensor) -> Tensor:
        means = sums / counts.clamp(min=1)[:, None]
        metric = torch.eye(means.shape[1], dtype=torch.float64)
        if shared:
            within = (products - means.T @ (counts[:, None] * means)) / counts.sum()
            metric = torch.linalg.inv(within + 0.1 * within.diagonal().mean() * metric)
        apart = questions.double()[:, None] - means  # (m, 20, d)
        return (-0.5 * ((apart @ metric) * apart).sum(-1)).masked_fill(counts == 0, -math.inf)

    return learn, scores


def counted() -> _Learner:
    """Naive Bayes: Σ log of the share that a word has in a class, 0.3 of each word added; a class that has not come has -inf."""
    table = torch.zeros(LABELS, FIRST_LABEL, dtype=torch.float64)

    def learn(one: Task) -> None:
        for passage, label in zip(one.passages, one.named, strict=True):
            table[label] += torch.bincount(passage[:WORDS], minlength=FIRST_LABEL)

    def scores(questions: Tensor) -> Tensor:
        total = table.sum(1, keepdim=True)
        shares = ((table + 0.3) / (total + 0.3 * FIRST_LABEL)).log()  # (20, 235)
        return shares[:, questions[:, :WORDS]].sum(-1).T.masked_fill(total.T == 0, -math.inf)

    return learn, scores


def fine_tuned(model: Hope, passes: int, seed: int, rate: float) -> _Learner:
    """All weights of the backbone, by AdamW, on the label behind a passage."""
    own = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(own.parameters(), lr=rate, weight_decay=0.0)
    return by_steps(own, lambda tokens: of_labels(own(tokens)[0][:, -1]), optimiser, passes, seed)


def mlp(settings: dict[str, Any], seed: int, choice: tuple[float, float]) -> _Learner:
    """An MLP on features, by SGD at a rate, with EWC at a strength."""
    rate, strength = choice
    torch.manual_seed(seed)
    width, hidden = settings["config"]["width"], settings["hidden"]
    net = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, LABELS))
    return by_steps(net, net, torch.optim.SGD(net.parameters(), lr=rate), settings["passes"], seed, strength)


def by_steps(
    net: nn.Module,
    scores: Callable[[Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    passes: int,
    seed: int,
    strength: float = 0.0,
) -> _Learner:
    """Batches of 8 in random order, several passes over each task: -log p of the label among all 20, and the penalty of EWC."""
    draws = torch.Generator().manual_seed(seed)
    kept: list[_Kept] = []

    def learn(one: Task) -> None:
        for _ in range(passes):
            for rows in torch.randperm(len(one.named), generator=draws).split(8):
                loss = cross_entropy(scores(one.passages[rows]), one.named[rows])
                optimiser.zero_grad()
                (loss + strength * penalty(net, kept)).backward()
                optimiser.step()
        if strength:
            kept.append(importance(net, scores, one))

    return learn, torch.no_grad()(scores)


_Kept: TypeAlias = list[tuple[Tensor, Tensor]]
"""Of every parameter: where it stood, and the diagonal of the Fisher information there."""


def importance(net: nn.Module, scores: Callable[[Tensor], Tensor], one: Task) -> _Kept:
    """The mean over a task's passages of (∂ log p(label) / ∂θ)², entry by entry: the empirical Fisher diagonal."""
    parameters = list(net.parameters())
    fisher = [torch.zeros_like(p) for p in parameters]
    for passage, label in zip(one.passages, one.named, strict=True):
        loss = cross_entropy(scores(passage[None]), label[None])
        for total, slope in zip(fisher, torch.autograd.grad(loss, parameters), strict=True):
            total += slope.square() / len(one.named)
    return [(p.detach().clone(), total) for p, total in zip(parameters, fisher, strict=True)]


def penalty(net: nn.Module, kept: Sequence[_Kept]) -> Tensor:
    """½ Σ_tasks Σ_i F_i (θ_i - θ*_i)²: elastic weight consolidation."""
    parts = [
        (fisher * (p - stood).square()).sum()
        for one in kept
        for p, (stood, fisher) in zip(net.parameters(), one, strict=True)
    ]
    return 0.5 * torch.stack(parts).sum() if parts else torch.zeros(())


# --- one cell -----------------------------------------------------------------------------------------------------------


def followed(stream: Sequence[Task], way: Way, choice: Any, each: bool = True) -> Measures:
    """Learn task after task, asked about all of them after ``each`` or in the end: R[i, j], among all classes and told the task."""
    learn, scores = way.make(choice)
    start, tasks = time.perf_counter(), [joined(stream)] if way.at_once else stream
    matrices: tuple[list[list[float]], ...] = ([], [])
    for number, one in enumerate(tasks):
        learn(one)
        if each or number == len(tasks) - 1:
            shares = [_shares(scores(other.questions)[:, : 2 * len(stream)], other) for other in stream]
            for matrix, row in zip(matrices, zip(*shares, strict=True), strict=True):
                matrix.append(list(row))
    # Who learns all tasks at once, or is asked in the end alone, has one row for all.
    among_all, told = (matrix + [matrix[-1]] * (len(stream) - len(matrix)) for matrix in matrices)
    return {
        "choice": choice,
        "right": 100 * digits.mean_accuracy(among_all),
        "forgetting": 100 * digits.forgetting(among_all),
        "told": 100 * digits.mean_accuracy(told),
        "last": 100 * among_all[-1][-1],  # right of the task that came last
        "matrix": [[round(entry, 3) for entry in row] for row in among_all],
        "seconds": time.perf_counter() - start,
    }


def _shares(scores: Tensor, one: Task) -> tuple[float, float]:
    """Of a task's questions that are right, among all classes and among its own."""
    own = torch.tensor(one.labels)[scores[:, one.labels].argmax(-1)]
    first, second = (
        digits.accuracy(found.numpy(), one.answers.numpy()) for found in (scores.argmax(-1), own)
    )
    return first, second


def tuned(way: Way, streams: Sequence[Sequence[Task]]) -> Any:
    """The choice with most right in the end, in the mean of some streams; the first of equals."""
    if len(way.choices) == 1:
        return way.choices[0]
    right = [mean(followed(one, way, choice, False)["right"] for one in streams) for choice in way.choices]
    return way.choices[right.index(max(right))]


def measure(cell: Cell) -> Measures:
    """Train the backbone; then every way learns streams with few and with many passages: {"40": {way: {"right": …}}}."""
    settings = dict(cell.settings)
    given = task.library(task.CLASSES[: settings["classes"]])
    others = task.library(task.OTHERS[: settings["others"]])
    model = built(settings, cell.seed)
    fits = trained(model, settings, others.words, cell.seed)
    found: Measures = {
        "sha256": [given.sha256, others.sha256],
        "parameters": fitting.parameters(model),
        "steps": [fit.steps for fit in fits],
        "loss": [mean(fit.losses[-20:]) for fit in fits if fit.losses],
        "training_seconds": sum(fit.seconds for fit in fits),
    }
    if settings["config"]["learned_rates"]:
        found["rates"] = model.log_rates.detach().exp().tolist()
    for shown in settings["lengths"]:
        tokens = streams(settings, given.words, cell.seed, shown)
        seen = [[_seen(model, one) for one in stream] for stream in tokens]
        found[str(shown)] = {}
        for name, way in ways(model, settings, cell.model, cell.seed).items():
            own = seen if way.features else tokens
            found[str(shown)][name] = followed(own[-1], way, tuned(way, own[:-1]))
    return found


def streams(
    settings: dict[str, Any], words: Sequence[Integers], seed: int, shown: int
) -> list[tuple[Task, ...]]:
    """Streams to choose rates on, of the words that may be learnt from alone, and the one that is tested."""
    learnable = [task.split(own)[0] for own in words]
    given = [(learnable, (TUNING, seed, n)) for n in range(settings["tuned"])] + [
        (list(words), (seed, shown))
    ]
    return [tensors(task.stream(own, one, shown, settings["asked"])) for own, one in given]


def _seen(model: Hope, one: Task) -> Task:
    return one._replace(passages=features(model, one.passages), questions=features(model, one.questions))


# --- what the records say -------------------------------------------------------------------------------------------------

# A row's name, whose backbone it has, and the way.
ROWS = (
    ("nothing learns", ORDINARY, STILL),
    ("attention carried, 1,024 tokens (10 at the very most)", ORDINARY, CONTEXT),
    ("levels learning, ordinary start", ORDINARY, LEARNING),
    *((f"levels learning, trained through the updates: {name}", name, LEARNING) for name in LEVELS),
    *((name, ORDINARY, name) for name in (FINE, MLP, EWC, *MEANS)),
    *((f"{name}, on features of “1 level”", "1 level", name) for name in MEANS),
    *((name, ORDINARY, name) for name in (*AT_ONCE, COUNTS)),
)


def tables(records: Records) -> list[Table]:
    """Every way: right in the end with few and with many passages, what it forgets, and what it knows if the task is told."""
    header = ["what learns", *(f"right, {shown} passages" for shown in LENGTHS)]
    header += ["forgetting", "task told", "of the last task", "rate", "s for the stream"]
    rows = []
    for name, model, way in ROWS:
        row = [name, *(records.text(TASK, model, f"{shown}.{way}.right") for shown in LENGTHS)]
        row += [records.text(TASK, model, f"{LONG}.{way}.{what}") for what in ("forgetting", "told", "last")]
        rows.append((*row, _choices(records, model, way), records.text(TASK, model, f"{LONG}.{way}.seconds")))
    rows.append(("a blind guess", "5.0", "5.0", "–", "50.0", "5.0", "–", "–"))
    return [Table("Twenty modules, two at a time", tuple(header), tuple(rows), _note(records))]


def _choices(records: Records, model: str, way: str) -> str:
    """The rates that were chosen for the longer stream, over all seeds."""
    runs = [record.measures.get(LONG, {}).get(way, {}).get("choice") for record in records.of(TASK, model)]
    return " / ".join(sorted({str(one).strip("[]()") for one in runs if one is not None})) or "–"


def _note(records: Records) -> str:
    if not len(records):
        return "Not run yet."
    sizes = [record.measures["parameters"] for record in records.all]
    return (
        f"% right among 20. Ten tasks of two modules in turn, each passage shown once, or 5 times where SGD or AdamW learns; questions are "
        f"from the last 30 % of every module. Who knows the last task alone has 10 %. All columns but the first are of {LONG} passages a "
        f"module. Rates were chosen on other seeds and other text: of levels as a multiple of their own, of EWC with its strength. "
        f"Backbones have {min(sizes):,.0f} to {max(sizes):,.0f} parameters. Counts of words are naive Bayes, no network. SHA-256 of the modules: "
        f"{records.all[0].measures['sha256'][0][:8]}…"
    )


def compared(records: Records, one: tuple[str, str], other: tuple[str, str]) -> list[float]:
    """By how many points one (backbone, way) is ahead of another with many passages, seed by seed."""
    own, theirs = (
        {record.cell.seed: record.measures[LONG][way]["right"] for record in records.of(TASK, model)}
        for model, way in (one, other)
    )
    return [own[seed] - theirs[seed] for seed in sorted(own) if seed in theirs]


def best(records: Records, rows: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """Of these (backbone, way) the one with most right in the end, in the mean over seeds; None if none was run."""
    means = {row: records.values(TASK, row[0], f"{LONG}.{row[1]}.right") for row in rows}
    there = {row: mean(values) for row, values in means.items() if values}
    return max(there, key=lambda row: there[row], default=None)


def sentence(records: Records) -> str:
    """What levels keep, beside each rival that was named before anything was run, and what that says of the paper."""
    own = best(records, [(name, LEARNING) for name in LEVELS])
    if own is None:
        return "Not run yet."
    means = [(model, way) for model in (ORDINARY, own[0]) for way in MEANS]
    rivals = {
        "EWC": best(records, [(ORDINARY, EWC)]),
        "the nearest class mean": best(records, means),
    }
    points = {name: compared(records, own, other) for name, other in rivals.items() if other}
    right, ordinary = (records.text(TASK, model, f"{LONG}.{LEARNING}.right") for model in (own[0], ORDINARY))
    beside = "".join(
        f"; beside {name} {spread(one).replace('-', '−')} points" for name, one in points.items()
    )
    # What learns in context is right in 10 % at the very most: 1,024 tokens hold 14 passages, all of them of the last task.
    beyond = [value - 10 for value in records.values(TASK, own[0], f"{LONG}.{LEARNING}.right")]
    judged = findings({"the last task": beyond, **points}, 1.0)
    if len(points) == len(rivals) and all(judged.get(name) == 1 for name in ("the last task", *rivals)):
        verdict = "They are ahead of both and of all that a context could hold, which supports the paper"
    elif judged.get("the last task") != 1:
        verdict = "That was not found to be more than the last task, which gives the paper no support"
    elif judged.get("the nearest class mean") == -1:
        verdict = "Class means are ahead of them, which contradicts the paper"
    else:
        behind = all(one < 0 for one in points.get("the nearest class mean", [0.0]))
        seeds = (
            "; class means are ahead in every seed, which is too few seeds for the rule above"
            if behind
            else ""
        )
        verdict = (
            "They keep more than the last task, and were found neither ahead of both nor behind class means: that decides "
            f"nothing{seeds}"
        )
    return (
        f"After ten tasks of two modules in turn levels are right in {right} % if their start was trained through their updates "
        f"({own[0]}), and in {ordinary} % from an ordinary start (10 % is the last task alone){beside}. {verdict}."
    )


EXPERIMENT = Experiment(
    name="modules",
    question="Passages of twenty modules come two modules at a time: what keeps them, levels that learn, EWC, or the means of the classes?",
    cells=cells,
    measure=measure,
    tables=tables,
    sentence=sentence,
    levels="move in the rows that say so; everywhere else they stand still",
)
