"""Exercises of notebook 11: what a stream carries along, a hunt for the future, and generation with a state."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.reference import hope as reference
from hope_ref.reference.hope import TitansState
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, must_equal

# --- 11.1 -------------------------------------------------------------------------------------------------------------


def _counted(width: int, heads: int, hidden: int, kernel: int) -> int:
    """The numbers in the arrays of the reference's own state, Titans sub-layer of one block."""
    config = HopeConfig(
        width=width,
        heads=heads,
        vocabulary=3,
        blocks=1,
        hidden=hidden,
        convolution_width=kernel,
        levels_chunk_sizes=(8,),
    )
    mixer = reference.initial_state(reference.init(config), config).blocks[0].mixer
    assert isinstance(mixer, TitansState)
    memories = [array for head in mixer.heads for array in (*head.weights.values(), *head.boundary.values())]
    return sum(array.size for array in (*mixer[:3], *memories))


def _carried(width: int, heads: int, hidden: int, kernel: int, *, copies: int = 2, views: int = 3) -> int:
    return copies * 5 * 2 * heads * (width // heads) * hidden + views * (kernel - 1) * width


def check_carried(function: Any) -> None:
    """(width, heads, hidden, kernel) -> count: compared with the arrays of the reference's state."""
    for width, heads, hidden, kernel in ((12, 3, 5, 4), (8, 2, 7, 3), (6, 1, 4, 2)):
        sizes = (width, heads, hidden, kernel)
        once = _carried(*sizes, copies=1)
        likely = {
            "Half of the memories' numbers are missing: each has W1 and W2, and each of these is there twice, as it moves and "
            "as the copy at the boundary.": once,
            "There are three convolutions, one for each view.": _carried(*sizes, views=1),
            "A convolution of width w needs the last w - 1 inputs.": _carried(*sizes[:3], kernel + 1),
            "The convolutions are missing.": _carried(*sizes, views=0),
            "A head is width / heads wide, not width.": 20 * heads * width * hidden
            + 3 * (kernel - 1) * width,
            "Every head has memories of its own.": 20 * (width // heads) * hidden + 3 * (kernel - 1) * width,
        }
        if heads == 1:
            likely.pop("Every head has memories of its own.")
            likely.pop("A head is width / heads wide, not width.")
        what = f"the count for width {width}, {heads} heads, h = {hidden}, w = {kernel}"
        must_equal(what, ask(function, *sizes), _counted(*sizes), likely)


# --- 11.2 -------------------------------------------------------------------------------------------------------------

TOKENS, WORDS = 10, 11
Model = Callable[[Array], Array]


def _hears(kind: str) -> list[set[int]]:
    """For every output the tokens that it depends on."""
    past = [set(range(t + 1)) for t in range(TOKENS)]
    if kind == "looks one token ahead from token 3 on":
        return [own | ({t + 1} if 3 <= t < TOKENS - 1 else set()) for t, own in enumerate(past)]
    if kind == "reads the end of its chunk of 4, but for the first chunk":
        return [
            own | (set(range(t, min(4 * (t // 4) + 4, TOKENS))) if t >= 4 else set())
            for t, own in enumerate(past)
        ]
    if kind == "output 6 alone hears token 9":
        return [own | ({9} if t == 6 else set()) for t, own in enumerate(past)]
    return past


SUSPECTS = {
    "looks one token ahead from token 3 on": 3,
    "reads the end of its chunk of 4, but for the first chunk": 4,
    "output 6 alone hears token 9": 6,
    "hears the past alone": None,
}  # by name the first output that hears the future


def suspect(kind: str) -> Model:
    """Tokens (T,) to logits (T, words), each output of the tokens that it hears, in their places."""
    rng = np.random.default_rng(1102)
    table, hears = rng.normal(size=(TOKENS, WORDS, WORDS)), _hears(kind)

    def model(tokens: Array) -> Array:
        return np.array([np.tanh(sum(table[s, int(tokens[s])] for s in sorted(own))) for own in hears])

    return model


def _first_leak(
    model: Model,
    tokens: Array,
    words: int,
    *,
    changed: tuple[int, ...] = tuple(range(TOKENS)),
    own: bool = False,
    near: bool = False,
    index: str = "output",
) -> int | None:
    before, found = model(tokens), []
    for s in changed:
        other = tokens.copy()
        other[s] = (other[s] + 1) % words
        moved = np.abs(model(other) - before).max(axis=1) > 0
        outputs = np.arange(s - 1, s) if near and s else np.arange(s + own)
        found += [int(t) if index == "output" else s for t in outputs if moved[t]]
    return min(found, default=None)


def check_leak(function: Any) -> None:
    """(model, tokens, words) -> index or None: compared with how each suspect was built."""
    tokens = np.random.default_rng(1103).integers(0, WORDS, TOKENS)
    for kind, want in SUSPECTS.items():
        model = suspect(kind)
        got = ask(function, model, tokens, WORDS)
        what = f"the first output that hears the future, in a model that {kind},"
        if want is None:
            if got is not None:
                raise WrongAnswer(
                    f"{what} should be None, got {got!r}. Only outputs *before* the changed token count."
                )
            continue
        if got is None:
            raise WrongAnswer(
                f"{what} is {want}, and you found none. Change every token in turn, look at every output before it."
            )
        mistakes = {
            "An output may hear its own token: look at the outputs before the changed one.": {"own": True},
            "That is the token that was changed; asked is the output that heard it.": {"index": "token"},
            "Changing the last token alone does not show every leak.": {"changed": (TOKENS - 1,)},
            "Look at every output before the changed token, not only at the one just before.": {"near": True},
        }
        likely = {
            hint: value
            for hint, options in mistakes.items()
            if (value := _first_leak(model, tokens, WORDS, **options)) is not None  # type: ignore[arg-type]
        }
        must_equal(what, got, want, likely)


# --- 11.3 -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _tiny() -> tuple[dict[str, Array], HopeConfig]:
    config = HopeConfig(
        width=4,
        vocabulary=7,
        blocks=1,
        hidden=3,
        memory_chunk_size=2,
        projection_chunk_size=2,
        levels_chunk_sizes=(4,),
    )
    rng = np.random.default_rng(1112)
    start = reference.init(config)
    return {name: array + 0.7 * rng.normal(size=array.shape) for name, array in start.items()}, config


PROMPT = np.array([1, 4, 2, 6, 3])


class Reader:
    """The tiny model as `read`, counting the tokens that it is given."""

    def __init__(self) -> None:
        self.read = 0

    def __call__(self, tokens: Any, state: Any = None) -> tuple[Array, Any]:
        tokens = np.atleast_1d(np.asarray(tokens, dtype=np.int64))
        self.read += len(tokens)
        parameters, config = _tiny()
        return reference.hope(tokens, parameters, config, state)


def _from_scratch(count: int) -> Array:
    """Read all tokens so far, again for every new one."""
    tokens = list(PROMPT)
    for _ in range(count):
        logits, _ = Reader()(np.array(tokens))
        tokens.append(int(logits[-1].argmax()))
    return np.array(tokens[len(PROMPT) :])


def _generated(read: Any, prompt: Array, count: int, *, mistake: str = "") -> Array:
    logits, state = read(prompt, None)
    if mistake == "again":
        logits, state = read(prompt[-1:], state)
    made = [int(logits[0 if mistake == "first" else -1].argmax())]
    while len(made) < count:
        last = np.array(made[-1:])
        if mistake == "scratch":
            logits, _ = read(np.concatenate([prompt, made]), None)
        elif mistake == "old":
            logits, _ = read(last, state)
        else:
            logits, state = read(last, None if mistake == "none" else state)
        made.append(int(logits[-1].argmax()))
    return np.array(made if mistake != "prompt" else [*prompt, *made])


@lru_cache(maxsize=1)
def _wanted_and_likely(count: int) -> tuple[Array, dict[str, Array]]:
    """The right tokens, and those of each mistake by its hint."""
    hints = {
        "The prompt's last token is read twice: the logits of the next token are there already.": "again",
        "The state is dropped: hand on what `read` returned.": "none",
        "The state after the prompt is used for every token: go on from the newest one.": "old",
        "The logits after the *last* token of the prompt say what comes next.": "first",
    }
    likely = {hint: _generated(Reader(), PROMPT, count, mistake=mistake) for hint, mistake in hints.items()}
    return _from_scratch(count), likely


def check_generate(function: Any) -> None:
    """(read, prompt, count) -> tokens: compared with reading all of it again for every new token."""
    count, reader = 12, Reader()
    got = ask(function, reader, PROMPT, count)
    wanted, likely = _wanted_and_likely(count)
    must_equal("the new tokens (without the prompt)", got, wanted, likely)
    least = len(PROMPT) + count - 1
    if reader.read > least:
        raise WrongAnswer(
            f"the tokens are right, but {reader.read} tokens were read where {least} are enough: "
            "the state knows all that has been read, and nobody needs the logits after the last new token."
        )


EXERCISES = (
    Exercise(
        "11.1",
        "count what the Titans sub-layer of one block carries along",
        check_carried,
        lambda width, heads, hidden, kernel: 20 * width * hidden + 3 * (kernel - 1) * width,
        (
            (lambda *sizes: _carried(*sizes, copies=1), "each of these is there twice"),
            (lambda *sizes: _carried(*sizes, views=1), "three convolutions"),
            (
                lambda width, heads, hidden, kernel: _carried(width, heads, hidden, kernel + 1),
                "last w - 1 inputs",
            ),
            (
                lambda width, heads, hidden, kernel: 20 * heads * width * hidden + 3 * (kernel - 1) * width,
                "width / heads wide",
            ),
            (
                lambda width, heads, hidden, kernel: (
                    20 * (width // heads) * hidden + 3 * (kernel - 1) * width
                ),
                "memories of its own",
            ),
        ),
    ),
    Exercise(
        "11.2",
        "find the first output that hears the future",
        check_leak,
        _first_leak,
        (
            (lambda *given: _first_leak(*given, own=True), "may hear its own token"),
            (lambda *given: _first_leak(*given, index="token"), "asked is the output"),
            (lambda *given: _first_leak(*given, changed=(TOKENS - 1,)), "the last token alone"),
            (lambda *given: _first_leak(*given, near=True), "you found none"),
        ),
    ),
    Exercise(
        "11.3",
        "generate with a state, reading no token twice",
        check_generate,
        _generated,
        (
            (lambda *given: _generated(*given, mistake="again"), "read twice"),
            (lambda *given: _generated(*given, mistake="none"), "The state is dropped"),
            (lambda *given: _generated(*given, mistake="old"), "go on from the newest one"),
            (lambda *given: _generated(*given, mistake="first"), "*last* token of the prompt"),
            (lambda *given: _generated(*given, mistake="scratch"), "are enough"),
            (lambda *given: _generated(*given, mistake="prompt"), "it should be (12,)"),
        ),
    ),
)
