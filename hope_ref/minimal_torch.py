"""HOPE on one page in PyTorch: it trains through its own writes, generates, and learns while it reads.

The default model of *Nested Learning* (arXiv:2512.24695), token by token in minimal.py. All memories are read as they were
at a chunk's first token, so only the write is a loop. PyTorch is all it needs: copy it, or run it to see it train.

| symbol  | in code    | shape               | meaning                                                               |
|---------|------------|---------------------|-----------------------------------------------------------------------|
| B, T, H | B, T, H    |                     | streams of a batch, tokens, heads of d channels; C tokens are a chunk |
| W_0     | W_0        | (2, H, 5, d, d)     | start of W1 and W2 of five memories M(z) = z + W1 σ(W2 z): parameters |
| D       | D          | (2, B, H, 5, d, d)  | W - W_0, all that tokens wrote; `copy` is D before the chunk          |
| φ, u    | phi, u     | (2, B, H, 5, C, d)  | input of a weight matrix; what a write makes of D φ                   |
| η, α    | eta, alpha | (B, H, 5, C)        | learning rate and retention of each memory; α = 1 forgets nothing     |
| θ       | theta      | (2, B, N, L, ·, ·)  | W1 and W2ᵀ of the continuum memory: L levels in each of N blocks      |
"""

import torch
from torch import nn
from torch.nn import functional as F

KEY, VALUE, ETA, ALPHA, MEMORY, ALL = *(slice(m, m + 1) for m in range(5)), slice(None)
P = nn.Parameter


def scaled(z, c=1e-6):
    """z / √(‖z‖² + c): of length 1 for a small c, shorter than 1 for c = 1."""
    return z / (z.square().sum(-1, keepdim=True) + c).sqrt()


class SelfModifyingTitans(nn.Module):
    """x + W_o RMSNorm(o): each head's memories make key, value, η, α and the answer o, and every token writes to them."""

    def __init__(self, width, H, C):
        super().__init__()
        d, self.C, self.root = width // H, C, (width // H) ** 0.5
        W1, W2 = torch.randn(H, 5, d, d) / (4 * d) ** 0.5, 2 * torch.linalg.qr(torch.randn(H, 5, d, d)).Q
        W1[:, MEMORY] = 0  # nothing is remembered
        self.W_0 = P(torch.stack([W1, W2]))
        self.projections = P(torch.linalg.qr(torch.randn(4, width, width)).Q)  # P_k, P_v, W_q and W_o
        self.kernels = P(torch.eye(4)[-1].repeat(3, width, 1))  # the token itself
        self.norm, self.head_norm = P(torch.ones(width)), P(torch.ones(H, d))
        self.eta_readout, self.alpha_readout = P(torch.zeros(H, 1, 1, d)), P(torch.zeros(H, 1, 1, d))
        self.eta_bias = P(torch.tensor([0.1, 0.1, 0.1, 0.1, 0.7]).expm1().log().repeat(H, 1)[..., None])  # η
        self.alpha_bias = P(torch.full((H, 1, 1), 0.999).logit())  # α

    def forward(self, x, position, state):
        """x^k = σ(Σ_j c_j ⊙ P_k n_{t-3+j}), x^v and x^q, n = RMSNorm(x), then chunk after chunk; x is (B, T, width)."""
        (past, D, copy), (H, d), T, C, o = state, self.head_norm.shape, x.shape[1], self.C, []
        n = F.rms_norm(x, x.shape[-1:], self.norm, 1e-6)
        rows = torch.cat([past, n @ self.projections[:3, None].mT], 2)  # (3, B, 3 + T, width)
        views = F.silu(sum(self.kernels[:, None, None, :, j] * rows[:, :, j : j + T] for j in range(4)))
        views = views.unflatten(-1, (H, 1, d)).movedim(2, 4)  # (3, B, H, 1, T, d)
        for chunk in views.tensor_split(tuple(range(-position % C or C, T, C)), 4):
            copy = D if position % C == 0 else copy
            answers, D = self.write(*chunk, D, copy)
            position, o = position + chunk.shape[4], [*o, answers]
        o = F.rms_norm(torch.cat(o, 3).movedim(3, 1)[:, :, :, 0], (d,), None, 1e-6) * self.head_norm
        return x + o.flatten(2) @ self.projections[3].mT, (rows[:, :, T:], D, copy)

    def write(self, x_k, x_v, x_q, D, copy):
        """D ← α D - η̃ (D φ - u) φᵀ, token after token; o, each after its own write, (B, H, 1, C, d), and D."""
        W1, W2 = self.W_0[:, None] + copy  # (B, H, 5, d, d) each

        def answer(m, z):  # M_m(z)
            return z + F.silu(z @ W2[:, :, m].mT) @ W1[:, :, m].mT

        k, v, q = scaled(answer(KEY, x_k)), scaled(answer(VALUE, x_v)), scaled(x_q)
        eta = F.softplus((answer(ETA, x_v) * self.eta_readout).sum(-1) / self.root + self.eta_bias)
        alpha = ((answer(ALPHA, x_k) * self.alpha_readout).sum(-1) / self.root + self.alpha_bias).sigmoid()
        alpha = F.pad(alpha, (0, 0, 4, 0), value=1.0)  # the first four forget nothing
        error = answer(ALL, k) - answer(ALL, v)  # the target for k is a memory's own answer to v
        hidden = k @ W2.mT
        slope = hidden.sigmoid() * (1 + hidden * (-hidden).sigmoid())  # σ′
        phi = torch.stack([F.silu(hidden), k.expand_as(hidden)])
        u = scaled(-torch.stack([error, error @ W1 * slope]), 1)  # bounded: ‖u‖ < 1
        step = eta / (1 + eta * phi.square().sum(-1))  # η̃, implicit: cannot overshoot
        o = [q[..., :0, :]]
        for t in range(q.shape[-2]):
            phi_t, u_t = phi[..., t, :, None], u[..., t, :, None]
            D = alpha[..., t, None, None] * D - step[..., t, None, None] * (D @ phi_t - u_t) * phi_t.mT
            W1, W2 = self.W_0[:, None, :, MEMORY] + D[:, :, :, MEMORY]
            o.append(F.silu(q[..., t : t + 1, :] @ W2.mT) @ W1.mT)
        return torch.cat(o, -2), D


