"""Exercises of notebook 11: what a stream carries along, a hunt for the future, and generation with a state."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.reference import hope as reference
from hope_ref.reference.hope import TitansState
from hope_ref.teaching.checks import to_numpy
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


def _carried(
    width: int,
    heads: int,
    hidden: int,
    kernel: int,
    *,
    copies: int = 2,
    memories: int = 5,
    views: int = 3,
    inputs: int = 1,
    once: int = 0,
) -> int:
    """Heads cut the width; a convolution of width w keeps ``w - inputs`` inputs; ``once`` is added for each head."""
    weights = copies * memories * 2 * heads * (width // heads) * hidden
    return weights + views * (kernel - inputs) * width + once * heads


def _too_wide(width: int, heads: int, hidden: int, kernel: int) -> int:
    return 20 * heads * width * hidden + 3 * (kernel - 1) * width


def _one_head(width: int, heads: int, hidden: int, kernel: int) -> int:
    return 20 * (width // heads) * hidden + 3 * (kernel - 1) * width


def _square(width: int, heads: int, hidden: int, kernel: int) -> int:
    return 10 * heads * (width // heads) ** 2 + 3 * (kernel - 1) * width


def _in_each_head(width: int, heads: int, hidden: int, kernel: int) -> int:
    return 20 * width * hidden + 3 * (kernel - 1) * width * heads


MISCOUNTS: dict[str, Callable[..., int]] = {
    "Half of the memories' numbers are missing: each has W1 and W2, and each of these is there twice, as it moves and "
    "as the copy at the boundary.": partial(_carried, copies=1),
    "W_0 is not carried along: the starting weights are parameters of the model, the same for every stream.": partial(
        _carried, copies=3
    ),
    "A head has five memories: keys, values, rates, retentions, and the one that answers. One is missing.": partial(
        _carried, memories=4
    ),
    "There are three convolutions, one for each view.": partial(_carried, views=1),
    "A convolution has no second copy: it needs its last w - 1 inputs once.": partial(_carried, views=6),
    "A convolution of width w needs the last w - 1 inputs.": partial(_carried, inputs=0),
    "The convolutions are missing.": partial(_carried, views=0),
    "A head is width / heads wide, not width.": _too_wide,
    "Every head has memories of its own.": _one_head,
    "A memory is an MLP, not a square matrix: its two matrices are (d, h) and (h, d).": _square,
    "The convolutions come before the cut into heads: each sees the width once.": _in_each_head,
    "All heads stand at the same token: the position is one integer for all of them.": partial(
        _carried, once=1
    ),
}


def check_carried(function: Any) -> None:
    """(width, heads, hidden, kernel) -> count: that of the reference's arrays; the position may be counted, too."""
    position = 0
    for case, sizes in enumerate(((12, 3, 5, 4), (8, 2, 7, 3), (6, 1, 4, 2))):
        got, want = ask(function, *sizes), _counted(*sizes)
        if case == 0 and _is(got, want + 1):
            position = 1
        wrong = {hint: count(*sizes) for hint, count in MISCOUNTS.items()}
        likely = wrong | {f"{hint} ": count + 1 for hint, count in wrong.items()}  # with the position
        likely = {hint: count for hint, count in likely.items() if count not in (want, want + 1)}
        width, heads, hidden, kernel = sizes
        what = f"the count for width {width}, {heads} heads, h = {hidden}, w = {kernel}"
        must_equal(what, got, want + position, likely)


def _is(got: Any, number: int) -> bool:
    """Whether an answer is that number, in whatever form numbers come."""
    try:
        found = to_numpy(got)
    except (TypeError, ValueError):
        return False
    return found.shape == () and float(found) == number


# --- 11.2 -------------------------------------------------------------------------------------------------------------

TOKENS, WORDS = 11, 11
Model = Callable[[Array], Array]


