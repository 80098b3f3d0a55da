"""FLOPs of the self-modifying Titans, as expressions: token by token, and in chunks. One head, forward pass only. [D]

Counted are matrix products, 2·m·n·k for (m, k) by (k, n), with vectors and rank-one writes among them (n or k is 1);
a triangular solve counts its multiply-adds. All else is elementwise and not counted, norms ‖z‖² too: it is of the
order of the vectors and of the C × C decays, not of the weights. C counts the tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import sympy as sp

from hope_ref.config import HopeConfig

D, HIDDEN, CHUNK = sp.symbols("d h C", integer=True, positive=True)

Shape = tuple[Any, Any]


class Product(NamedTuple):
    """So many matrix products of one size, and what they are for."""

    part: str
    rows: Any
    inner: Any
    columns: Any
    times: Any = 1

    def flops(self) -> sp.Expr:
        return 2 * self.rows * self.inner * self.columns * self.times


def by_part(products: Iterable[Product]) -> dict[str, sp.Expr]:
    """The FLOPs of each part, in the order of first appearance."""
    found: dict[str, sp.Expr] = {}
    for product in products:
        found[product.part] = sp.expand(found.get(product.part, sp.Integer(0)) + product.flops())
    return found


def total(parts: dict[str, sp.Expr]) -> sp.Expr:
    """The sum of all parts."""
    return sp.expand(sum(parts.values(), sp.Integer(0)))


def layer_shapes(config: HopeConfig) -> tuple[Shape, ...]:
    """(outputs, inputs) of each weight matrix of one memory: W1 and W2, or W if linear."""
    return ((D, HIDDEN), (HIDDEN, D)) if config.architecture == "mlp" else ((D, D),)


def _answers(part: str, config: HopeConfig, tokens: Any, memories: Any) -> list[Product]:
    """M(z): every weight matrix meets every token once."""
    return [Product(part, rows, inner, tokens, memories) for rows, inner in layer_shapes(config)]


def _generation(config: HopeConfig, tokens: Any) -> list[Product]:
    """k, v and q of so many tokens: three answers, or two and the fixed query projection."""
    if config.adaptive_query:
        return _answers("generation", config, tokens, 3)
    return [*_answers("generation", config, tokens, 2), Product("generation", D, D, tokens)]


def token_products(config: HopeConfig) -> list[Product]:
    """What `reference.self_modifying_titans` multiplies for one token, as the equations read.

    Under "repeated" is what it multiplies a second time: with the l2 loss W2 k for the gradient after M(k); and, without
    inner momentum, the rank-one matrix of the erased next to that of the written, whose difference is one.
    """
    writers, shapes = len(config.writers), layer_shapes(config)
    found = _generation(config, 1) + _answers("generation", config, 1, 2)  # M_η and M_α
    found.append(Product("generation", 1, D, 1, 2))  # read-outs
    if config.target == "self":
        found += _answers("targets", config, 1, writers)
    if config.objective == "l2":
        found += _answers("gradients", config, 1, writers)  # M(k)
    if config.architecture == "mlp":
        part = "repeated" if config.objective == "l2" else "gradients"
        found += [Product(part, HIDDEN, D, 1, writers), Product("gradients", HIDDEN, D, 1, writers)]
    for rows, columns in shapes:
        found.append(Product("writes", rows, 1, columns, writers))  # u φᵀ
        if config.erase != "none":
            found.append(Product("erased answers", rows, columns, 1, writers))  # (W - E) φ
            part = "repeated" if config.inner_momentum == 0 else "writes"
            found.append(Product(part, rows, 1, columns, writers))
    return found + _answers("reads", config, 1, 1)


def token_flops(config: HopeConfig) -> dict[str, sp.Expr]:
    """FLOPs of one token in the token loop, by part, in d and h.

    Args: config: its options; its sizes are not looked at. Returns: expressions by part, see `token_products`.
    """
    return by_part(token_products(config))


def _start_answers(config: HopeConfig, memory: str, layer: int) -> int:
    """How many products W φ with one chunk-wide W the gradient and the erased answers of one weight matrix need.

    The gradient needs W_b φ: for W2 always, else with the l2 loss. The erased (W_{t-1} - E) φ is a combination of W_b φ
    and W_0 φ that is (γ, 1 - γ), (γ, 0), (γ, -γ) or (γ, -1): a second product only where it is none of what is there.
    """
    gradient = config.objective == "l2" or layer == 1
    if config.erase == "none":
        return int(gradient)
    forgets = memory == "memory" or config.retention_scope == "all"
    to_start = config.retention_target == "initial"
    if config.erase == "full":
        return 2 if forgets and to_start else 1
    if forgets and not to_start:
        return 2
    return 1 + int(gradient)  # (W_b - W_0) φ is one product


def _chunk_generation(config: HopeConfig) -> list[Product]:
    """k, v, q; and η and α by r·M(z) = r·z + (W1ᵀ r)·σ(W2 z), where W1ᵀ r is one vector for the chunk."""
    found = _generation(config, CHUNK)
    if config.architecture == "linear":
        return [*found, Product("generation", D, D, 1, 2), Product("generation", 1, D, CHUNK, 2)]
    return [
        *found,
        Product("generation", HIDDEN, D, CHUNK, 2),  # W2 z
        Product("generation", HIDDEN, D, 1, 2),  # W1ᵀ r
        Product("generation", 1, D, CHUNK, 2),
        Product("generation", 1, HIDDEN, CHUNK, 2),
    ]


def chunk_products(config: HopeConfig) -> list[Product]:
    """What the exact chunk form has to multiply for C >= 2 tokens that start at a boundary of both groups.

    No product is computed twice, scores and decayed products are full C × C matrices, as hardware multiplies them; the
    decays D and the reaches c of inner momentum are scans, elementwise.
    """
    writers, momentum = config.writers, config.inner_momentum > 0
    erases = config.erase != "none"
    found = _chunk_generation(config)
    if config.target == "self":
        found += _answers("targets", config, CHUNK, len(writers))
    if erases and writers:
        found.append(Product("scores", CHUNK, D, CHUNK))  # k kᵀ, of all W2 (or W)
    for memory in writers:
        if config.architecture == "mlp":
            found.append(Product("gradients", HIDDEN, D, CHUNK))  # W1ᵀ e
            if erases:
                found.append(Product("scores", CHUNK, HIDDEN, CHUNK))  # φ φᵀ of W1
        for layer, (rows, columns) in enumerate(layer_shapes(config)):
            found.append(Product("gradients", rows, columns, CHUNK, _start_answers(config, memory, layer)))
            if erases:
                found.append(Product("solve", CHUNK, (CHUNK - 1) / sp.Integer(2), rows))
            if erases and momentum:
                found.append(Product("gradients", rows, columns, CHUNK))  # B φ
                found.append(Product("solve", CHUNK, CHUNK, rows))  # what pushed writes have reached
            found.append(Product("state", rows, CHUNK, columns, 1 + int(momentum)))  # of W, of B
    if config.read == "boundary" or "memory" not in writers:
        return found + _answers("reads", config, CHUNK, 1)
    for rows, columns in layer_shapes(config):
        shares = (2 if config.retention_target == "initial" else 1) + int(momentum)  # W_b z, W_0 z, B z
        found += [Product("reads", rows, columns, CHUNK, shares), Product("reads", CHUNK, columns, CHUNK)]
        found.append(Product("reads", CHUNK, CHUNK, rows, 2 if erases and momentum else 1))
    return found


def chunk_flops(config: HopeConfig) -> dict[str, sp.Expr]:
    """FLOPs of one chunk of C tokens in the exact chunk form, by part, in d, h and C; see `chunk_products`.

    Args: config: its options; its sizes are not looked at. Returns: expressions by part.
    """
    return by_part(chunk_products(config))


def crossover(config: HopeConfig, repeated: bool = True) -> sp.Expr | None:
    """The chunk size C at which a chunk costs as many FLOPs as C tokens of the token loop: below it, it costs fewer.

    Args: config; repeated, whether the token loop pays for what it multiplies twice. Returns: an expression in d and h,
    the larger root of a quadratic in C, which is not real where a chunk always costs more; None if no term grows with C².
    """
    parts = token_flops(config)
    if not repeated:
        parts.pop("repeated", None)
    difference = sp.Poly(total(chunk_flops(config)) - CHUNK * total(parts), CHUNK)
    if difference.degree() < 2:
        return None
    a, b, c = difference.all_coeffs()
    return sp.simplify((-b + sp.sqrt(b**2 - 4 * a * c)) / (2 * a))
