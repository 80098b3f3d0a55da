"""Exercises of notebook 03: the rank of an update, a test for self-written values, and taking one example out of a weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hope_ref.common.validation import Array
from hope_ref.reference.gradient_descent import train_linear
from hope_ref.teaching.exercise import Exercise, WrongAnswer, ask, ask_named, must_equal, unchanged

Memory = Callable[[Array], Array]  # inputs, (T, d_in) -> the values it writes, (T, d_out)


def _ask_and_compare(function: Any, names: str, *arguments: Any) -> Any:
    """`ask_named`; an answer that changed one of its array arguments in place is refused."""
    got, spoilt = ask_named(function, dict(zip(names.split(), arguments, strict=True)))
    unchanged(
        spoilt,
        "you changed {} in place: whoever called you has lost it. Work on {}.copy(), "
        "and beware that `other = {}` is only a second name for the same array.",
    )
    return got


# --- 03.1: the rank of an update --------------------------------------------------------------------------------------


def _measured_rank(inputs: Array, d_out: int) -> int:
    """Train on random targets and ask LAPACK for the rank of what was written."""
    rng = np.random.default_rng(301)
    start, targets = rng.normal(size=(d_out, inputs.shape[1])), rng.normal(size=(len(inputs), d_out))
    final, _ = train_linear(start, inputs, targets, 0.05)
    return int(np.linalg.matrix_rank(final - start, tol=1e-8))


def _rank_cases() -> tuple[tuple[str, Array, int], ...]:
    rng = np.random.default_rng(302)
    three, first, second = rng.normal(size=(3, 6)), np.eye(4)[0], np.eye(4)[1]
    blind = rng.normal(size=(5, 6))
    blind[:, 2:] = 0.0
    return (
        ("3 samples, 6 inputs, 5 outputs", three, 5),
        ("3 samples, each seen four times", np.tile(three, (4, 1)), 5),
        ("the samples e1, e2 and e1 + e2", np.stack([first, second, first + second]), 5),
        ("the samples e1 and 2 e1", np.stack([first, 2 * first]), 3),
        ("5 samples of which only two entries are ever not 0", blind, 7),
        ("5 samples, 6 inputs, 2 outputs", rng.normal(size=(5, 6)), 2),
        ("9 samples, 4 inputs, 8 outputs", rng.normal(size=(9, 4)), 8),
        ("one sample", rng.normal(size=(1, 4)), 3),
        ("one sample, all zeros", np.zeros((1, 4)), 3),
    )


def check_rank(function: Any) -> None:
    """(inputs, d_out) -> rank of W_T - W_0: compared with the rank measured after training."""
    for case, inputs, d_out in _rank_cases():
        must_equal(
            f"the rank for {case}",
            _ask_and_compare(function, "inputs d_out", inputs, d_out),
            _measured_rank(inputs, d_out),
            _likely_ranks(inputs, d_out),
        )


def _likely_ranks(inputs: Array, d_out: int) -> dict[str, int]:
    """Hint -> the number that this mistake gives."""
    samples, d_in = inputs.shape
    distinct = len(np.unique(inputs, axis=0))
    if not inputs.any():
        why = "A vector of zeros has no direction: nothing is written along it."
    elif distinct < samples:
        why = "A repeated sample writes along the same input again: it adds no direction."
    else:
        why = "Distinct is not independent: e1 + e2 lies in the plane of e1 and e2 and adds no direction."
    return {
        "The update has only d_out rows: its rank cannot be larger.": int(np.linalg.matrix_rank(inputs)),
        why: min(samples, d_in, d_out),
        "Each sample adds one direction at most: few samples cannot fill the matrix.": min(d_in, d_out),
        "The matrix cannot have a larger rank than either of its sides.": samples,
    }


def _rank(inputs: Array, d_out: int) -> int:
    return min(int(np.linalg.matrix_rank(inputs)), d_out)


# --- 03.2: does a memory write its own values? ------------------------------------------------------------------------


def _memories() -> tuple[tuple[str, bool, Memory], ...]:
    """Memories to be tested, and whether their values depend on earlier writes.

    Targets belong to an input, not to a position, so that a test may leave inputs out, repeat or reorder them; and each
    value is computed by itself, so that equal values are equal to the last bit.
    """
    rng = np.random.default_rng(303)
    start, project, teacher = rng.normal(size=(2, 4)), rng.normal(size=(2, 4)), rng.normal(size=(2, 4))

    def trained(eta: float, batch: int | None = 1) -> Memory:
        def values_of(inputs: Array) -> Array:
            w, values = start, []
            inputs = np.asarray(inputs, dtype=np.float64).reshape(-1, 4)
            size = batch or max(1, len(inputs))
            for first in range(0, len(inputs), size):
                rows = inputs[first : first + size]
                new = [np.tanh(teacher @ x) - w @ x for x in rows]  # all at the weight as it is now
                for x, value in zip(rows, new, strict=True):
                    w = w + eta * np.outer(value, x)
                values += new
            return np.array(values).reshape(-1, 2)

        return values_of

    def each(function: Memory) -> Memory:
        def values_of(inputs: Array) -> Array:
            return np.array([function(x) for x in np.asarray(inputs, dtype=np.float64)]).reshape(-1, 2)

        return values_of

    return (
        ("a linear layer in training", True, trained(0.1)),
        ("linear attention, v = W_v x", False, each(lambda x: project @ x)),
        (
            "linear attention that is handed a target for each input",
            False,
            each(lambda x: np.tanh(teacher @ x)),
        ),
        ("a layer with learning rate 0", False, trained(0.0)),
        ("a layer that takes all inputs as one batch", False, trained(0.1, batch=None)),
        ("a layer that learns slowly", True, trained(1e-4)),
        ("a layer that learns in batches of four", True, trained(0.1, batch=4)),
    )


def check_perturbation(function: Any) -> None:
    """(values_of, inputs) -> bool: tried on seven memories of which the answer is known."""
    inputs = np.random.default_rng(304).normal(size=(7, 4))
    for name, depends, values_of in _memories():
        calls: list[Array] = []

        def recorded(rows: Array, memory: Memory = values_of, calls: list[Array] = calls) -> Array:
            calls.append(np.array(rows, dtype=np.float64))
            return memory(rows)

        got = _ask_and_compare(function, "values_of inputs", recorded, inputs)
        if not isinstance(got, (bool, np.bool_)):
            raise WrongAnswer(f"the answer for {name} must be True or False, got {type(got).__name__}")
        if bool(got) != depends:
            raise WrongAnswer(_why_wrong(name, depends, calls, inputs))


def _why_wrong(name: str, depends: bool, calls: list[Array], inputs: Array) -> str:
    """What to say to a wrong verdict, from the inputs with which the memory was called."""
    verdict = (
        f"you say that {name} {'writes values that do not depend on' if depends else 'looks at'} its earlier writes; "
        f"{'they do' if depends else 'it does not'}."
    )
    if not calls:
        return f"{verdict} Your function never calls values_of, so its answer cannot depend on the memory."
    same_length = [rows for rows in calls if rows.shape == inputs.shape]
    changed = [np.flatnonzero((rows != inputs).any(axis=1)) for rows in same_length]
    changed = [rows for rows in changed if len(rows)]
    if depends:
        if changed and all(rows[0] == len(inputs) - 1 for rows in changed):
            return f"{verdict} You change the last input only, and nothing is written after it. Change an *early* input."
        if "slowly" in name:
            return f"{verdict} Its later values change, by about 1e-4: do not round small changes away."
        if "batches" in name:
            return (
                f"{verdict} Its first four values are made before anything is written; the first input shows in the "
                "fifth value and after. Compare *all* later values, not only the next one."
            )
        return f"{verdict} Change an *early* input, and look whether *later* values change."
    if any(np.array_equal(rows, inputs[::-1]) for rows in same_length):
        return (
            f"{verdict} Reversed inputs come with their values in reversed order. Compare each value with the value of "
            "the *same* input: turn the values back first."
        )
    if any(rows.ndim == 2 and len(rows) != len(inputs) for rows in calls):
        return (
            f"{verdict} You leave inputs out or add some: compare the values of the *same* inputs, "
            "values_of(inputs[1:]) with values_of(inputs)[1:]."
        )
    if any(len(rows) == len(inputs) for rows in changed):
        return (
            f"{verdict} You change every input, and each value follows its own. Change one early input alone."
        )
    if changed:
        return (
            f"{verdict} Token {changed[0][0]} writes another value because its own input changed: compare the later "
            "tokens only."
        )
    return (
        f"{verdict} You call it with the same inputs only: what differs between the two things you compare?"
    )


def _changes_the_first(values_of: Memory, inputs: Array) -> bool:
    changed = inputs.copy()
    changed[0] += 1.0
    return not np.array_equal(values_of(changed)[1:], values_of(inputs)[1:])


def _drops_the_first(values_of: Memory, inputs: Array) -> bool:
    return not np.array_equal(values_of(inputs[1:]), values_of(inputs)[1:])


def _asks_each_alone(values_of: Memory, inputs: Array) -> bool:
    alone = np.concatenate([values_of(inputs[t : t + 1]) for t in range(len(inputs))])
    return not np.array_equal(alone, values_of(inputs))


def _reverses_and_turns_back(values_of: Memory, inputs: Array) -> bool:
    return not np.array_equal(values_of(inputs[::-1])[::-1], values_of(inputs))


def _repeats_all(values_of: Memory, inputs: Array) -> bool:
    first, second = np.split(values_of(np.concatenate([inputs, inputs])), 2)
    return not np.array_equal(first, second)


# Tests that are right in another form: the tests of the exercises run them.
RIGHT_PERTURBATIONS = (
    _changes_the_first,
    _drops_the_first,
    _asks_each_alone,
    _reverses_and_turns_back,
    _repeats_all,
)


def _compares_all(values_of: Memory, inputs: Array) -> bool:
    changed = inputs.copy()
    changed[0] += 1.0
    return not np.array_equal(values_of(changed), values_of(inputs))


def _changes_the_last(values_of: Memory, inputs: Array) -> bool:
    changed = inputs.copy()
    changed[-1] += 1.0
    return not np.array_equal(values_of(changed)[:-1], values_of(inputs)[:-1])


def _rounds(values_of: Memory, inputs: Array) -> bool:
    changed = inputs.copy()
    changed[0] += 1.0
    return not np.allclose(values_of(changed)[1:], values_of(inputs)[1:], atol=0.05)


def _looks_at_token_1(values_of: Memory, inputs: Array) -> bool:
    changed = inputs.copy()
    changed[0] += 1.0
    return not np.array_equal(values_of(changed)[1], values_of(inputs)[1])


def _reverses(values_of: Memory, inputs: Array) -> bool:
    return not np.array_equal(values_of(inputs[::-1]), values_of(inputs))


def _changes_all(values_of: Memory, inputs: Array) -> bool:
    return not np.array_equal(values_of(inputs + 1.0)[1:], values_of(inputs)[1:])


def _drops_and_shifts(values_of: Memory, inputs: Array) -> bool:
    return not np.array_equal(values_of(inputs[1:]), values_of(inputs)[:-1])


def _changes_in_place(values_of: Memory, inputs: Array) -> bool:
    changed = inputs
    changed[0] += 1.0
    return not np.array_equal(values_of(changed)[1:], values_of(inputs)[1:])


# --- 03.3: take one example out of a weight ---------------------------------------------------------------------------


class _Counted(np.ndarray):
    """An array that counts the operations made with it and with what is computed from it."""

    operations = 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        _Counted.operations += 1
        plain = tuple(a.view(np.ndarray) if isinstance(a, _Counted) else a for a in inputs)
        if "out" in options:
            options["out"] = tuple(
                a.view(np.ndarray) if isinstance(a, _Counted) else a for a in options["out"]
            )
        result = getattr(ufunc, method)(*plain, **options)
        return result.view(_Counted) if isinstance(result, np.ndarray) else result


def _training(
    seed: int, length: int, d_in: int, d_out: int, eta: float, remove: int, inputs: Array | None = None
) -> tuple[Array, Array, Array, Array]:
    """The trained weight, the inputs, the surprises, and the weight that training without one example gives."""
    rng = np.random.default_rng(seed)
    start, targets = rng.normal(size=(d_out, d_in)), rng.normal(size=(length, d_out))
    x = rng.normal(size=(length, d_in)) if inputs is None else inputs
    w, v = train_linear(start, x, targets, eta)
    honest, _ = train_linear(start, np.delete(x, remove, 0), np.delete(targets, remove, 0), eta)
    return w, x, v, honest


def check_unlearn(function: Any) -> None:
    """(W, x, v, i, eta) -> the weight without example i: compared with a layer that was trained without it."""
    unit = np.eye(4)
    dependent = np.stack([unit[0], unit[1], unit[0] + unit[1]])
    silent = np.random.default_rng(314).normal(size=(6, 3))
    silent[2] = 0.0
    cases: tuple[tuple[str, tuple[Any, ...], int, float], ...] = (
        ("9 examples, 4 inputs, 4 outputs, i = 3", (311, 9, 4, 4), 3, 0.2),
        ("9 examples, 5 inputs, 3 outputs, i = 3", (312, 9, 5, 3), 3, 0.2),
        ("i = 0, the first of 9", (312, 9, 5, 3), 0, 0.2),
        ("i = 8, the last of 9", (312, 9, 5, 3), 8, 0.2),
        ("one example", (313, 1, 5, 3), 0, 0.2),
        ("the inputs e1, e2 and e1 + e2, i = 0", (315, 3, 4, 2, dependent), 0, 0.3),
        ("an input of zeros", (316, 6, 3, 2, silent), 2, 0.2),
    )
    for case, (seed, length, d_in, d_out, *own), i, eta in cases:
        w, x, v, honest = _training(seed, length, d_in, d_out, eta, i, *own)
        got = _ask_and_compare(function, "W x v i eta", w, x, v, i, eta)
        must_equal(f"the weight ({case})", got, honest, _likely_unlearned(w, x, v, i, eta))
    _only_looks_later(function)


def _likely_unlearned(w: Array, x: Array, v: Array, i: int, eta: float) -> dict[str, Array]:
    """Hint -> the weight that this mistake gives."""
    write, later = eta * np.outer(v[i], x[i]), x[i + 1 :]
    own = np.eye(x.shape[1]) - eta * np.outer(x[i], x[i])
    product = _product(later, eta)
    likely = {
        "What is left of example i is still in W: take it out.": w,
        "You took out its own write, as it was written. Later examples have answered to it: how much is left?": w
        - write,
        "A write is η v xᵀ, with η: what is stored is smaller.": w - write / eta @ product if eta else w,
        "You added it once more: take it out, with a minus.": w + write @ product,
        "That is what is left of the write; take it out of W.": write @ product,
        "Example i does not erase itself: begin with the one after it.": w - write @ own @ product,
        "The nearest later example acts first, next to the write: the order matters.": w
        - write @ _product(later[::-1], eta),
        "A later step erases η x xᵀ of what is there, not x xᵀ: the factor has an η, too.": w
        - write @ _product(later, 1.0),
        "Each later example acts on what the ones before it have left: multiply, do not add up.": w
        - write @ (np.eye(x.shape[1]) - eta * later.T @ later),
        "What came before example i cannot erase it: use the examples after it.": w
        - write @ _product(x[:i], eta),
        "The last example erases, too: go to the end.": w - write @ _product(later[:-1], eta),
    }
    if w.shape[0] == w.shape[1]:
        likely["Erasing acts on inputs: the factors stand on the right of the write."] = w - product.T @ write
        likely["Erasing acts on inputs: the factors stand on the right."] = w - product @ write
    return likely


def _product(rows: Array, eta: float) -> Array:
    """(I - η x xᵀ) for each row, the first one leftmost."""
    product = np.eye(rows.shape[1])
    for row in rows:
        product = product @ (np.eye(len(row)) - eta * np.outer(row, row))
    return product


def _only_looks_later(function: Any) -> None:
    """Four examples follow the one to be removed: a count of operations tells whether all 400 were gone through."""
    w, x, v, honest = _training(317, 400, 3, 2, 0.05, 395)
    _Counted.operations = 0
    got = ask(lambda *a: function(a[0], a[1].view(_Counted), a[2].view(_Counted), *a[3:]), w, x, v, 395, 0.05)
    must_equal("the weight (400 examples, i = 395)", np.asarray(got), honest)
    if _Counted.operations > 200:
        raise WrongAnswer(
            f"right, but it took {_Counted.operations} array operations where four examples follow: you trained again. "
            "Only the examples after i have touched its write."
        )


def _unlearn(W: Array, x: Array, v: Array, i: int, eta: float) -> Array:
    left = x[i]
    for later in x[i + 1 :]:
        left = left - eta * (left @ later) * later
    return W - eta * np.outer(v[i], left)


def _trains_again(W: Array, x: Array, v: Array, i: int, eta: float) -> Array:
    """Right by another way: go back to the start, recover the targets, train without example i."""
    w, targets = W, np.zeros_like(v)
    for t in reversed(range(len(x))):
        w = w - eta * np.outer(v[t], x[t])
        targets[t] = v[t] + w @ x[t]
    for t in range(len(x)):
        if t != i:
            w = w + eta * np.outer(targets[t] - w @ x[t], x[t])
    return w


def _with_product(product: Callable[[Array, int, float], Array], side: str = "right") -> Any:
    """An answer that takes the write out after multiplying it by a product that may be wrong."""

    def answer(W: Array, x: Array, v: Array, i: int, eta: float) -> Array:
        write, factors = eta * np.outer(v[i], x[i]), product(x, i, eta)
        return W - (write @ factors if side == "right" else factors @ write)

    return answer


def _unlearn_in_place(W: Array, x: Array, v: Array, i: int, eta: float) -> Array:
    W -= W - _unlearn(W, x, v, i, eta)
    return W


EXERCISES = (
    Exercise(
        "03.1",
        "predict the rank of the update",
        check_rank,
        _rank,
        (
            (lambda inputs, d_out: min(len(inputs), d_out, inputs.shape[1]), "along the same input again"),
            (
                lambda inputs, d_out: min(len(np.unique(inputs, axis=0)), d_out, inputs.shape[1]),
                "Distinct is not independent",
            ),
            (lambda inputs, d_out: int(np.linalg.matrix_rank(inputs)), "only d_out rows"),
            (lambda inputs, d_out: min(inputs.shape[1], d_out), "few samples cannot fill"),
            (lambda inputs, d_out: len(inputs), "than either of its sides"),
            (lambda inputs, d_out: max(1, _rank(inputs, d_out)), "zeros has no direction"),
        ),
    ),
    Exercise(
        "03.2",
        "write the perturbation test: does a memory write its own values?",
        check_perturbation,
        _changes_the_first,
        (
            (lambda values_of, inputs: True, "never calls values_of"),
            (lambda values_of, inputs: False, "never calls values_of"),
            (_reverses, "turn the values back"),
            (_looks_at_token_1, "Compare *all* later values"),
            (_compares_all, "compare the later tokens only"),
            (_changes_the_last, "Change an *early* input"),
            (_rounds, "do not round small changes away"),
            (_changes_all, "You change every input"),
            (_drops_and_shifts, "values_of(inputs[1:]) with values_of(inputs)[1:]"),
            (_changes_in_place, "you changed inputs in place"),
            (lambda values_of, inputs: values_of(inputs), "must be True or False"),
        ),
    ),
    Exercise(
        "03.3",
        "take one example out of a trained weight",
        check_unlearn,
        _unlearn,
        (
            (lambda W, x, v, i, eta: W, "What is left of example i is still in W"),
            (lambda W, x, v, i, eta: W - eta * np.outer(v[i], x[i]), "Later examples have answered to it"),
            (lambda W, x, v, i, eta: 2 * W - _unlearn(W, x, v, i, eta), "with a minus"),
            (lambda W, x, v, i, eta: W - _unlearn(W, x, v, i, eta), "take it out of W"),
            (lambda W, x, v, i, eta: W - (W - _unlearn(W, x, v, i, eta)) / eta, "A write is η v xᵀ"),
            (_with_product(lambda x, i, eta: _product(x[i:], eta)), "does not erase itself"),
            (_with_product(lambda x, i, eta: _product(x[:i:-1], eta)), "the order matters"),
            (_with_product(lambda x, i, eta: _product(x[i + 1 :], eta), "left"), "on the right"),
            (_with_product(lambda x, i, eta: _product(x[:i:-1], eta), "left"), "on the right of the write"),
            (_with_product(lambda x, i, eta: _product(x[i + 1 :], 1.0)), "the factor has an η"),
            (
                _with_product(lambda x, i, eta: np.eye(x.shape[1]) - eta * x[i + 1 :].T @ x[i + 1 :]),
                "multiply, do not add up",
            ),
            (_with_product(lambda x, i, eta: _product(x[:i], eta)), "cannot erase it"),
            (_with_product(lambda x, i, eta: _product(x[i + 1 : -1], eta)), "go to the end"),
            (_trains_again, "you trained again"),
            (_unlearn_in_place, "you changed W in place"),
        ),
    ),
)