class Suspect(NamedTuple):
    """A model by what its outputs hear of the future, and how loud."""

    kind: str
    leaks: dict[int, int]  # output: the later token that it hears
    size: float = 0.05  # by how much a logit moves if that token is the next word of the vocabulary
    noise: float = 0.0  # by how much every token moves every logit, as rounding may

    def model(self) -> Model:
        """Tokens (T,) to logits (T, words)."""
        table = np.random.default_rng(1102).normal(size=(TOKENS, WORDS, WORDS))
        sides = np.where(np.arange(WORDS) % 2, 1.0, -1.0)

        def logits(tokens: Array) -> Array:
            tokens = np.asarray(tokens)
            said = np.zeros((TOKENS, WORDS))
            for t in range(TOKENS):
                past = sum(table[s, int(tokens[s])] for s in range(t + 1))
                said[t] = 4 + np.tanh(past)
                said[t, (7 * int(tokens[t]) + t) % WORDS] += 5  # the most likely word, whatever leaks
                if t in self.leaks:
                    said[t] += self.size * float(tokens[self.leaks[t]]) * sides
                said[t] += self.noise * float(np.sum(tokens)) * sides
            return said

        return logits


SUSPECTS = (
    Suspect("in which five outputs hear a later token", {2: 9, 4: 6, 5: 6, 7: 10, 8: 10}),
    Suspect("whose output 6 hears token 9 by about a millionth", {6: 9}, 2e-6),
    Suspect("whose output 1 hears token 2 and whose output 0 hears token 10", {0: 10, 1: 2}),
    Suspect("that hears the past alone, up to rounding", {}, noise=1e-13),
)


def _first_leak(
    model: Model,
    tokens: Array,
    words: int,
    *,
    changed: tuple[int, ...] = tuple(range(TOKENS)),
    outputs: Callable[[int], range] = range,
    index: Callable[[int, int], int] = lambda t, s: t,
    pick: Callable[..., int | None] = min,
    words_only: bool = False,
    bound: float = 1e-9,
) -> int | None:
    """Change token s, look at ``outputs(s)``, note ``index(output, s)``, and pick one of the notes."""
    before, found = model(tokens), []
    for s in changed:
        other = tokens.copy()
        other[s] = (other[s] + 1) % words
        after = model(other)
        moved = np.abs(after - before).max(axis=1) > bound
        if words_only:
            moved = after.argmax(axis=1) != before.argmax(axis=1)
        found += [index(t, s) for t in outputs(s) if moved[t]]
    return pick(found, default=None)


def _token_of_the_first(model: Model, tokens: Array, words: int) -> int | None:
    coded = _first_leak(model, tokens, words, index=lambda t, s: TOKENS * t + s)
    return None if coded is None else coded % TOKENS


def _next_in_line(found: list[int], default: int | None) -> int | None:
    return found[0] if found else default


def _none_for_zero(model: Model, tokens: Array, words: int) -> int | None:
    return _first_leak(model, tokens, words) or None


def _minus_one(model: Model, tokens: Array, words: int) -> int:
    found = _first_leak(model, tokens, words)
    return -1 if found is None else found


def _in_place(model: Model, tokens: Array, words: int) -> int | None:
    before, found = model(tokens), []
    for s in range(TOKENS):
        tokens[s] = (tokens[s] + 1) % words
        moved = np.abs(model(tokens) - before).max(axis=1) > 1e-9
        found += [t for t in range(s) if moved[t]]
    return min(found, default=None)


