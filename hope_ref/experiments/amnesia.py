"""Amnesia and its cure: two dictionaries, an attention that is emptied after each lesson, and levels that remember. [P 73, p. 28, p. 31], [D]

A pupil is taught two languages of 16 words, one after the other, and then asked every word. Attention that still has both
lessons in its context answers from there. Once its context is emptied, nothing is left, unless the continuum memory kept
it: its level learns from the model's own loss while the lesson is read. Whether it can is a matter of training. Trained
*through* its own update, a model is one in which one step stores a lesson; trained as any other is, it is not. What the
training shapes is the whole model: with the start of its level drawn anew at random it still keeps most of both lessons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hope_ref.config import HopeConfig
from hope_ref.experiments import fitting
from hope_ref.parallel import lessons, states
from hope_ref.parallel.continuum_memory import ContinuumState
from hope_ref.parallel.hope import Hope
from hope_ref.tasks import languages
from hope_ref.tasks.common import Seed
from hope_ref.tasks.languages import WORDS
from hope_ref.training.settings import TrainingSettings

LANGUAGES = 2
STEPS = 150  # of training through the update, 6 to 12 seconds on one CPU thread
ORDINARY_STEPS = 1600  # of training to read in context, a minute
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # at which the level of the ordinary start may learn
PUPILS = 64  # that are asked, each with dictionaries of its own
Progress = Callable[[int, float], None]  # step, loss


def config(seed: int = 0) -> HopeConfig:
    """HOPE-Attention of one block, one level that moves once per lesson: 14,000 parameters."""
    return HopeConfig(
        width=32,
        vocabulary=languages.vocabulary(LANGUAGES),
        blocks=1,
        mixer="softmax_attention",
        levels_chunk_sizes=(2 * WORDS,),
        cms_rate=0.1,
        seed=seed,
    )


class Taught(NamedTuple):
    """Lessons as tensors, of every pupil; see `languages.Episode`."""

    lessons: tuple[Tensor, ...]
    questions: Tensor
    answers: Tensor


def episode(count: int, batch: int, seed: Seed, **options: Any) -> Taught:
    """`languages.draw`, for PyTorch."""
    drawn = languages.draw(count, batch, seed, **options)
    return Taught(tuple(map(torch.from_numpy, drawn.lessons)), *map(torch.from_numpy, drawn[1:]))


def learned(model: Hope, given: Sequence[Tensor], *, differentiable: bool = False) -> ContinuumState:
    """The levels after all lessons: each is read with an empty attention, and the levels alone are kept."""
    levels = lessons.begin(model, tuple(given[0].shape[:-1]))
    for lesson in given:
        _, levels = lessons.learn(model, lesson, levels, differentiable=differentiable)
    return levels


def loss_of(model: Hope, given: Taught) -> Tensor:
    """Mean -log p of the answers to all words, nats, through every update of the levels."""
    answered = lessons.ask(model, given.questions, learned(model, given.lessons, differentiable=True))
    return cross_entropy(answered[:, :, -1].flatten(0, 1), given.answers.flatten())


# --- two ways of training ---------------------------------------------------------------------------------------------


def train(steps: int = STEPS, seed: int = 0, said: Progress | None = None) -> tuple[Hope, list[float]]:
    """A model whose level starts from a meta-learned state: its loss has gone through the level's own updates.

    Args: steps, 16 pupils each; seed, of starting values and lessons; said, called before every step but the first.
    Returns: the model, and the loss of every step, nats.
    """
    model = Hope(config(seed))
    settings = TrainingSettings(steps=steps, lr=5e-3, batch=16)

    def loss(step: int) -> Tensor:
        found = loss_of(model, episode(LANGUAGES, settings.batch, (seed, step)))
        if said is not None:
            said(step, float(found.detach()))
        return found

    return model, fitting.fit(model, loss, settings).losses


def train_ordinary(steps: int = ORDINARY_STEPS, seed: int = 0) -> Hope:
    """A model trained as language models are: both lessons and the questions in one context, and levels that stand still.

    It takes two blocks, to look up what stood behind the same word, and half of the steps are spent on learning just that.
    """
    model = Hope(config(seed).replace(blocks=2, heads=2))
    settings = TrainingSettings(steps=steps, lr=3e-3, batch=32, schedule="constant")
    fitting.fit(model, in_context_loss(model, LANGUAGES, settings, seed), settings)
    return model


def in_context_loss(
    model: Hope, count: int, settings: TrainingSettings, seed: int
) -> Callable[[int], Tensor]:
    """The loss of step number 0, 1, …, nats: of symbols that come a second time; from half the steps on, of lessons in one context.

    First 8 to 24 different symbols, then the same again: -log p of what follows a symbol that was there before. Then
    lessons of 2 to 16 words: -log p of the answers. With lessons alone two blocks of attention hardly ever learn to look up.
    """

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        if step < settings.steps // 2:
            length = int(torch.randint(8, 25, (), generator=generator))
            shown = torch.rand(settings.batch, model.config.vocabulary, generator=generator).argsort(1)[
                :, :length
            ]
            logits, wanted = model(torch.cat([shown, shown[:, :-1]], 1))[0][:, length:], shown[:, 1:]
        else:
            words = int(torch.randint(2, WORDS + 1, (), generator=generator))
            line, wanted = in_line(count, settings.batch, words, (seed, step))
            logits = model(line)[0][:, -2 * wanted.shape[1] :: 2]
        return cross_entropy(logits.flatten(0, 1), wanted.flatten())

    return loss


def in_line(count: int, batch: int, words: int, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Lessons of so many words, then those words in a new order, each with its answer: one line, and the answers."""
    drawn = episode(count, batch, seed)
    cut = [lesson[:, : 2 * words] for lesson in drawn.lessons]
    pairs = torch.cat(cut, 1).unflatten(1, (-1, 2))  # (batch, words, 2)
    order = torch.rand(pairs.shape[:2], generator=torch.Generator().manual_seed(seed[-1])).argsort(1)
    asked = pairs.gather(1, order[..., None].expand_as(pairs))
    closing = drawn.lessons[0][:, -1:]
    line = torch.cat([*(torch.cat([lesson, closing], 1) for lesson in cut), asked.flatten(1)], 1)
    return line, asked[..., 1]


