"""HOPE on one page: the default model of *Nested Learning* (arXiv:2512.24695) in NumPy, one token after the other.

A block is a self-modifying Titans layer, then a continuum memory. In the layer five small networks, the memories, make
key, value, learning rate, retention and answer of a token, and each token writes to all five of them.
`logits, state = hope(tokens, p)`, with parameters p as `hope_ref.reference.hope.init` makes them. NumPy is all it needs.

| symbol  | in code         | shape          | meaning                                                         |
|---------|-----------------|----------------|-----------------------------------------------------------------|
| x       | x               | (T, width)     | the residual stream; a head has d of its channels               |
| C       | chunk_size      |                | tokens between two copies of the memories                       |
| M_m(z)  | answer(W, m, z) | (d,)           | answer of memory m: z + W1 σ(W2 z), σ(z) = z / (1 + e^-z)       |
| W_0     | p[...]          | (d, h), (h, d) | start of each W1 and W2, called w1_k, w2_k, w1_v …: parameters  |
| W       | W[...]          | as W_0         | the same weights now: all that the tokens wrote is in them      |
| W_b     | copy[...]       | as W_0         | W as it was before the first token of the chunk                 |
| k, v, q | k, v, q         | (d,)           | key, value and query, of length 1                               |
| η_m, α  | eta, alpha      | numbers        | learning rate of memory m; retention: 1 forgets nothing         |
| φ, u    | phi, u          | (h,) or (d,)   | input of a weight matrix; what a write makes of (W - W_0) φ     |
"""

import numpy as np

MEMORIES, VIEWS = ("k", "v", "eta", "alpha", "memory"), ("key", "value", "query")


def write(x_k, x_v, x_q, p, W, copy):
    """W ← W_0 + α D - η̃ (D φ - u) φᵀ, D = W - W_0, for every W1 and W2; o = W1 σ(W2 q) of `memory`, (d,), and W."""
    k, v, q = unit(answer(copy, "k", x_k)), unit(answer(copy, "v", x_v)), unit(x_q)
    rate = p["eta_readout"] @ answer(copy, "eta", x_v) / len(x_v) ** 0.5
    alpha = sigmoid(p["alpha_readout"] @ answer(copy, "alpha", x_k) / len(x_k) ** 0.5 + p["alpha_bias"])
    new = {}
    for m in MEMORIES:
        eta = np.logaddexp(0, rate + p[f"eta_bias_{m}"])  # softplus
        retention = alpha if m == "memory" else 1.0
        error = answer(copy, m, k) - answer(copy, m, v)  # the target for k is the memory's own answer to v
        hidden = copy[f"w2_{m}"] @ k
        silu_slope = sigmoid(hidden) * (1 + hidden * sigmoid(-hidden))  # σ′
        slope = copy[f"w1_{m}"].T @ error * silu_slope  # ∂ ½‖error‖² / ∂ hidden, the target held fixed
        for name, phi, u in ((f"w1_{m}", silu(hidden), -error), (f"w2_{m}", k, -slope)):
            u = u / np.sqrt(1 + u @ u)  # bounded: ‖u‖ < 1
            step = eta / (1 + eta * phi @ phi)  # η̃, implicit: cannot overshoot
            D = W[name] - p[name]
            new[name] = p[name] + retention * D - step * np.outer(D @ phi - u, phi)
    return new["w1_memory"] @ silu(new["w2_memory"] @ q), new


def answer(W, m, z):
    """M_m(z) = z + W1 σ(W2 z)."""
    return z + W[f"w1_{m}"] @ silu(W[f"w2_{m}"] @ z)


def sigmoid(z):
    """1 / (1 + e^-z), without overflow."""
    return np.exp(-np.logaddexp(0, -z))


def silu(z):
    """σ(z) = z sigmoid(z)."""
    return z * sigmoid(z)


def unit(z):
    """z / ‖z‖, and 0 at 0."""
    return z / np.sqrt(z @ z + 1e-6)


def rms_norm(z, gain):
    """gain ⊙ z / √(mean z²), over the last axis."""
    return gain * z / np.sqrt(np.mean(z**2, axis=-1, keepdims=True) + 1e-6)


def titans_layer(x, p, chunk_size, position, before, memories):
    """x + W_o RMSNorm(o), each head's o from its slices of x^k = σ(Σ_j c_j ⊙ P_k n_{t-3+j}), x^v and x^q; n = RMSNorm(x)."""
    n, heads, views, inputs, after = rms_norm(x, p["norm"]), parts(p, "heads"), [], [], []
    for name, projection, past in zip(VIEWS, ("p_key", "p_value", "w_query"), before, strict=True):
        c = p[f"conv_{name}"]  # (width, 4), the last column for the token itself
        rows = np.concatenate([past, n @ p[projection].T])  # (3 + T, width)
        views.append(silu(sum(c[:, j] * rows[j : j + len(x)] for j in range(4))))
        inputs.append(rows[len(x) :])
    views = np.reshape(views, (3, len(x), len(heads), x.shape[1] // len(heads)))
    o = np.zeros_like(views[0])  # (T, heads, d)
    for h, (W, copy) in enumerate(memories):
        for t in range(len(x)):
            copy = W if (position + t) % chunk_size == 0 else copy
            o[t, h], W = write(*views[:, t, h], heads[h], W, copy)
        after.append((W, copy))
    o = rms_norm(o, p["head_norm"].reshape(o.shape[1:])).reshape(x.shape)
    return x + o @ p["output"].T, inputs, after


def continuum_memory(x, p):
    """x ← x + W1 σ(W2 RMSNorm(x)), level by level; `adapt` in minimal_torch.py moves the levels between segments."""
    for level in parts(p, "levels"):
        x = x + silu(rms_norm(x, level["gain"]) @ level["w2"].T) @ level["w1"].T
    return x


def hope(tokens, p, chunk_size=16, state=None):
    """E RMSNorm(block_N(… block_1(E[token]))), (T, vocabulary), and the state after it: a stream may be cut anywhere."""
    position, *blocks = state or start(p)
    x, after = p["embedding"][np.asarray(tokens, dtype=int)], [position + len(tokens)]
    for block, own in zip(parts(p, "blocks"), blocks, strict=True):
        x, *new = titans_layer(x, block, chunk_size, position, *own)
        x, after = continuum_memory(x, block), [*after, new]
    return rms_norm(x, p["norm"]) @ p["embedding"].T, after


def start(p):
    """The state at the first token: position 0; per block zeros as inputs before it, and every W and copy at W_0."""
    state = [0]
    for block in parts(p, "blocks"):
        W_0 = [{n: w for n, w in head.items() if n[0] == "w"} for head in parts(block, "heads")]
        state.append((np.zeros((3, 3, len(block["norm"]))), [(W, W) for W in W_0]))
    return state


def parts(p, kind):
    """The parameters of kind.0, of kind.1, …: a dict for each, by the rest of the name."""
    count = len({name.split(".")[1] for name in p if name.startswith(f"{kind}.")})
    names = [f"{kind}.{index}." for index in range(count)]
    return [{n.removeprefix(name): w for n, w in p.items() if n.startswith(name)} for name in names]