OVERSIGHTS: dict[str, Callable[..., int | None]] = {
    "An output may hear its own token: look at the outputs before the changed one.": partial(
        _first_leak, outputs=lambda s: range(s + 1)
    ),
    "Turned round: outputs after the changed token may hear it, those before may not.": partial(
        _first_leak, outputs=lambda s: range(s + 1, TOKENS)
    ),
    "That is a token that was changed; asked is the output that heard it.": partial(
        _first_leak, index=lambda t, s: s
    ),
    "That is the token that was changed; asked is the output that heard it.": _token_of_the_first,
    "Changing the last token alone does not show every leak.": partial(_first_leak, changed=(TOKENS - 1,)),
    "Look at every output before the changed token, not only at the one just before.": partial(
        _first_leak, outputs=lambda s: range(max(s - 1, 0), s)
    ),
    "That is the first leak that you met; go on, and return the smallest output of all leaks.": partial(
        _first_leak, pick=_next_in_line
    ),
    "That is the last of them; asked is the first.": partial(_first_leak, pick=max),
    "Outputs are counted from 0.": partial(_first_leak, index=lambda t, s: t + 1),
    "Change every token in turn, and compare the logits: they move long before another word is the most likely one.": partial(
        _first_leak, words_only=True
    ),
    "This leak is small. np.allclose, and a bound such as 1e-2, overlook it; rounding is below 1e-12.": partial(
        _first_leak, bound=1e-2
    ),
    "Output 0 leaks, and 0 counts as false in `if` and `or`: ask whether the list is empty.": _none_for_zero,
}
SEARCH = "Change every token in turn, and look at every output before it."


def check_leak(function: Any) -> None:
    """(model, tokens, words) -> index or None: compared with how each suspect was built."""
    tokens = np.random.default_rng(1103).integers(0, WORDS - 1, TOKENS)  # the next word is never the first
    left = dict(OVERSIGHTS)  # those that have been right so far

    def watched(model: Model, given: Array, words: int) -> Any:
        got = function(model, given, words)
        if not np.array_equal(given, tokens):
            raise ValueError("you changed `tokens` in place, and never put it back: work on a copy")
        return got

    if not callable(function):
        ask(function)
    for suspect in SUSPECTS:
        model, want = suspect.model(), min(suspect.leaks, default=None)
        got = ask(watched, model, tokens, WORDS)
        what = f"the first output that hears the future, in a model {suspect.kind},"
        likely = {hint: oversight(model, tokens, WORDS) for hint, oversight in left.items()}
        left = {hint: left[hint] for hint, value in likely.items() if value == want}
        if want is None:
            if got is not None:
                raise WrongAnswer(
                    f"{what} is {got!r}, expected None: no output before the changed token moves by more than rounding."
                )
        elif got is None:
            hint = next((hint for hint, value in likely.items() if value is None), SEARCH)
            raise WrongAnswer(f"{what} is None, expected {want}. {hint}")
        else:
            must_equal(what, got, want, {h: v for h, v in likely.items() if v is not None and v != want})


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
COUNT = 12


class Reader:
    """The tiny model as `read`, counting the tokens that it is given."""

    def __init__(self) -> None:
        self.read = 0

    def __call__(self, tokens: Any, state: Any = None) -> tuple[Array, Any]:
        tokens = np.asarray(tokens, dtype=np.int64)
        if tokens.ndim != 1:
            raise ValueError(
                f"`read` takes an array of tokens, (T,), and for a single one (1,), as np.array([token]); got shape {tokens.shape}"
            )
        self.read += len(tokens)
        parameters, config = _tiny()
        return reference.hope(tokens, parameters, config, state)


def _from_scratch(prompt: Array, count: int) -> Array:
    """Read all tokens so far, again for every new one."""
    tokens = list(prompt)
    for _ in range(count):
        logits, _ = Reader()(np.array(tokens))
        tokens.append(int(logits[-1].argmax()))
    return np.array(tokens[len(prompt) :])