# --- what was kept ------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One line of the table: % right of each language's words."""

    name: str
    right: tuple[float, ...]


def right(answered: Tensor, given: Taught) -> tuple[float, ...]:
    """% of each language's words whose answer is the most likely one: logits (batch, words, ..., vocabulary)."""
    hit = answered.argmax(-1) == given.answers
    return tuple(100 * float(part.double().mean()) for part in hit.split(WORDS, 1))


@torch.no_grad()
def in_context(model: Hope, given: Taught) -> tuple[float, ...]:
    """% right with both lessons in the attention's context, pupil after pupil; every question is asked on its own."""
    found = []
    for pupil, line in enumerate(torch.cat(given.lessons, 1)):
        _, state = model(line)
        asked = given.questions[pupil]  # (words, 1)
        many = states.mapped(lambda t: t.expand(len(asked), *t.shape), state)  # noqa: B023
        found.append(model(asked, many)[0][:, -1])
    return right(torch.stack(found), given)


def kept(model: Hope, given: Taught, *, learning: bool = True) -> tuple[float, ...]:
    """% right once attention was emptied after each lesson; with levels that learned, or that stood still."""
    levels = learned(model, given.lessons) if learning else lessons.begin(model, (len(given.answers),))
    with torch.no_grad():
        return right(lessons.ask(model, given.questions, levels)[:, :, -1], given)


def at_rate(model: Hope, rate: float) -> Hope:
    """The same weights, with levels that learn at this rate."""
    other = Hope(model.config.replace(cms_rate=rate)).to(model.embedding.dtype)
    other.load_state_dict(model.state_dict())
    return other


def drawn_anew(model: Hope, seed: int) -> Hope:
    """The same model, but for where its levels start: normal numbers of the same spread."""
    other, generator = at_rate(model, model.config.level_rates[0]), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.endswith((".w1", ".w2")):
                parameter.copy_(parameter.std() * torch.randn(parameter.shape, generator=generator))
    return other


