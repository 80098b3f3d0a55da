"""What a golden vector can be of: per component its inputs, its options, our reference, and the mistakes that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hope_ref.common.validation import Array

Arrays = dict[str, Array]
Options = dict[str, Any]


class Sizes(NamedTuple):
    """How long and how wide the arrays of a vector are."""

    tokens: int
    width: int
    hidden: int


class Mistake(NamedTuple):
    """A known wrong turn that is no option: what to say of it, and what it computes."""

    words: str
    run: Callable[[Arrays, Options], Arrays]


class Component(NamedTuple):
    """One function that others may implement, too.

    Attributes:
        name: of the reference function.
        equations: where it comes from.
        options: per option the values that the search for a likely cause tries, the default first.
        draw: (options and draws, sizes, seed) -> the inputs by name.
        run: (inputs, options) -> the results by name, computed by our reference.
        draws: choices that only decide what is drawn; the implementation sees the arrays alone.
        mistakes: known ones, tried after the options.
        pairs: whether two options at a time are tried, too; not where a run takes long and options are many.
    """

    name: str
    equations: tuple[str, ...]
    options: Mapping[str, tuple[Any, ...]]
    draw: Callable[[Options, Sizes, int], Arrays]
    run: Callable[[Arrays, Options], Arrays]
    draws: Mapping[str, tuple[Any, ...]] = {}
    mistakes: tuple[Mistake, ...] = ()
    pairs: bool = True

    def completed(self, given: Options) -> tuple[Options, Options]:
        """(options, draws), those not given at their defaults; an unknown name is an error."""
        known = [*self.options, *self.draws]
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ValueError(
                f"options of {self.name} must be among {', '.join(known) or 'none'}, got {', '.join(unknown)}"
            )
        options = {name: given.get(name, values[0]) for name, values in self.options.items()}
        return options, {name: given.get(name, values[0]) for name, values in self.draws.items()}