def _generated(read: Any, prompt: Array, count: int, *, mistake: str = "") -> Array:
    if mistake == "late":
        return _generated(read, prompt, count + 1)[1:]
    if mistake == "short":
        prompt = prompt[:-1]
    logits, state = read(prompt, None)
    if mistake == "again":
        logits, state = read(prompt[-1:], state)
    pick = np.argmin if mistake == "least" else np.argmax
    made = [int(pick(logits[0 if mistake == "first" else -1]))]
    while len(made) < count:
        last = np.array(made[-1:])
        if mistake == "scratch":
            logits, _ = read(np.concatenate([prompt, made]), None)
        elif mistake == "old":
            logits, _ = read(last, state)
        elif mistake == "bare":
            logits, state = read(made[-1], state)
        elif mistake == "all":
            logits, state = read(np.concatenate([prompt, made]), state)
        elif mistake == "made":
            logits, state = read(np.array(made), state)
        elif mistake != "stuck":
            logits, state = read(last, None if mistake == "none" else state)
        made.append(int(pick(logits[-1])))
    return np.array(made if mistake != "prompt" else [*prompt, *made])


SLIPS = {
    "The prompt's last token is read twice: the logits of the next token are there already.": "again",
    "The state is dropped: hand on what `read` returned.": "none",
    "The state after the prompt is used for every token: go on from the newest one.": "old",
    "The logits after the *last* token of the prompt say what comes next.": "first",
    "The prompt is read anew for every token, though it is in the state already: read the newest token alone.": "all",
    "All new tokens are read anew, though they are in the state already: read the newest one alone.": "made",
    "The logits are those after the prompt, every time: take the new ones that `read` returned.": "stuck",
    "Yours begin one token late: the first new token is the one that follows the prompt.": "late",
    "The prompt's last token was never read.": "short",
    "That is the least likely token; asked is the most likely one.": "least",
}


@lru_cache(maxsize=1)
def _wanted_and_likely() -> tuple[Array, dict[str, Array]]:
    """The right tokens, and those of each mistake by its hint."""
    likely = {hint: _generated(Reader(), PROMPT, COUNT, mistake=slip) for hint, slip in SLIPS.items()}
    return _from_scratch(PROMPT, COUNT), likely


def check_generate(function: Any) -> None:
    """(read, prompt, count) -> tokens: compared with reading all of it again for every new token."""
    reader = Reader()
    got = ask(function, reader, PROMPT, COUNT)
    wanted, likely = _wanted_and_likely()
    must_equal("the new tokens (without the prompt)", got, wanted, likely)
    most = len(PROMPT) + COUNT  # whoever reads the last new token, too, still reads none twice
    if reader.read > most:
        raise WrongAnswer(
            f"the tokens are right, but {reader.read} tokens were read, expected at most {most}: "
            "some were read twice. The state knows all that has been read."
        )
    for prompt, count in ((PROMPT[2:4], 3), (PROMPT[:1], 1)):
        what = f"the new tokens after a prompt of {len(prompt)}, with count = {count},"
        must_equal(what, ask(function, Reader(), prompt, count), _from_scratch(prompt, count))


EXERCISES = (
    Exercise(
        "11.1",
        "count what the Titans sub-layer of one block carries along",
        check_carried,
        lambda width, heads, hidden, kernel: 20 * width * hidden + 3 * (kernel - 1) * width,
        (
            *((count, hint) for hint, count in MISCOUNTS.items()),
            (partial(_carried, memories=1), "expected"),
            (lambda *sizes: [_carried(*sizes)], "it should be ()"),
        ),
    ),
    Exercise(
        "11.2",
        "find the first output that hears the future",
        check_leak,
        _first_leak,
        (
            *((oversight, hint) for hint, oversight in OVERSIGHTS.items()),
            (_minus_one, "expected None"),
            (_in_place, "in place"),
            (lambda *_: None, "expected 2"),
        ),
    ),
    Exercise(
        "11.3",
        "generate with a state, reading no token twice",
        check_generate,
        _generated,
        (
            *((partial(_generated, mistake=slip), hint) for hint, slip in SLIPS.items()),
            (partial(_generated, mistake="scratch"), "expected at most 17"),
            (partial(_generated, mistake="prompt"), "it should be (12,)"),
            (partial(_generated, mistake="bare"), "for a single one (1,)"),
            (lambda read, prompt, _: _generated(read, prompt, COUNT), "count = 3"),
        ),
    ),
)
