"""Exam questions on notebooks 07 to 13: clocks, self-made targets, counts, and what a number of a training says."""

from __future__ import annotations

import math
import random
from fractions import Fraction

from hope_docs.exam_form import (
    Asker,
    Drawn,
    add_outer,
    array,
    asking,
    code,
    integers,
    nonzero,
    number,
    one_of,
    plus,
    short,
    some,
    times,
    unit_key,
    until,
)

QUESTIONS: dict[str, Asker] = {}


@asking(QUESTIONS, "07a")
def boundaries(rng: random.Random) -> Drawn:
    """The boundary that a token reads from, and what the printed one would give away."""
    size = rng.randint(4, 12)
    t = until(lambda: rng.randint(2 * size, 9 * size), lambda t: 0 < t % size < size - 1)
    start, end = size * (t // size), size * -(-t // size)
    return Drawn(
        "Which state may a token read?",
        f"A stream, counted from 0, is cut into chunks of C = {size} tokens. From the state after how many tokens are the key"
        f" and value of token {t} generated? After how many with the printed boundary $C \\lceil t/C \\rceil$, and how many"
        f" tokens later than {t} has that state seen?",
        f"$b(t) = C \\lfloor t/C \\rfloor$ = {size} · {t // size}; printed is {size} · {end // size}.\n"
        f"A state after {end} tokens has seen tokens 0 to {end - 1}.",
        f"{start} tokens; printed {end}, which includes token {t} itself and {end - 1 - t} later ones.",
        {"C": size, "t": t},
        {"boundary": start, "printed": end, "later": end - 1 - t},
    )


@asking(QUESTIONS, "07b")
def chunk_values(rng: random.Random) -> Drawn:
    """One repeated pair, with gradients frozen at the chunk's start and without."""
    size, eta = rng.randint(3, 5), one_of(rng, "0.1 0.2 0.25 0.3 0.4 0.5 0.6")
    start, v = until(lambda: nonzero(rng, 2, 8), lambda d: d[0] != d[1])
    frozen, loop = start + size * eta * (v - start), v + (1 - eta) ** size * (start - v)
    diverges = math.floor(2 / eta) + 1
    return Drawn(
        "The same pair, in a chunk and token by token",
        f"A memory of one number starts at $M$ = {short(start)} and reads the same pair {size} times: key 1, value"
        f" {short(v)}. Gradient descent on $\\tfrac12 (M k - v)^2$ has $\\eta$ = {short(eta)}, without erase term. Where is"
        f" $M$ afterwards if the {size} tokens are one chunk (gradients at its start), and where token by token? From"
        " which chunk size on does the first diverge, if it goes on like this?",
        f"In a chunk the same write is added {size} times: the error is multiplied by $1 - C \\eta$ ="
        f" {number(1 - size * eta)}.\n"
        f"Token by token it is multiplied by $(1 - \\eta)^C$ = {number((1 - eta) ** size)}.\n"
        "A chunk diverges once $C \\eta > 2$.",
        f"chunk {number(frozen)}, token by token {number(loop)}; from C = {diverges} on.",
        {"C": size, "eta": eta, "M": start, "v": v},
        {"frozen": frozen, "loop": loop, "diverges": diverges},
    )


@asking(QUESTIONS, "08a")
def clocks(rng: random.Random) -> Drawn:
    """Which levels have moved, how many tokens wait, and where a change is heard first."""
    fast = rng.randint(3, 9)
    sizes = [fast, fast * (middle := rng.randint(2, 4)), fast * middle * rng.randint(2, 4)]
    count = until(lambda: rng.randint(sizes[1] + 1, 3 * sizes[2]), lambda n: all(n % size for size in sizes))
    changed = until(lambda: rng.randint(0, count - 1), lambda t: t % fast != fast - 1)
    moves, waiting = [count // size for size in sizes], [count % size for size in sizes]
    echoes = [size * (changed // size + 1) for size in sizes]
    return Drawn(
        "Three clocks",
        f"Three levels stand in a row, with chunks of {sizes[0]}, {sizes[1]} and {sizes[2]} tokens. How often has each moved"
        f" after {count} tokens, and how many tokens wait in its open sum? Token {changed}, counted from 0, is changed: from"
        " which token on can the outputs notice it through each level alone, and which output, apart from its own, is the"
        " first that can notice at all?",
        f"$\\lfloor T/C \\rfloor$ moves, $T \\bmod C$ tokens wait, with $T$ = {count}.\n"
        f"A level moves after the last token of the chunk that token {changed} lies in; the next token is the first to see it:"
        f" $C (\\lfloor t/C \\rfloor + 1)$.",
        f"moves `{moves}`, waiting `{waiting}`; echoes from tokens `{echoes}`, the first at {min(echoes)}.",
        {"sizes": sizes, "T": count, "t": changed},
        {"moves": moves, "waiting": waiting, "echoes": echoes, "first": min(echoes)},
    )


@asking(QUESTIONS, "09a")
def slow_clock(rng: random.Random) -> Drawn:
    """M3's slow momentum of a single weight, its open sum, and the newest gradient that acts."""
    f, beta = rng.choice([2, 3]), one_of(rng, "0.5 0.6 0.75 0.8 0.9")

    def windows(g: list[Fraction]) -> list[Fraction]:
        return [sum(g[i : i + f], Fraction(0)) for i in range(0, len(g), f)]

    g = until(lambda: nonzero(rng, 2 * f + rng.randint(1, f - 1), 6), lambda g: all(windows(g)))
    first, second, waiting = windows(g)
    m1 = (1 - beta) * first
    m2 = beta * m1 + (1 - beta) * second
    period = rng.choice([10, 20, 50, 100])
    step = until(lambda: rng.randint(period + 1, 20 * period), lambda i: i % period != 1)
    return Drawn(
        "The slow clock of M3",
        f"M3's slow momentum starts at 0, with f = {f} and $\\beta_3$ = {short(beta)}. The gradients of one weight are"
        f" {code('g', g)}, steps counted from 1. What is $m^{{(2)}}$ after the last of them, and which sum is still open? In"
        f" another run f = {period}: which is the newest gradient that acts through $O_2$ in step {step}?",
        f"Window sums {number(first)} and {number(second)}; $m^{{(2)}}$ = {number(m1)}, then"
        f" $\\beta_3 m^{{(2)}} + (1 - \\beta_3) \\cdot$ {number(second)}.\n"
        f"The last window that was full *before* step {step} ended with step {period * ((step - 1) // period)}.",
        f"$m^{{(2)}}$ = {number(m2)}, open sum {number(waiting)}; gradient {period * ((step - 1) // period)}.",
        {"f": f, "beta3": beta, "g": g, "period": period, "step": step},
        {"m2": m2, "open": waiting, "newest": period * ((step - 1) // period)},
    )


@asking(QUESTIONS, "10a")
def own_target(rng: random.Random) -> Drawn:
    """One printed write of a linear memory that makes its own target."""
    k, eta, alpha = unit_key(rng), one_of(rng, "0.2 0.25 0.5"), one_of(rng, "0.5 0.8 0.9")
    w, v = until(
        lambda: ([integers(rng, 2, 2), integers(rng, 2, 2)], integers(rng, 2)),
        lambda d: any(times(d[0], d[1])) and any(times(d[0], k)) and all(_error(*d, k)),
    )
    target, error = plus(v, times(w, v)), _error(w, v, k)
    erased = add_outer([[alpha * x for x in row] for row in w], times(w, k), k, -eta)
    new = add_outer(erased, error, k, -eta)
    return Drawn(
        "A target of its own",
        f"The linear memory $M(z) = z + W z$ has {code('W', w)} and makes one write as the sources print it: ½‖·‖², an"
        f" explicit step, $R = E = 0$, with {code('k', k)}, {code('v', v)}, $\\eta$ = {short(eta)}, $\\alpha$ ="
        f" {short(alpha)}. Give its target $\\hat v$, the error $e = M(k) - \\hat v$, and $W$ after the write.",
        f"$\\hat v = v + W v$ is `{array(target)}`; $e = k + W k - \\hat v$ is `{array(error)}`.\n"
        f"Kept and erased: $W (\\alpha I - \\eta k k^\\top)$ is `{array(erased)}`; then $-\\eta\\, e k^\\top$ is added.",
        f"{code('v_hat', target)}, {code('e', error)}, {code('W', new)}.",
        {"W": w, "k": k, "v": v, "eta": eta, "alpha": alpha},
        {"target": target, "error": error, "W": new},
    )


def _error(w: list[list[Fraction]], v: list[Fraction], k: list[Fraction]) -> list[Fraction]:
    return plus(plus(k, times(w, k)), plus(v, times(w, v)), -1)


@asking(QUESTIONS, "11a")
def carried(rng: random.Random) -> Drawn:
    """How many numbers the first sub-layer of a block carries along."""
    heads, head = rng.choice([2, 3, 4]), rng.choice([4, 6, 8, 10])
    hidden, kernel = rng.choice([6, 8, 10, 12, 16]), rng.choice([3, 4, 5])
    width = heads * head
    memories, inputs = 20 * width * hidden, 3 * (kernel - 1) * width
    return Drawn(
        "What a stream carries",
        f"The first sub-layer of one block of HOPE is {width} wide, with {heads} heads; its memories have {hidden} hidden"
        f" numbers, its convolutions are {kernel} tokens wide. How many numbers does it carry along for one stream (not"
        " counting the position)? How many of them are inputs of convolutions? What if the stream becomes twice as long?",
        f"Five memories a head, each $W_1$ and $W_2$ of {head} · {hidden} numbers, as they move and as they were at the"
        f" boundary: {heads} · 5 · 2 · 2 · {head} · {hidden} = {memories}.\n"
        f"Three convolutions keep their last {kernel - 1} inputs: 3 · {kernel - 1} · {width} = {inputs}.",
        f"{memories + inputs} numbers, {inputs} of them inputs of convolutions; a longer stream changes nothing.",
        {"width": width, "heads": heads, "hidden": hidden, "kernel": kernel},
        {"numbers": memories + inputs, "inputs": inputs},
    )


@asking(QUESTIONS, "12a")
def bits_per_byte(rng: random.Random) -> Drawn:
    """A loss in nats per token as bits per byte, and as perplexity."""
    nats, tokens = Fraction(rng.randint(60, 240), 50), 50 * rng.randint(10, 60)
    size = tokens * one_of(rng, "2.4 2.8 3.2 3.6 4 4.4")
    total, perplexity = float(nats) * tokens / math.log(2), math.exp(nats)
    per_byte = total / float(size)
    words = 1000 * rng.choice([2, 4, 8, 16, 32])
    return Drawn(
        "Nats, bits and bytes",
        f"A test text has {short(size)} bytes and {tokens} tokens; a model's mean loss is {short(nats)} nats per token. How"
        " many bits per byte is that, and which perplexity per token? The tokens come from a vocabulary of"
        f" {words}: what would a blind guess cost, in bits per byte?",
        f"{short(nats)} · {tokens} / ln 2 = {total:.1f} bits, divided by the bytes; perplexity is $e^{{{short(nats)}}}$.\n"
        f"A blind guess costs log2({words}) = {math.log2(words):.3f} bits per token.",
        f"{per_byte:.4f} bits per byte; perplexity {perplexity:.2f}; a blind guess"
        f" {math.log2(words) * tokens / float(size):.4f} bits per byte.",
        {"nats": nats, "tokens": tokens, "bytes": size, "words": words},
        {"bits": per_byte, "perplexity": perplexity, "blind": math.log2(words) * tokens / float(size)},
    )


@asking(QUESTIONS, "12b")
def luck(rng: random.Random) -> Drawn:
    """What agreeing seeds are worth."""
    seeds, rows = rng.choice([3, 4, 5, 6]), rng.randint(5, 30)
    one = Fraction(1, 2 ** (seeds - 1))
    some_row = float(1 - (1 - one) ** rows)
    return Drawn(
        "Agreeing seeds",
        f"A table compares two models in {rows} rows, with {seeds} seeds each. Suppose that neither is better. What is the"
        f" chance that in a given row all {seeds} seeds fall on one side? In how many rows do you expect it? What is the chance"
        " that it happens in at least one?",
        f"The first seed chooses a side, each other follows with ½: $2^{{1-{seeds}}}$ = {number(one)}.\n"
        f"No row is lucky with chance $(1 - 2^{{1-{seeds}}})^{{{rows}}}$ = {1 - some_row:.4f}.",
        f"{number(one)}; {number(rows * one)} rows; {some_row:.4f}.",
        {"seeds": seeds, "rows": rows},
        {"row": one, "expected": rows * one, "some_row": some_row},
    )


# Name, loss, optimiser, context; the fifth says when the next read sees a change: at every tick, or once in {c}.
COMPONENTS = (
    (
        "linear attention",
        r"$-\langle M k, v \rangle$",
        "a gradient step of size 1",
        "one pair",
        False,
    ),
    (
        r"the delta rule with $\eta$ = {rate}",
        r"$\tfrac12 \|M k - v\|^2$",
        "a gradient step of size {rate}",
        "one pair",
        False,
    ),
    (
        r"Titans with a matrix memory, $\mu$ = {rate}",
        r"$\tfrac12 \|M(k) - v\|^2$",
        "a gradient step with momentum {rate}, and retention",
        "one pair",
        False,
    ),
    (
        r"the momentum $m \leftarrow \mu m - \eta g$ with $\mu$ = {rate} (a tick is a step)",
        r"$\langle m, g \rangle + \frac{{1 - \mu}}{{2 \eta}} \|m\|^2$",
        r"a gradient step of size $\eta$",
        "one gradient",
        False,
    ),
    (
        "a level of the continuum memory with C = {c}, as `adapt` moves it",
        "the model's own, on the next token",
        "a gradient step, with the sum over a chunk",
        "{c} tokens",
        True,
    ),
    (
        r"M3's slow momentum with f = {c} and $\beta_3$ = {rate} (a tick is a step)",
        r"the squared distances to the old memory and to the new sum, weighted {rate} and 1 - {rate}",
        "the exact minimiser, a running mean",
        "the gradients of {c} steps",
        True,
    ),
    (
        "HOPE's $M_k$ with chunks of C = {c} tokens, on ½‖·‖²",
        r"$\tfrac12 \|M_k(k) - \hat v\|^2$, with a target of its own",
        "Delta Gradient Descent",
        "the tokens, as pairs that the memories make",
        True,
    ),
)


@asking(QUESTIONS, "13a")
def four_choices(rng: random.Random) -> Drawn:
    """Loss, optimiser, context and frequency of one component that moves at every tick and one that does not."""
    quick, late = (
        rng.choice([component for component in COMPONENTS if component[4] is slow]) for slow in (False, True)
    )
    ticks, lines, names, moves = rng.randint(200, 999), [], [], []
    chunk = until(lambda: rng.randint(6, 40), lambda c: ticks % c != 0)
    told = {"c": str(chunk), "rate": short(one_of(rng, "0.6 0.7 0.8 0.9"))}
    for name, loss, optimiser, context, slow in (quick, late):
        each = chunk if slow else 1
        names.append(name.format(**told))
        moves.append(ticks // each)
        lines.append(
            f"{names[-1]}: loss {loss.format(**told)}; optimiser: {optimiser.format(**told)}; context: {context.format(**told)};"
            f" frequency {'1, every tick' if each == 1 else f'1/{each}'}, {moves[-1]} times"
        )
    return Drawn(
        "Name the four choices",
        f"Name loss, optimiser, context and frequency of (i) {names[0]}; (ii) {names[1]}. Frequency means: how often does"
        f" what the next read sees change, per tick? How many times has it changed after {ticks} ticks?",
        "Measure a frequency at the reader: an open sum, or weights of which only a copy is read, do not count until the"
        " next read sees them.",
        f"(i) {lines[0]}.\n\n(ii) {lines[1]}.",
        {"ticks": ticks, "c": chunk, "components": [quick[0], late[0]]},
        {"moves": moves},
    )


@asking(QUESTIONS, "13b")
def name_levels(rng: random.Random) -> Drawn:
    """The levels of a set of components, by frequency and by who needs whom."""
    names = rng.sample("ABCDEFGH", 6)
    slow, slower = some(rng, 2, "1/4 1/5 1/8 1/10 1/16 1/20 1/32 1/64")
    frequency = dict(zip(names, [Fraction(1)] * 3 + [slow, slow, slower], strict=True))
    a, b, c, d, e, _ = names
    needs: dict[str, tuple[str, ...]] = rng.choice(
        [{c: (a, b)}, {b: (a,), c: (b,)}, {a: (c,), e: (d,)}, {b: (a,), c: (a,)}, {c: (a, b), d: (e,)}]
    )
    levels, left = [], dict(frequency)
    while left:
        fastest = {name for name in left if left[name] == max(left.values())}
        levels.append({name for name in fastest if not fastest & set(needs.get(name, ()))})
        left = {name: speed for name, speed in left.items() if name not in levels[-1]}
    speeds = ", ".join(f"{name}: {frequency[name]}" for name in sorted(names))
    reads = "; ".join(
        f"{name} needs the state of {' and '.join(of)} in the same tick" for name, of in needs.items()
    )
    written = ", ".join("{" + ", ".join(sorted(level)) + "}" for level in levels)
    return Drawn(
        "Who stands above whom?",
        f"Six components share one clock, with the frequencies {speeds}. {reads}. Name the levels, the highest first.",
        "The faster stands above the slower.\n"
        "Of equally fast ones, the one whose state another needs stands above it; those that need none of the rest share a"
        " level.",
        f"{written}.",
        {"frequency": frequency, "needs": needs},
        {"levels": levels},
    )