class Hope(nn.Module):
    """E RMSNorm(block_N(… block_1(E[token]))), a block self-modifying Titans, then L levels of continuum memory."""

    def __init__(self, vocabulary=256, width=64, heads=1, blocks=2, chunk=16, level_chunks=(512, 2048, 8192)):
        super().__init__()
        shape, self.level_chunks = (blocks, len(level_chunks), width, 4 * width), level_chunks
        self.embedding = P(torch.randn(vocabulary, width) / width**0.5)
        self.titans = nn.ModuleList(SelfModifyingTitans(width, heads, chunk) for _ in range(blocks))
        self.theta = P(torch.stack([torch.randn(shape) / 4, torch.randn(shape)]) / width**0.5)
        self.gains, self.norm = P(torch.ones(shape[:3])), P(torch.ones(width))

    def start(self, B):
        """Position 0; per block zeros as inputs before the convolutions, D = 0 and its copy; θ as it is learned."""
        W_0, past = self.titans[0].W_0, self.norm.new_zeros(3, B, 3, len(self.norm))
        D = W_0.new_zeros(2, B, *W_0.shape[1:])
        return 0, [(past, D, D)] * len(self.titans), self.theta[:, None].repeat(1, B, 1, 1, 1, 1)

    def forward(self, tokens, state=None):
        """Logits of tokens (B, T), and the state after them: a stream may be cut anywhere."""
        position, layers, theta = state or self.start(len(tokens))
        x, after, end = self.embedding[tokens], list(layers), position + tokens.shape[1]
        for n, titans in enumerate(self.titans):
            x, after[n] = titans(x, position, layers[n])
            for gain, (w1, w2) in zip(self.gains[n], theta[:, :, n].movedim(2, 0), strict=True):
                x = x + F.silu(F.rms_norm(x, gain.shape, gain, 1e-6) @ w2) @ w1.mT  # fast to slow
        return F.rms_norm(x, self.norm.shape, self.norm, 1e-6) @ self.embedding.mT, (end, after, theta)

    @torch.no_grad()
    def adapt(self, tokens, state=None):
        """As forward, but θ learns: from each segment, when the token after it, its last target, has come."""
        start, now, segment, total = state or (first := self.start(len(tokens)), first, tokens[:, :0], 0)
        logits = [self(tokens[:, :0])[0]]
        while tokens.shape[1]:
            if segment.shape[1] == self.level_chunks[0]:
                now, total = self.learn(start, now, torch.cat([segment, tokens[:, :1]], 1), total)
                start, segment = now, segment[:, :0]
            piece, tokens = tokens.tensor_split([self.level_chunks[0] - segment.shape[1]], 1)
            new, now = self(piece, now)
            logits, segment = [*logits, new], torch.cat([segment, piece], 1)
        return torch.cat(logits, 1), (start, now, segment, total)

    @torch.enable_grad()
    def learn(self, start, now, segment, total):
        """Σ ← Σ - ∂L/∂θ over a segment; in levels whose chunk is full θ ← θ + 0.1 / C Σ, and Σ starts again at 0."""
        (position, layers, theta), w = now, now[2].detach().requires_grad_()
        loss = F.cross_entropy(self(segment[:, :-1], (*start[:2], w))[0].mT, segment[:, 1:], reduction="sum")
        total = total - torch.autograd.grad(loss, w)[0]
        rate = theta.new_tensor([0.1 / C * (position % C == 0) for C in self.level_chunks])[:, None, None]
        return (position, layers, theta + rate * total), total * (rate == 0)

    @torch.no_grad()
    def generate(self, tokens, count, temperature=1.0):
        """Read (B, T), T >= 1, then draw and read `count` tokens more, one after the other: (B, count)."""
        new, state = [tokens], None
        for _ in range(count):
            logits, state = self(new[-1], state)
            new.append((logits[:, -1] / temperature).softmax(-1).multinomial(1))
        return torch.cat(new[1:], 1)


def main(steps=150, length=4096):
    """Train on Python's manual, generate, and read on in text not trained on: levels held still, and learning."""
    from pydoc_data.topics import topics

    torch.manual_seed(0)
    text = torch.tensor(list("".join(topics[name] for name in sorted(topics)).encode()))
    train, test = text[: -length - 1], text[None, -length - 1 :]
    model = Hope(width=32, heads=2, blocks=1, level_chunks=(16, 64, 256))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.98))
    for step in range(1, steps + 1):
        batch = train[torch.randint(len(train) - 64, (8, 1)) + torch.arange(65)]
        loss = F.cross_entropy(model(batch[:, :-1])[0].mT, batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            print(f"step {step}: {loss.exp().log2():.2f} bits per byte")
    print(bytes(model.generate(test[:, :64], 200, 0.7)[0].tolist()).decode(errors="replace"))
    for name, read in (("held still", torch.no_grad()(model)), ("learning while it reads", model.adapt)):
        loss = F.cross_entropy(read(test[:, :-1])[0].mT, test[:, 1:])
        print(f"{length} bytes not trained on, {name}: {loss.exp().log2():.3f} bits per byte")


if __name__ == "__main__":
    main()
