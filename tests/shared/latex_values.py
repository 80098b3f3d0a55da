r"""A formula's LaTeX, executed: parsed as it is printed and evaluated on numbers, with NumPy in float64 and no SymPy.

Vectors are columns, (n, 1), or rows, (1, n). The bindings map LaTeX names to numbers, arrays, functions and families:
a list or a dict by subscript, or a function of the subscripts. A subscript that is part of a bound name (`W_1`,
`M_{t-1}`) is taken literally; any other is evaluated and looked up in the family. Whatever the parser does not know,
and every name without a binding, raises `LatexError`.

Three operators do what they say: `\nabla_M` differentiates numerically, `\arg\min_W` minimises a quadratic (and
refuses anything else), `\sum` and `\prod` run over their range. `\sum_i` runs over the binding of that very name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import latex_arithmetic as arithmetic
import numpy as np
from latex_arithmetic import Eye, LatexError, Value, gradient, minimiser

__all__ = [
    "Eye",
    "LatexError",
    "Lazy",
    "canonical",
    "chains",
    "distance",
    "evaluate",
    "gradient",
    "minimiser",
]

Env = dict[str, Any]
Node = Callable[[Env], Value]

_TOKEN = re.compile(r"\\text\{[^}]*\}|\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\S")
_SPACE = {"\\,", "\\ ", "\\!", "\\;", r"\left", r"\right", r"\textstyle", r"\Big"}
_ACCENTS = {r"\hat", r"\tilde", r"\bar", r"\mathcal", r"\mathrm", r"\#", r"\Delta"}
_OPEN, _CLOSE = {"(", "[", "{", r"\{", r"\langle", r"\begin"}, {")", "]", "}", r"\}", r"\rangle", r"\end"}
_SEPARATORS = {",", ":", r"\quad", r"\qquad", r"\Rightarrow", r"\iff"}
_RELATIONS = {"=", r"\to", r"\mapsto", r"\leftarrow", r"\propto"}
_ENDS = {"+", "-", "&", "\\\\", ";", "<", r"\le", r"\odot", r"\equiv", r"\pmod", r"\rfloor", r"\rceil"}
_ENDS |= _SEPARATORS | _RELATIONS | _CLOSE
_BRACKETS = {"(": ")", "[": "]", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil", r"\|": r"\|", "|": "|"}
_MEANING = {r"\lfloor": np.floor, r"\lceil": np.ceil, r"\|": np.linalg.norm, "|": np.abs}  # others only group
_PRODUCTS = {
    "/": arithmetic.divide, r"\bmod": np.mod, r"\cdot": arithmetic.multiply, r"\otimes": arithmetic.outer
}  # fmt: skip
_OPERATORS = {
    r"\frac": "fraction", r"\tfrac": "fraction", r"\sqrt": "root", r"\langle": "inner", r"\sum": "big", r"\prod": "big",
    r"\nabla": "nabla", r"\arg": "arg_min", r"\begin": "begin",
}  # fmt: skip


@dataclass(frozen=True)
class Lazy:
    """A value that depends on other names, e.g. a loss on the weights by which it is differentiated."""

    function: Callable[[Env], Value]


def tokens(latex: str) -> list[str]:
    return [token for token in _TOKEN.findall(latex) if token not in _SPACE and token.strip()]


@cache
def canonical(name: str) -> str:
    """One spelling for a name: no spaces but after a command, no braces round one token."""
    flat = re.sub(r"\{ (\S+) \}", r"\1", " ".join(tokens(name)))
    return re.sub(r"(\\[A-Za-z]+) (?=[A-Za-z])|(?<=\S) ", lambda m: f"{m[1]} " if m[1] else "", flat)


def environment(bindings: Mapping[str, Any]) -> Env:
    """Bindings by canonical name, with what every formula may use: I, det, tril."""
    usual = {"I": Eye(), r"\det": np.linalg.det, r"\mathrm{tril}": np.tril}
    return {canonical(name): value for name, value in {**usual, **bindings}.items()}


# --- the parser ------------------------------------------------------------------------------------------------------


def _constant(value: Value) -> Node:
    return lambda env: value


def _value_of(name: str, env: Env) -> Value:
    value = env[name]
    return value.function(env) if isinstance(value, Lazy) else value


def _member(family: Any, where: tuple[Value, ...], name: str) -> Value:
    """The member of a family at evaluated subscripts."""
    index = tuple(int(i) for i in where)
    if index != where:
        raise LatexError(f"{name} has a subscript that is no integer: {where}")
    if callable(family):
        return family(*index)
    key = index[0] if len(index) == 1 else index
    if (isinstance(family, dict) and key in family) or (
        isinstance(family, list) and isinstance(key, int) and 0 <= key < len(family)
    ):
        return family[key]
    raise LatexError(f"{name} has no member {key}")


class _Parser:
    """Recursive descent: sums of ⊙-products of juxtaposed factors. Every method leaves a closure over the bindings."""

    def __init__(self, words: list[str], known: Env) -> None:
        self.words, self.known, self.at, self.bars = words, dict(known), 0, [""]

    def peek(self, ahead: int = 0) -> str:
        return self.words[self.at + ahead] if self.at + ahead < len(self.words) else ""

    def take(self, expected: str = "") -> str:
        word = self.peek()
        if not word or (expected and word != expected):
            raise LatexError(
                f"{expected or 'more'} expected at {' '.join(self.words[self.at :]) or 'the end'}"
            )
        self.at += 1
        return word

    def whole(self) -> Node:
        node = self.sum()
        if self.peek():
            raise LatexError(f"not understood: {' '.join(self.words[self.at :])}")
        return node

    def inside(self, close: str) -> Node:
        """A sum up to its closing word."""
        self.bars.append(close)
        node = self.sum()
        self.bars.pop()
        self.take(close)
        return node

    def sum(self) -> Node:
        terms: list[tuple[float, Node]] = []
        while not terms or self.peek() in ("+", "-"):
            sign = -1.0 if self.peek() == "-" else 1.0
            if self.peek() in ("+", "-"):
                self.take()
            terms.append((sign, self.elementwise()))

        def node(env: Env) -> Value:
            total = arithmetic.multiply(terms[0][0], terms[0][1](env))
            for sign, term in terms[1:]:
                total = arithmetic.add(total, arithmetic.multiply(sign, term(env)))
            return total

        return node

    def elementwise(self) -> Node:
        node = self.product()
        while self.peek() == r"\odot":
            self.take()
            node = (lambda a, b: lambda env: arithmetic.elementwise(a(env), b(env)))(node, self.product())
        return node

    def product(self) -> Node:
        node = self.factor()
        while (
            (word := self.peek())
            and word not in _ENDS
            and word != self.bars[-1]
            and not word.startswith(r"\text{")
        ):
            if word in _PRODUCTS:
                self.take()
            operation = _PRODUCTS.get(word, arithmetic.multiply)
            node = (lambda a, b, f: lambda env: f(a(env), b(env)))(node, self.factor(), operation)
        return node

    def group(self) -> list[str]:
        """The words of a braced group, or one word; of an unbraced number one digit."""
        word = self.take()
        if word != "{":
            if word.isdigit() and len(word) > 1:
                self.at -= 1
                self.words[self.at : self.at + 1] = [word[0], word[1:]]
                return [self.take()]
            return [word]
        start, depth = self.at, 1
        while depth:
            depth += {"{": 1, "}": -1}.get(self.take(), 0)
        return self.words[start : self.at - 1]

    def argument(self) -> Node:
        return self.parsed(self.group())

    def parsed(self, words: list[str]) -> Node:
        return _Parser(words, self.known).whole()

    def factor(self) -> Node:
        node = self.atom()
        while self.peek() == "^":
            self.take()
            words = self.group()
            if words == [r"\top"]:
                node = (lambda a: lambda env: arithmetic.transposed(a(env)))(node)
            else:
                node = (lambda a, b: lambda env: arithmetic.power(a(env), b(env)))(node, self.parsed(words))
        return node

    def atom(self) -> Node:
        word = self.peek()
        if re.fullmatch(r"\d+(\.\d+)?", word):
            return _constant(float(self.take()))
        if word in _BRACKETS:
            return self.bracket()
        if word == "{":
            return self.argument()
        return getattr(self, _OPERATORS.get(word, "name"))()

    def bracket(self) -> Node:
        word = self.take()
        inner, meaning = self.inside(_BRACKETS[word]), _MEANING.get(word)
        if word == r"\|" and (self.peek(), self.peek(1)) == ("_", "F"):
            self.at += 2
        return inner if meaning is None else lambda env: arithmetic.plain(meaning(inner(env)))

    def fraction(self) -> Node:
        self.take()
        above, below = self.argument(), self.argument()
        return lambda env: arithmetic.divide(above(env), below(env))

    def root(self) -> Node:
        self.take()
        inner = self.argument()
        return lambda env: arithmetic.plain(np.sqrt(inner(env)))

    def inner(self) -> Node:
        self.take()
        one, two = self.inside(","), self.inside(r"\rangle")
        return lambda env: float(np.sum(np.multiply(*arithmetic.matched(one(env), two(env)))))

    def name(self, prefix: str = "") -> Node:
        """A name with as many of its primes, subscripts and superscripts as are bound; then an index; then arguments."""
        word = self.take()
        if not re.match(r"[A-Za-z\\]", word) or word in _ENDS:
            raise LatexError(f"not understood: {word} {' '.join(self.words[self.at :])}")
        start = self.at - 1
        if word in _ACCENTS:
            self.group()
        bound, end = "", self.at
        while True:
            spelled = canonical(prefix + " ".join(self.words[start : self.at]))
            if spelled in self.known:
                bound, end = spelled, self.at
            if self.peek() == "'":
                self.take()
            elif self.peek() in ("_", "^"):
                self.take()
                self.group()
            else:
                break
        if not bound:
            raise LatexError(f"unbound: {spelled}")
        self.at = end
        example = _value_of(bound, self.known)
        node: Node = (lambda key: lambda env: _value_of(key, env))(bound)
        if self.peek() == "_":
            self.take()
            where = [self.parsed(part) for part in _split(self.group(), {","})]
            node = (lambda f, w, n: lambda env: _member(f(env), tuple(i(env) for i in w), n))(
                node, where, bound
            )
            family = [*example.values()] if isinstance(example, dict) else example
            example = family[0] if isinstance(family, list) and family else None
        if callable(example) and self.peek() == "(":
            self.take()
            arguments = []
            while not arguments or self.peek() in (",", ";"):
                if arguments:
                    self.take()
                self.bars.append("")
                arguments.append(self.sum())
                self.bars.pop()
            self.take(")")
            node = (lambda f, a: lambda env: arithmetic.plain(f(env)(*(i(env) for i in a))))(node, arguments)
        return node

    def nabla(self) -> Node:
        start = self.at
        self.take()
        by = ""
        if self.peek() == "_":
            self.take()
            by = canonical(" ".join(self.group()))
        prefix = " ".join(self.words[start : self.at])
        base = self.words[self.at : self.at + (4 if self.peek() in _ACCENTS else 1)]
        if base and canonical(f"{prefix} {' '.join(base)}") in self.known:  # ∇_y L is bound as a whole
            return self.name(prefix + " ")
        if not by and not isinstance(self.known.get(r"\nabla", ""), str):  # a gradient that is called just ∇
            return _constant(self.known[r"\nabla"])
        by = by or canonical(self.known.get(r"\nabla", ""))
        if by not in self.known:
            raise LatexError(f"differentiated by {by or 'nothing'}, which is not bound")
        operand = self.product()
        return lambda env: gradient(lambda x: operand(env | {by: x}), env[by])

    def arg_min(self) -> Node:
        self.take(), self.take(r"\min"), self.take("_")
        by = canonical(" ".join(self.group()))
        if by not in self.known:
            raise LatexError(f"minimised over {by}, which is not bound")
        operand, start = self.sum(), self.known[by]
        return lambda env: minimiser(lambda x: operand(env | {by: x}), start)

    def big(self) -> Node:
        kind = self.take()
        below, above = [], []
        while self.peek() in ("_", "^"):
            if self.take() == "_":
                below = self.group()
            else:
                above = self.group()
        variable, numbers = self.range(kind, below, above)
        outside, self.known = self.known, self.known | {variable: 1.0}
        operand = self.product()
        self.known = outside
        operation, empty = (arithmetic.add, 0.0) if kind == r"\sum" else (arithmetic.multiply, 1.0)

        def node(env: Env) -> Value:
            total: Value = empty
            for number in numbers(env):
                total = operation(total, operand(env | {variable: float(number)}))
            return total

        return node

    def range(
        self, kind: str, below: list[str], above: list[str]
    ) -> tuple[str, Callable[[Env], Iterator[int]]]:
        """The running index and its range: t=a with ^b; s<t, s≤t from 1; s<r≤t; or a bound one."""
        if "=" in below:
            low, high = self.parsed(below[2:]), self.parsed(above)
            return below[0], lambda env: iter(range(int(low(env)), int(high(env)) + 1))
        parts, signs = _split(below, {"<", r"\le"}), [w for w in below if w in ("<", r"\le")]
        if above or len(signs) > 2:
            raise LatexError(f"the range of {kind} is not understood")
        if len(signs) == 2:
            low, high = self.parsed(parts[0]), self.parsed(parts[2])
            first, last = int(signs[0] == "<"), int(signs[1] == r"\le")
            return parts[1][0], lambda env: iter(range(int(low(env)) + first, int(high(env)) + last))
        if len(signs) == 1:
            high, last = self.parsed(parts[1]), int(signs[0] == r"\le")
            return parts[0][0], lambda env: iter(range(1, int(high(env)) + last))
        name = canonical(kind + "_" + "{" + " ".join(below) + "}") if below else kind
        if name not in self.known:
            raise LatexError(f"{name} has no range")
        variable, numbers = (below[0], self.known[name]) if below else self.known[name]
        return variable, lambda env: iter(numbers)

    def begin(self) -> Node:
        self.take()
        kind = "".join(self.group())
        body: list[str] = []
        while self.peek() != r"\end":
            body.append(self.take())
        self.take()
        if "".join(self.group()) != kind:
            raise LatexError(f"{kind} does not end")
        rows = [_split(row, {"&"}) for row in _split(body, {"\\\\"})]
        if kind == "pmatrix":
            nodes = [[self.parsed(cell) for cell in row] for row in rows]
            return lambda env: arithmetic.blocks([[cell(env) for cell in row] for row in nodes])
        if kind != "cases":
            raise LatexError(f"the environment {kind}")
        cases = [(self.parsed(value), self.condition(when)) for value, when in rows]

        def node(env: Env) -> Value:
            for value, holds in cases:
                if holds(env):
                    return value(env)
            raise LatexError("no case holds")

        return node

    def condition(self, words: list[str]) -> Node:
        if words == [r"\text{otherwise}"]:
            return _constant(True)
        if r"\equiv" not in words or r"\pmod" not in words:
            raise LatexError(f"the condition {' '.join(words)}")
        left, right = words.index(r"\equiv"), words.index(r"\pmod")
        one, two, modulus = (
            self.parsed(w) for w in (words[:left], words[left + 1 : right], words[right + 1 :])
        )
        return lambda env: (one(env) - two(env)) % modulus(env) == 0


# --- what the tests call ---------------------------------------------------------------------------------------------


def _split(words: list[str], at: set[str]) -> list[list[str]]:
    """Split at these words, outside of all brackets."""
    parts: list[list[str]] = [[]]
    depth = 0
    for word in words:
        depth += (word in _OPEN) - (word in _CLOSE)
        if depth == 0 and word in at:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def evaluate(latex: str, bindings: Mapping[str, Any]) -> Value:
    """The value of one expression."""
    env = environment(bindings)
    return _Parser(tokens(latex), env).whole()(env)


def chains(latex: str, bindings: Mapping[str, Any] | None = None) -> list[list[str]]:
    """The statements of a formula, each the list of its sides. Words in `\\text` separate, unless they are bound names."""
    env = environment(bindings or {})
    words = tokens(latex)
    said = {w for w in words if w.startswith(r"\text{") and not {w, canonical(r"\#" + w)} & set(env)}
    statements = [part for part in _split(words, _SEPARATORS | said) if part]
    return [[" ".join(side) for side in _split(statement, _RELATIONS)] for statement in statements]


def distance(a: Value, b: Value) -> float:
    """The relative distance of two values; absolute where one of them is 0."""
    one, two = arithmetic.matched(a, b)
    size = min(float(np.linalg.norm(one)), float(np.linalg.norm(two)))
    return float(np.linalg.norm(np.subtract(one, two))) / (size or 1.0)
