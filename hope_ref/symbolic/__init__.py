"""The SymPy floor: each equation derived, each identity proved by running it.

`identities()` lists them all; `hope_ref.symbolic.errata` says which prints of the sources they correct.
"""

from __future__ import annotations

from hope_ref.symbolic import (
    chunk_equivalence,
    chunks,
    continuum_memory,
    counts,
    delta_gradient_descent,
    delta_rule,
    expressive_optimisers,
    gradient_descent,
    kernels,
    linear_attention,
    m3,
    momentum,
    newton_schulz,
    online_learning,
    self_modifying_titans,
    shared_gain,
    state_tracking,
    tables,
    titans,
)
from hope_ref.symbolic.identity import Identity

__all__ = [
    "CONCEPTS",
    "chunk_equivalence",
    "chunks",
    "continuum_memory",
    "counts",
    "delta_gradient_descent",
    "delta_rule",
    "distinct",
    "expressive_optimisers",
    "gradient_descent",
    "identities",
    "kernels",
    "linear_attention",
    "m3",
    "momentum",
    "named",
    "newton_schulz",
    "online_learning",
    "self_modifying_titans",
    "shared_gain",
    "state_tracking",
    "tables",
    "titans",
]

CONCEPTS = (
    linear_attention,
    delta_rule,
    gradient_descent,
    delta_gradient_descent,
    online_learning,
    momentum,
    newton_schulz,
    expressive_optimisers,
    titans,
    chunks,
    chunk_equivalence,
    continuum_memory,
    m3,
    self_modifying_titans,
    shared_gain,
    state_tracking,
    counts,
    tables,
    kernels,
)  # in the order of the course


def identities() -> tuple[Identity, ...]:
    """Every identity of every concept, in the order of the course."""
    return tuple(entry for concept in CONCEPTS for entry in concept.IDENTITIES)


def distinct() -> tuple[Identity, ...]:
    """Those that repeat no other: what is counted."""
    return tuple(entry for entry in identities() if entry.alias_of is None)


def named(name: str) -> Identity:
    """The identity of that name; KeyError with the known names if there is none."""
    known = {entry.name: entry for entry in identities()}
    if name not in known:
        raise KeyError(f"no identity named {name!r}; known: {', '.join(known)}")
    return known[name]