def table(model: Hope, ordinary: Hope, seed: int) -> list[Row]:
    """What is right of both languages, in six situations: pupils and dictionaries by seed, never trained on.

    The ordinary start may learn at the best of `RATES`, chosen on these very words: that is its upper bound.
    """
    given = episode(LANGUAGES, PUPILS, (seed, 1_000_003))
    tried = [(rate, kept(at_rate(ordinary, rate), given)) for rate in RATES]
    best, found = max(tried, key=lambda one: sum(one[1]))
    return [
        Row("both lessons still in the context of full attention", in_context(ordinary, given)),
        Row("the same model, attention emptied after each lesson", kept(ordinary, given, learning=False)),
        Row(f"the same, its levels learning (best of {len(RATES)} rates: {best:g})", found),
        Row("attention emptied, the level learning, trained through its updates", kept(model, given)),
        Row("the same, its level starting anew at random", kept(drawn_anew(model, seed), given)),
        Row("the same, the level held still", kept(model, given, learning=False)),
    ]


# --- a lesson of one's own ----------------------------------------------------------------------------------------------


class Lesson(NamedTuple):
    """Pairs of words as they were given."""

    pairs: tuple[tuple[str, str], ...]


def parsed(text: str) -> Lesson:
    """ "hund dog, katze cat" or "hund = dog": pairs between commas, semicolons or lines. Raises: ValueError, saying which is none."""
    pairs = []
    for part in re.split("[,;\n]", text):
        words = part.replace("->", " ").replace("→", " ").replace("=", " ").split()
        if not words:
            continue
        if len(words) != 2:
            raise ValueError(f"lesson must have two words in every pair, got {part.strip()!r}")
        pairs.append((words[0], words[1]))
    if not pairs:
        raise ValueError(f"lesson must have at least one pair of words, got {text!r}")
    known: dict[str, str] = {}
    for word, answer in pairs:
        if known.setdefault(word, answer) != answer:
            raise ValueError(
                f"lesson must have one answer to a word, got {known[word]!r} and {answer!r} to {word!r}"
            )
    if len(known) > WORDS:
        raise ValueError(f"lesson must have at most {WORDS} words, got {len(known)}")
    return Lesson(tuple(known.items()))


class Reply(NamedTuple):
    """What the model says to one word."""

    word: str
    wanted: str
    said: str
    share: float  # its probability among all answers


def taught(model: Hope, given: Sequence[Lesson]) -> list[list[Reply]]:
    """Teach a model these lessons, its attention emptied after each, then ask every word of every lesson.

    Words stand for symbols: each lesson's own for those of a language, the answers of all lessons together for the 16
    answers. A lesson is as long as those of training: words that nobody asks about, with the answers that are left, fill it.
    Raises: ValueError if there are more lessons than languages, or more answers than the model knows symbols for.
    """
    if not 1 <= len(given) <= LANGUAGES:
        raise ValueError(f"lesson must be given once or twice, got {len(given)}")
    answers = list(dict.fromkeys(answer for lesson in given for _, answer in lesson.pairs))
    if len(answers) > WORDS:
        raise ValueError(f"lesson must have at most {WORDS} different answers, got {len(answers)}")
    closing = languages.vocabulary(LANGUAGES) - 1
    lines, questions = [], []
    for language, lesson in enumerate(given):
        symbols = [answers.index(answer) for _, answer in lesson.pairs]
        symbols += [answer for answer in range(WORDS) if answer not in symbols][: WORDS - len(symbols)]
        words = torch.arange(WORDS) + WORDS * (1 + language)
        line = torch.stack([words, torch.tensor(symbols)], 1).flatten()
        lines.append(torch.cat([line, torch.tensor([closing])])[None])
        questions.append(words[None, : len(lesson.pairs), None])
    levels = learned(model, lines)
    replies = []
    with torch.no_grad():
        for lesson, asked in zip(given, questions, strict=True):
            shares = lessons.ask(model, asked, levels)[0, :, -1, :WORDS].softmax(-1)
            replies.append(
                [
                    Reply(
                        word,
                        answer,
                        answers[int(p.argmax())] if int(p.argmax()) < len(answers) else "?",
                        float(p.max()),
                    )
                    for (word, answer), p in zip(lesson.pairs, shares, strict=True)
                ]
            )
    return replies
