r"""Where the sources slip, as data. ERRATA.md is made from it; the proofs are identities that run.

Each row is of one kind:

* ``wrong``        the printed form is false: its proof leaves a residual, the corrected one leaves none;
* ``unsimplified`` true, but two quantities that look different are one: both proofs leave none;
* ``ambiguous``    the sources contradict themselves or leave a choice open: a named option decides;
* ``unsupported``  a claim that the sources do not show;
* ``typo``         a slip of the pen without consequences for the mathematics.
"""

from __future__ import annotations

from dataclasses import dataclass

from hope_ref import symbolic
from hope_ref.symbolic.identity import Identity, slip

KINDS = ("wrong", "unsimplified", "ambiguous", "unsupported", "typo")


@dataclass(frozen=True)
class Erratum:
    """One row.

    Attributes:
        row: its number, for good.
        kind: one of KINDS.
        place: where it is printed.
        printed: what stands there, in words and LaTeX.
        reading: what is right, or which choice this project makes, and why.
        identity: name of the identity whose `printed_proof` fails and whose `proof` holds; for rows that are not
            wrong, an identity that shows the point, if there is one.
    """

    row: int
    kind: str
    place: str
    printed: str
    reading: str
    identity: str | None = None

    def proof(self) -> Identity | None:
        """The identity behind this row, if it has one."""
        return None if self.identity is None else symbolic.named(self.identity)

    def size(self) -> float | None:
        """Relative error of the printed form at a random point; None where nothing false is printed."""
        identity = self.proof()
        if self.kind != "wrong" or identity is None or identity.printed_proof is None:
            return None
        return slip(identity.printed_proof())


