"""What a golden vector can be of: per component its inputs, its options, our reference, and the mistakes that are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.files import one_line
from hope_ref.common.validation import Array, positive_integer
from hope_ref.reference.chunks import count

Arrays = dict[str, Array]
Options = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]

LIMITS = {"heads": 64, "convolution_width": 1024, "steps": 100}  # of options by which time or memory grows
LONGEST = 16  # entries of an option that is a tuple
LARGEST = 2**63 - 1  # any other integer
LETTERS = 40  # of a word


class Sizes(NamedTuple):
    """How long and how wide the arrays of a vector are."""

    tokens: int
    width: int
    hidden: int


MOST = Sizes(1_000_000, 10_000, 10_000)


def checked_sizes(tokens: Any, width: Any, hidden: Any) -> Sizes:
    """The sizes as integers, tokens >= 0, width and hidden >= 1, none above `MOST`.

    Raises: ValueError, which names the size, what it got and what it wants.
    """
    sizes = Sizes(
        count("tokens", tokens), positive_integer("width", width), positive_integer("hidden", hidden)
    )
    for name, size, most in zip(Sizes._fields, sizes, MOST, strict=True):
        if size > most:
            raise ValueError(f"{name} must be at most {most}, got {one_line(size, 40)}")
    return sizes


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
        draw: (options and draws, sizes, seed) -> the inputs by name; each axis grows linearly with each size.
        run: (inputs, options) -> the results by name, computed by our reference.
        draws: choices that only decide what is drawn; the implementation sees the arrays alone.
        mistakes: known ones, tried after the options.
        pairs: whether two options at a time are tried, too; not where a run takes long and options are many.
        unit: options -> what the width must be a multiple of.
        seconds: entries of the parameters -> about how long our reference takes for a token.
    """

    name: str
    equations: tuple[str, ...]
    options: Mapping[str, tuple[Any, ...]]
    draw: Callable[[Options, Sizes, int], Arrays]
    run: Callable[[Arrays, Options], Arrays]
    draws: Mapping[str, tuple[Any, ...]] = {}
    mistakes: tuple[Mistake, ...] = ()
    pairs: bool = True
    unit: Callable[[Options], int] = lambda options: 1
    seconds: Callable[[int], float] = lambda entries: 1e-4 + 1e-8 * entries

    def completed(self, given: Options) -> tuple[Options, Options]:
        """(options, draws), those not given at their defaults.

        Raises: ValueError for an unknown name, and for a value that no option can have.
        """
        known = {**self.options, **self.draws}
        if unknown := [str(name) for name in given if name not in known]:
            raise ValueError(
                f"options of {self.name} must be among {', '.join(known) or 'none'}, "
                f"got {one_line(', '.join(unknown), 80)}"
            )
        settled = {
            name: checked_option(name, given[name], values) if name in given else values[0]
            for name, values in known.items()
        }
        return {name: settled[name] for name in self.options}, {name: settled[name] for name in self.draws}

    def shapes(self, options: Options, draws: Options, sizes: Sizes) -> tuple[Shapes, Shapes]:
        """The shapes of inputs and of results, known before either is computed.

        Our reference runs on one token at most, at small sizes; an axis grows by its slope in each size.

        Raises: ValueError if our reference refuses the options.
        """
        unit = self.unit(options)
        if sizes.width % unit:
            raise ValueError(f"width must be a multiple of {unit} with these options, got {sizes.width}")
        small = Sizes(min(sizes.tokens, 1), unit, 2)
        probes = [small._replace(width=2 * unit), small._replace(hidden=3)]
        if sizes.tokens:
            probes.append(small._replace(tokens=0))
        here = self._small_shapes(options, draws, small)
        there = [(probe, self._small_shapes(options, draws, probe)) for probe in probes]
        inputs, results = (
            {
                name: _longer(shape, small, [(p, s[part][name]) for p, s in there if name in s[part]], sizes)
                for name, shape in here[part].items()
            }
            for part in (0, 1)
        )
        return inputs, results

    def _small_shapes(self, options: Options, draws: Options, sizes: Sizes) -> tuple[Shapes, Shapes]:
        try:
            with np.errstate(all="ignore"):  # only shapes matter
                inputs = self.draw({**options, **draws}, sizes, 0)
                results = self.run(inputs, options)
        except ValueError:
            raise
        except Exception as error:  # values may be of any type, and each fails in its own way
            known, settled = {**self.options, **self.draws}, {**options, **draws}
            changed = {name: value for name, value in settled.items() if value != known[name][0]}
            raise ValueError(
                f"options of {self.name} must be ones that it can have, got {one_line(changed)}: "
                f"{one_line(error)}"
            ) from error
        return _shapes(inputs), _shapes(results)

    def of_tokens(self, options: Options, draws: Options) -> set[str]:
        """The inputs whose first axis counts tokens."""
        settled, unit = {**options, **draws}, self.unit(options)
        one, two = (_shapes(self.draw(settled, Sizes(tokens, unit, 2), 0)) for tokens in (1, 2))
        return {name for name, shape in one.items() if shape != two[name]}


def _shapes(arrays: Arrays) -> Shapes:
    return {name: np.shape(array) for name, array in arrays.items()}


def _longer(
    shape: tuple[int, ...], small: Sizes, probes: list[tuple[Sizes, tuple[int, ...]]], sizes: Sizes
) -> tuple[int, ...]:
    """The shape at other sizes, from what it is at the small ones and where one of these differs."""
    lengths = list(shape)
    for probe, other in probes:
        (changed,) = (index for index in range(len(small)) if probe[index] != small[index])
        for axis, (length, at_probe) in enumerate(zip(shape, other, strict=True)):
            step = probe[changed] - small[changed]
            lengths[axis] += (at_probe - length) * (sizes[changed] - small[changed]) // step
    return tuple(lengths)


def checked_option(name: str, value: Any, known: tuple[Any, ...]) -> Any:
    """The value: None, a finite number, a word or a tuple of these, or a switch if the known values are.

    Raises: ValueError, which names the option, what it got and what it wants.
    """
    value = value.item() if isinstance(value, np.generic) else value
    switch = all(isinstance(one, bool) for one in known)
    entries = tuple(value) if isinstance(value, tuple | list) else (value,)
    if switch and not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {one_line(repr(value), 80)}")
    if len(entries) > LONGEST:
        raise ValueError(f"{name} must have at most {LONGEST} entries, got {len(entries)}")
    for entry in entries:
        if isinstance(entry, bool) != switch or not isinstance(entry, int | float | str | None):
            raise ValueError(
                f"{name} must be a number, a word, None or a tuple of these, got {one_line(repr(value), 80)}"
            )
        if isinstance(entry, float) and not math.isfinite(entry):
            raise ValueError(f"{name} must be finite, got {entry}")
        if isinstance(entry, int) and abs(entry) > LIMITS.get(name, LARGEST):
            raise ValueError(f"{name} must be at most {LIMITS.get(name, LARGEST)}, got {one_line(entry, 40)}")
        if isinstance(entry, str) and len(entry) > LETTERS:
            raise ValueError(f"{name} must be a word of at most {LETTERS} letters, got {len(entry)}")
    return entries if isinstance(value, list) else value