# fmt: off
ERRATA: tuple[Erratum, ...] = (
    Erratum(1, "wrong", "S 16", r"$\arg\min_W \langle W x, u \rangle + \frac{1}{2\eta}\|W - W_t\|^2$ with $u = -\nabla_y \mathcal{L}$", r"That walks up the loss. With $u = -\nabla_y \mathcal{L}$ the first term is $-\langle W x, u \rangle$; [P 55] has $+\nabla_y \mathcal{L}$ in its place.", "gradient_descent.wrong_sign"),
    Erratum(2, "wrong", "S 18, P App. C", r"$2 (W_{t+1} x - u) x^\top + 2 \eta (W_{t+1} - W_t) = 0$", r"The gradient of the printed objective [S 17] is $(W x - u) x^\top + \frac{1}{\eta}(W - W_t)$. Doubled and set to zero it says the same; the slip is η for its inverse. The rest of the chain reads η as the inverse learning rate.", "delta_gradient_descent.stationarity"),
    Erratum(3, "wrong", "P 114–121", r"$+\nabla_y \mathcal{L}$ in the place of $u = -\nabla_y \mathcal{L}$, and λ in the place of λ²", r"Taken literally the step climbs the loss. $W_{t+1} = W_t (I - a\, x x^\top) - a \nabla_y \mathcal{L}\, x^\top$ with $a = 1/(\lambda^2 + \eta)$, η the inverse rate.", "delta_gradient_descent.appendix_sign"),
    Erratum(4, "unsimplified", "S 21", r"$\beta_t = \frac{1}{\eta} - \frac{\lambda^2}{\eta(\lambda^2 + \eta)}$ beside $\alpha_t = \frac{1}{\lambda^2 + \eta}$", r"$\beta_t = \alpha_t$: one number, not two.", "delta_gradient_descent.beta_is_alpha"),
    Erratum(5, "wrong", "P 57", r"$\eta' = \eta / (1 + \eta)$", r"Only for $\|x\| = 1$; for every length $\eta' = \eta / (1 + \eta \|x\|^2)$.", "delta_gradient_descent.step"),
    Erratum(6, "wrong", "P20 28–29", r"$W_t (I - x x^\top) - \eta \nabla_y \mathcal{L}\, x^\top$", r"No step size on the erase: without a gradient it wipes the direction out at $\|x\| = 1$ and diverges for $\|x\|^2 > 2$. The one step of gradient descent that the text announces is $W_t (I - \eta x x^\top) - \eta \nabla_y \mathcal{L}\, x^\top$. Superseded by [P 57].", "delta_gradient_descent.conference_step"),
    Erratum(7, "wrong", "S 15", r"$\theta_{i+1} = 0$ unless $i \equiv 0 \pmod C$", r"The *update* is 0; θ stays as it is, and the tutorial says so below the formula: “the update is zero, the parameters freeze”. [P 71] subtracts the braces.", "continuum_memory.otherwise"),
    Erratum(8, "wrong", "S 15, P 71", r"$\sum_{t=i-C}^{i}$", r"That has C + 1 terms and counts each boundary token twice: the sum runs from $i - C + 1$.", "continuum_memory.window"),
    Erratum(9, "ambiguous", "below S 15, P 70", r"$f_\ell = L_{\max} / C^{(\ell)}$", r"Updates per window; the tutorial takes the longest sequence as the window, the paper the largest chunk. Say which."),
    Erratum(10, "ambiguous", "below S 35", "each level of the continuum memory updates by Delta Gradient Descent", "The paper lets any optimiser's error signal stand there and asks for a simple rule; gradient descent is the default, Delta Gradient Descent an option."),
    Erratum(11, "ambiguous", "S 14, P 73, P Fig. 5", "level 1 is the fast one", "The figure and the tutorial apply the fast level first; [P 73] counts the slow one first. An option, fast to slow by default."),
    Erratum(12, "wrong", "S 30–33, P 90", r"$\mathcal{M}_{C \lceil t/C \rceil}$", r"The state at the *end* of the chunk: the future. Causal is $C \lfloor t/C \rfloor$ for tokens counted from 0. The paper says it right in words: “the last state of the previous chunk” [P 8.2].", "chunks.boundary"),
    Erratum(13, "ambiguous", "S 34, P 82, P 83, P 90", r"the read uses $M_t$, $M_{t-1}$ or the boundary state", "Three conventions in one paper; an option, after the write by default."),
    Erratum(14, "wrong", "S 13", r"$\min_m -\langle m, \nabla_W \mathcal{L} \rangle$", r"A gradient step on it gives $m + \eta \nabla$; the update printed with it needs $+\langle m, \nabla_W \mathcal{L} \rangle$.", "momentum.step"),
    Erratum(15, "wrong", "P 19–20", r"$\langle \Phi x, -\nabla_y \mathcal{L} \rangle$ under an arg min", r"It must be $+\nabla_y \mathcal{L}$, as in [P 9].", "gradient_descent.wrong_sign_paper"),
    Erratum(16, "wrong", "P 92", r"$M (\alpha I - \eta k k^\top) - \eta \hat v k^\top$ for the dot product", r"The gradient of $-\langle M k, \hat v \rangle$ is $-\hat v k^\top$, so the write is $+\eta \hat v k^\top$.", "delta_gradient_descent.dot_product_sign"),
    Erratum(17, "wrong", "P 64–65", r"$(I - \eta k k^\top) M_{t-1} + \eta v k^\top$", r"For a memory that acts as $M k$ the factor stands on the right; on the left it does not even fit for $d_v \ne d_k$.", "delta_rule.one_step"),
    Erratum(18, "ambiguous", "P 88, P 93", "Delta Gradient Descent on the regression loss", r"The erase is counted twice: the fixed point is $v/2$ (with ½‖·‖²) or $2v/3$ (without), not $v$. Kept, documented, and an option.", "delta_gradient_descent.fixed_points"),
    Erratum(19, "ambiguous", "S 27, P 83", r"□ ranges over q too, while $q_t = x_t W_q$ is called the only non-adaptive projection", "An option, not adaptive by default."),
    Erratum(20, "ambiguous", "P Table 6", "an ablation without momentum", "No momentum appears in [P 83–97]. An option, off by default."),
    Erratum(21, "ambiguous", "P 79, P 89", r"$\mathcal{M}_\eta, \mathcal{M}_\alpha$ map d numbers to d numbers, but η and α are scalars", "Scalar read-outs, with biases outside the decaying memories."),
    Erratum(22, "ambiguous", "S 29, P 88", r"$(\alpha I - \eta k k^\top)$ on a two-layer MLP", r"It fits $W_2$, whose input is k, but not $W_1$, whose input is $\sigma(W_2 k)$: each weight takes the step along its own input."),
    Erratum(23, "wrong", "P 49", r"$m (\alpha I - g^\top g) - \eta P g$", r"No step size on the erase, and the sign of P belongs to $\frac12\|m g^\top + P\|^2$: $m (\mu I - \eta g^\top g) - \eta P g$.", "momentum.delta_momentum"),
    Erratum(24, "wrong", "P 44", r"$O - \zeta (O - g + 2 O (O^\top O - I))$", r"The gradient of [P 43] is $4 O (O^\top O - I)$; at $\zeta = 1/8$ it gives the cubic Newton–Schulz step. There is no $(O - g)$ in it. At the printed start, O = g, that term vanishes, and the printed step at $\zeta = 1/4$ is the cubic one as well.", "newton_schulz.gradient"),
    Erratum(25, "wrong", "P 103–105", r"$W - \eta m^*$ with $g = -\nabla$", r"Ascent: $W + \eta m^*$, or $g = +\nabla$.", "momentum.adam_sign"),
    Erratum(26, "unsupported", "tutorial, P App. B", "Adam is the optimal associative memory for gradients", r"With sums the minimiser has AdaGrad's denominator; with weights $\beta^{t-i}$ that sum to 1 it is exactly Adam with $\beta_1 = \beta_2$ and ε = 0; for this target P, $\beta_1 \ne \beta_2$ solves no single such regression. P is free: with a P that holds the second weights too, Adam with both is the minimiser; the target is chosen to make it so.", "momentum.adam_two_betas"),
    Erratum(27, "wrong", "P 75, P Alg. 1", r"$-\beta_2 \sum g$ in the text, $+\beta_3 \sum g$ in the algorithm; f + 1 terms; nothing decays", "The plus sign and f terms. That nothing decays is a choice and no slip: sums are an option, moving averages the default.", "m3.printed"),
    Erratum(28, "wrong", "P 4.3", "at β = 0.9 the last 6 gradients hold 50 %, the last 43 hold 99 %", "7 and 44: the paper counts the index from 0.", "momentum.gradients_to_hold"),
    Erratum(29, "wrong", "P 64–65", r"$\|M k - v\|^2$ with the gradient $(M k - v) k^\top$", r"The gradient is $2 (M k - v) k^\top$; write ½‖·‖², or let η absorb the 2. [P 64] drops the same factor. [S 4–5] prints a loss and a step, no gradient: nothing is wrong there. In [P 93] no rescaling helps, because the same η erases: row 18.", "delta_rule.gradient"),
    Erratum(30, "unsupported", "tutorial", "early in a sequence the model generates easier targets: an implicit curriculum", "Not in the paper. Notebook 10 measures it: the equations do not bring it about, and in the trained model the curriculum runs the other way."),
    Erratum(31, "unsupported", "tutorial", "level 1 can query level 2", "No such query exists at run time. With an associative signal nothing passes between levels; with the task's loss a faster level's own update is the gradient sent back through the slower ones [P 3.3]."),
    Erratum(32, "typo", "P section 9", "Table 8, Table 9", "They are Figures 8 and 9."),
    Erratum(33, "wrong", "P Table 2", "average 47.32 (TTT, 760M) and 55.39 (Comba, 1.3B)", "The means of the rows are 49.38 and 55.51.", "tables.averages"),
    Erratum(34, "ambiguous", "P Table 2, P20 Table 1", "different figures for HOPE in the long and the short version", "Always cite the version."),
    Erratum(35, "ambiguous", "P Alg. 1, S 36–37", r"the second moment V that divides M3's step is of the gradient; the tutorial has none", r"Newton–Schulz takes the gradient's scale away, and $1/\sqrt{V}$ brings it back inverted: steps grow like one over the gradient. An option: of the update by default.", "m3.newton_schulz_scale"),
    Erratum(36, "wrong", "P 107–108", r"$(H + \lambda I)^{-1} P \tilde M$ as the minimiser of $\sum \|m\, g - P\|^2 + \lambda \|m\|^2$", "The inverse stands on the right of the product, as the identity has it. On the left it does not solve the regression, and [P 111] does not follow.", "expressive_optimisers.outer_product"),
)
# fmt: on


def markdown() -> str:
    """The whole of ERRATA.md: a summary, then one section per row."""
    counts = ", ".join(f"{sum(e.kind == kind for e in ERRATA)} {kind}" for kind in KINDS)
    lines = [
        "# Errata",
        "",
        "Generated from `hope_ref/symbolic/errata.py` by `make docs`; do not edit. NOTATION.md explains the sources.",
        "",
        f"{len(ERRATA)} rows: {counts}.",
        "",
        "A row that is *wrong* has two proofs that run in every test: the printed form leaves a residual, the corrected",
        "form leaves none. Its size is the relative error of the printed form, in the Frobenius norm, with every symbol",
        "drawn at random (positive ones from (0.2, 0.9)).",
        "",
    ]
    for erratum in ERRATA:
        lines += [
            f"## {erratum.row} · {erratum.kind} · [{erratum.place}]",
            "",
            f"- **printed**: {erratum.printed}",
            f"- **reading**: {erratum.reading}",
        ]
        identity, size = erratum.proof(), erratum.size()
        if identity is not None:
            lines.append(f"- **proof**: `{identity.name}`: {identity.claim}")
        if size is not None:
            lines.append(f"- **size of the slip**: {size:.0%}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
