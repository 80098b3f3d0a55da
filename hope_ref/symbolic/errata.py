r"""Where the sources slip, as data. ERRATA.md is made from it; the proofs are identities that run.

Each row is of one kind, a key of `KINDS`. A row that is *wrong* has an identity with two proofs: the printed form leaves
a residual, the corrected one leaves none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hope_ref import symbolic
from hope_ref.symbolic.identity import Identity, Sides, slip

KINDS = {
    "wrong": "the printed form is false: its proof leaves a residual, the corrected one leaves none",
    "typo": "a slip of the pen: what is meant is plain",
    "ambiguous": "the sources contradict each other or themselves, or leave a choice open: a named option or a word decides",
    "design choice": "nothing is false, but it does not do what a reader expects",
    "unsupported": "a claim that the sources do not show",
    "unsimplified": "true, but two quantities that look different are one",
}
LESSONS = Path(__file__).resolve().parents[2] / "notebooks"


@dataclass(frozen=True)
class Erratum:
    """One row.

    Attributes:
        row: its number, for good.
        kind: a key of KINDS.
        place: where it is printed.
        title: what is the matter, a sentence without formulas.
        printed: what stands there, in words and LaTeX.
        reading: what is right, or which choice this project makes.
        why: why it matters, one sentence.
        lesson: number of the notebook that treats it.
        identity: name of the identity whose `printed_proof` fails and whose `proof` holds; for rows that are not
            wrong, an identity that shows the point, if there is one.
    """

    row: int
    kind: str
    place: str
    title: str
    printed: str
    reading: str
    why: str
    lesson: str
    identity: str | None = None

    def proof(self) -> Identity | None:
        """The identity behind this row, if it has one."""
        return None if self.identity is None else symbolic.named(self.identity)

    def _printed_sides(self) -> Sides | None:
        identity = self.proof()
        if self.kind != "wrong" or identity is None or identity.printed_proof is None:
            return None
        return identity.printed_proof()

    def size(self) -> float | None:
        """Relative error of the printed form at a random point; None where nothing false is printed."""
        sides = self._printed_sides()
        return None if sides is None else slip(sides)

    def drawn(self) -> bool:
        """Whether the wrong print has symbols to draw: numbers and counts have none, and their size is no mean of anything."""
        sides = self._printed_sides()
        return sides is not None and any(getattr(side, "free_symbols", None) for side in sides)

    def notebook(self) -> Path:
        """The notebook of its lesson; ValueError if there is none."""
        found = sorted(LESSONS.glob(f"{self.lesson}_*.ipynb"))
        if len(found) != 1:
            raise ValueError(
                f"lesson must be the number of one notebook, got {self.lesson!r} in row {self.row}"
            )
        return found[0]


# fmt: off
ERRATA: tuple[Erratum, ...] = (
    Erratum(1, "wrong", "S 16", "Under the arg min stands the wrong sign of u",
        r"$\arg\min_W \langle W x, u \rangle + \frac{1}{2\eta}\|W - W_t\|^2$ with $u = -\nabla_y \mathcal{L}$",
        r"That walks up the loss. With $u = -\nabla_y \mathcal{L}$ the first term is $-\langle W x, u \rangle$; [P 55] has $+\nabla_y \mathcal{L}$ in its place.",
        "Whoever codes the print climbs the loss from the first step.", "03", "gradient_descent.wrong_sign"),
    Erratum(2, "wrong", "S 18, P App. C", "The tutorial's η is an inverse learning rate",
        r"$2 (W_{t+1} x - u) x^\top + 2 \eta (W_{t+1} - W_t) = 0$",
        r"The gradient of the printed objective [S 17] is $(W x - u) x^\top + \frac{1}{\eta}(W - W_t)$. Doubled and set to zero it says the same; the slip is η for its inverse. The rest of the chain reads η as the inverse learning rate.",
        "Code that takes this η for a learning rate takes small steps where large ones are meant.", "04", "delta_gradient_descent.stationarity"),
    Erratum(3, "wrong", "P 114–121", "The appendix regresses on the gradient and not on minus the gradient",
        r"$+\nabla_y \mathcal{L}$ in the place of $u = -\nabla_y \mathcal{L}$, and λ in the place of λ²",
        r"Taken literally the step climbs the loss. $W_{t+1} = W_t (I - a\, x x^\top) - a \nabla_y \mathcal{L}\, x^\top$ with $a = 1/(\lambda^2 + \eta)$, η the inverse rate.",
        "Taken literally the derivation of Delta Gradient Descent ends in ascent.", "A4", "delta_gradient_descent.appendix_sign"),
    Erratum(4, "unsimplified", "S 21", "Two letters for one number",
        r"$\beta_t = \frac{1}{\eta} - \frac{\lambda^2}{\eta(\lambda^2 + \eta)}$ beside $\alpha_t = \frac{1}{\lambda^2 + \eta}$",
        r"$\beta_t = \alpha_t$: one number, not two.",
        "There is one step size to choose, not two.", "04", "delta_gradient_descent.beta_is_alpha"),
    Erratum(5, "wrong", "P 57", "The effective step holds for inputs of length one only",
        r"$\eta' = \eta / (1 + \eta)$",
        r"Only for $\|x\| = 1$; for every length $\eta' = \eta / (1 + \eta \|x\|^2)$.",
        "On longer inputs the printed step overshoots, and nothing shows it where keys are normalised.", "04", "delta_gradient_descent.step"),
    Erratum(6, "wrong", "P20 28–29", "The short version's erase has no step size",
        r"$W_t (I - x x^\top) - \eta \nabla_y \mathcal{L}\, x^\top$",
        r"No step size on the erase: without a gradient it wipes the direction out at $\|x\| = 1$ and diverges for $\|x\|^2 > 2$. The one step of gradient descent that the text announces is $W_t (I - \eta x x^\top) - \eta \nabla_y \mathcal{L}\, x^\top$. Superseded by [P 57].",
        "Coded as printed it diverges on inputs longer than √2.", "04", "delta_gradient_descent.conference_step"),
    Erratum(7, "wrong", "S 15", "A level is not 0 between its updates",
        r"$\theta_{i+1} = 0$ unless $i \equiv 0 \pmod C$",
        "The *update* is 0; θ stays as it is, and the tutorial says so below the formula: “the update is zero, the parameters freeze”. [P 71] subtracts the braces.",
        "Coded as printed, a level is empty at all tokens but those of a boundary.", "08", "continuum_memory.otherwise"),
    Erratum(8, "wrong", "S 15, P 71", "A chunk has C terms, not C + 1",
        r"$\sum_{t=i-C}^{i}$",
        "That has C + 1 terms and counts each boundary token twice: the sum runs from $i - C + 1$.",
        "Each boundary token is learnt twice.", "08", "continuum_memory.window"),
    Erratum(9, "ambiguous", "below S 15, P 70", "Frequency is counted per two different windows",
        r"$f_\ell = L_{\max} / C^{(\ell)}$",
        "Updates per window; the tutorial takes the longest sequence as the window, the paper the largest chunk. Say which.",
        "One figure names different clocks in the two sources.", "08"),
    Erratum(10, "ambiguous", "below S 35", "Which rule moves a level of the continuum memory",
        "each level of the continuum memory updates by Delta Gradient Descent",
        "The paper lets any optimiser's error signal stand there and asks for a simple rule; gradient descent is the default, Delta Gradient Descent an option.",
        "The two rules give different models.", "08"),
    Erratum(11, "ambiguous", "S 14, P 73, P Fig. 5", "Which level comes first",
        "level 1 is the fast one",
        "The figure and the tutorial apply the fast level first; [P 73] counts the slow one first. An option, fast to slow by default.",
        "The order changes what every level sees as its input.", "08"),
    Erratum(12, "wrong", "S 30–33, P 90", "The printed boundary is the end of the chunk",
        r"$\mathcal{M}_{C \lceil t/C \rceil}$",
        r"The state at the *end* of the chunk: the future. Causal is $C \lfloor t/C \rfloor$ for tokens counted from 0. The paper says it right in words: “the last state of the previous chunk” [P 8.2].",
        "A memory read there has been told the answer: the model looks better than it is.", "07", "chunks.boundary"),
    Erratum(13, "ambiguous", "S 34, P 82, P 83, P 90", "Before or after the write, or at the boundary",
        "the read uses $M_t$, $M_{t-1}$ or the boundary state",
        "Three conventions in one paper; an option, after the write by default.",
        "The output of a token does or does not know the token's own pair.", "07"),
    Erratum(14, "wrong", "S 13", "Momentum's objective has the wrong sign",
        r"$\min_m -\langle m, \nabla_W \mathcal{L} \rangle$",
        r"A gradient step on it gives $m + \eta \nabla$; the update printed with it needs $+\langle m, \nabla_W \mathcal{L} \rangle$.",
        "A gradient step on the print collects ascent.", "05", "momentum.step"),
    Erratum(15, "wrong", "P 19–20", "The score of a nested system has the wrong sign",
        r"$\langle \Phi x, -\nabla_y \mathcal{L} \rangle$ under an arg min",
        r"It must be $+\nabla_y \mathcal{L}$, as in [P 9].",
        "The definition on which the paper builds describes ascent.", "03", "gradient_descent.wrong_sign_paper"),
    Erratum(16, "wrong", "P 92", "For the dot product the write is added, not subtracted",
        r"$M (\alpha I - \eta k k^\top) - \eta \hat v k^\top$ for the dot product",
        r"The gradient of $-\langle M k, \hat v \rangle$ is $-\hat v k^\top$, so the write is $+\eta \hat v k^\top$.",
        "Coded as printed, the memory learns minus the value.", "10", "delta_gradient_descent.dot_product_sign"),
    Erratum(17, "wrong", "P 64–65", "The erase stands on the right of the memory",
        r"$(I - \eta k k^\top) M_{t-1} + \eta v k^\top$",
        r"For a memory that acts as $M k$ the factor stands on the right; on the left it does not even fit for $d_v \ne d_k$.",
        "On the left it acts on values, or has no meaning at all.", "02", "delta_rule.one_step"),
    Erratum(18, "design choice", "P 88, P 93", "Delta Gradient Descent on a regression rests at half the value",
        "Delta Gradient Descent on the regression loss",
        "The erase is counted twice: the fixed point is $v/2$ (with ½‖·‖²) or $2v/3$ (without), not $v$. Kept, documented, and an option.",
        "Who expects a memory that answers v will search long for the missing half.", "04", "delta_gradient_descent.fixed_points"),
    Erratum(19, "ambiguous", "S 27, P 83", "Whether the query's projection adapts",
        "□ ranges over q too, while $q_t = x_t W_q$ is called the only non-adaptive projection",
        "An option, not adaptive by default.",
        "One sentence and one index set of the paper exclude each other.", "10"),
    Erratum(20, "ambiguous", "P Table 6", "The ablation removes a momentum that no equation has",
        "an ablation without momentum",
        "No momentum appears in [P 83–97]. An option, off by default.",
        "The model of the table cannot be rebuilt from the equations alone.", "10"),
    Erratum(21, "ambiguous", "P 79, P 89", "A memory of d numbers is used as one number",
        r"$\mathcal{M}_\eta, \mathcal{M}_\alpha$ map d numbers to d numbers, but η and α are scalars",
        "Scalar read-outs, with biases outside the decaying memories.",
        "Every implementation has to invent a read-out, and they differ.", "10"),
    Erratum(22, "ambiguous", "S 29, P 88", "One key cannot erase in both layers",
        r"$(\alpha I - \eta k k^\top)$ on a two-layer MLP",
        r"It fits $W_2$, whose input is k, but not $W_1$, whose input is $\sigma(W_2 k)$: each weight takes the step along its own input.",
        "The erase of the first weight has no meaning until its input is chosen.", "10"),
    Erratum(23, "wrong", "P 49", "Delta momentum's erase has no step size",
        r"$m (\alpha I - g^\top g) - \eta P g$",
        r"No step size on the erase, and the sign of P belongs to $\frac12\|m g^\top + P\|^2$: $m (\mu I - \eta g^\top g) - \eta P g$.",
        "The momentum diverges where gradients are large.", "05", "momentum.delta_momentum"),
    Erratum(24, "wrong", "P 44", "The orthogonalising step has a term that its objective has not",
        r"$O - \zeta (O - g + 2 O (O^\top O - I))$",
        r"The gradient of [P 43] is $4 O (O^\top O - I)$; at $\zeta = 1/8$ it gives the cubic Newton–Schulz step. There is no $(O - g)$ in it. At the printed start, O = g, that term vanishes, and the printed step at $\zeta = 1/4$ is the cubic one as well.",
        "After the first step the print is drawn back to the gradient.", "05", "newton_schulz.gradient"),
    Erratum(25, "wrong", "P 103–105", "The update of Adam's form climbs",
        r"$W - \eta m^*$ with $g = -\nabla$",
        r"Ascent: $W + \eta m^*$, or $g = +\nabla$.",
        "The letter g is minus the gradient, so that subtracting it is ascent.", "05", "momentum.adam_sign"),
    Erratum(26, "unsupported", "tutorial, P App. B", "Adam is optimal for a target that is chosen for it",
        "Adam is the optimal associative memory for gradients",
        r"With sums the minimiser has AdaGrad's denominator; with weights $\beta^{t-i}$ that sum to 1 it is exactly Adam with $\beta_1 = \beta_2$ and ε = 0; for this target P, $\beta_1 \ne \beta_2$ solves no single such regression. P is free: with a P that holds the second weights too, Adam with both is the minimiser; the target is chosen to make it so.",
        "A claim of optimality is as strong as its objective is natural.", "05", "momentum.adam_two_betas"),
    Erratum(27, "wrong", "P 75, P Alg. 1", "M3 in the text and M3 in the algorithm are two",
        r"$-\beta_2 \sum g$ in the text, $+\beta_3 \sum g$ in the algorithm; f + 1 terms; nothing decays",
        "The plus sign and f terms. That nothing decays is a choice and no slip: sums are an option, moving averages the default.",
        "With the text's sign the slow momentum works against the fast one.", "09", "m3.slow_sum"),
    Erratum(28, "wrong", "P 4.3", "Six and forty-three gradients are counted from 0",
        "at β = 0.9 the last 6 gradients hold 50 %, the last 43 hold 99 %",
        "7 and 44: the paper counts the index from 0.",
        "The horizon of momentum is one gradient longer.", "05", "momentum.gradients_to_hold"),
    Erratum(29, "wrong", "P 64–65", "The gradient of the squared error lacks its 2",
        r"$\|M k - v\|^2$ with the gradient $(M k - v) k^\top$",
        r"The gradient is $2 (M k - v) k^\top$; write ½‖·‖², or let η absorb the 2. [P 64] drops the same factor. [S 4–5] prints a loss and a step, no gradient: nothing is wrong there. In [P 93] no rescaling helps, because the same η erases: row 18.",
        "In the delta rule a learning rate absorbs the factor; where the same rate erases it changes the fixed point.", "02", "delta_rule.gradient"),
    Erratum(30, "unsupported", "tutorial", "Easier targets early in a sequence",
        "early in a sequence the model generates easier targets: an implicit curriculum",
        "Not in the paper. Notebook 10 measures it: the equations do not bring it about, and in the trained model the curriculum runs the other way.",
        "It is told as an effect of the architecture, and the measurement says the opposite.", "10"),
    Erratum(31, "unsupported", "tutorial", "Level 1 does not ask level 2",
        "level 1 can query level 2",
        "No such query exists at run time. With an associative signal nothing passes between levels; with the task's loss a faster level's own update is the gradient sent back through the slower ones [P 3.3].",
        "A reader looks for a read between levels that no equation has.", "08"),
    Erratum(32, "typo", "P section 9", "Two figures are called tables",
        "Table 8, Table 9",
        "They are Figures 8 and 9.",
        "A reader looks for tables that are not there.", "12"),
    Erratum(33, "wrong", "P Table 2", "Two averages are not the means of their rows",
        "average 47.32 (TTT, 760M) and 55.39 (Comba, 1.3B)",
        "The means of the rows are 49.38 and 55.51.",
        "Two baselines look weaker than their own rows.", "12", "tables.averages"),
    Erratum(34, "ambiguous", "P Table 2, P20 Table 1", "Two versions of the paper, two sets of figures",
        "different figures for HOPE in the long and the short version",
        "Always cite the version.",
        "A comparison without the version cannot be checked.", "12"),
    Erratum(35, "ambiguous", "P Alg. 1, S 36–37", "Which second moment divides M3's step",
        "the second moment V that divides M3's step is of the gradient; the tutorial has none",
        r"Newton–Schulz takes the gradient's scale away, and $1/\sqrt{V}$ brings it back inverted: steps grow like one over the gradient. An option: of the update by default.",
        "With the printed one, small gradients make large steps.", "09", "m3.newton_schulz_scale"),
    Erratum(36, "wrong", "P 107–108", "The inverse stands on the wrong side",
        r"$(H + \lambda I)^{-1} P \tilde M$ as the minimiser of $\sum \|m\, g - P\|^2 + \lambda \|m\|^2$",
        "The inverse stands on the right of the product, as the identity has it. On the left it does not solve the regression, and [P 111] does not follow.",
        "What follows for matrix-valued AdaGrad rests on it.", "05", "expressive_optimisers.outer_product"),
    Erratum(37, "unsupported", "below S 21", "Repeated inputs do not make the step forget more",
        "“Repeated inputs → forget more”; “when inputs are diverse, you decay less”",
        "The step knows the current input alone: how much it erases depends on that input's length, and not on how often it came. What is orthogonal to it stays. So inputs that repeat wear down one direction, and diverse ones, in the end, all of them.",
        "It reads like a memory that watches the stream's statistics; there is no such part.", "04", "delta_gradient_descent.orthogonal"),
    Erratum(38, "ambiguous", "S 37", "K names a momentum and its period",
        r"the momentum is called K and moves at $i \equiv 0 \pmod K$; the sum over j has no range",
        "Two numbers: which momentum it is, and after how many steps it moves, here f. The sum takes the gradients since the last move.",
        "With one letter for both, the second momentum would move every second step.", "09"),
    Erratum(39, "design choice", "S 37", "The slow momentum is a mean of sums",
        r"$(1 - \beta_K) \sum_j \nabla_W \mathcal{L}_j$",
        "Under a constant gradient $g$ the fast mean tends to $g$ and the slow one to $f g$. Newton–Schulz takes the factor out of each; without it the weight of the slow one would have to.",
        "Without Newton–Schulz the slow momentum drowns the fast one.", "09", "m3.ema_limit"),
    Erratum(40, "typo", "S 2", "A transposition too many",
        r"$-\langle M K, V^\top \rangle$",
        r"With keys and values as columns it is $-\langle M K, V \rangle$; [S 4] has them so.",
        "The two objectives of the chapter do not take the same arrays.", "01"),
    Erratum(41, "typo", "S 9", "The learning rate is that of the next step",
        r"$\eta_{t+1}$",
        "η_t, as in [S 6–8]: it is the same step.",
        "It reads as if the rate were generated after the step.", "03", "gradient_descent.self_referential"),
    Erratum(42, "typo", "S 12–13", "The gradient is taken at two different tokens",
        r"the update has $\nabla_W \mathcal{L}(W_t; x_{t+1})$, its objective $\nabla_W \mathcal{L}(W_t; x_t)$",
        "One gradient, that of the token which the momentum takes in.",
        "The objective would explain the update of a step earlier.", "05"),
    Erratum(43, "ambiguous", "S 22, S 24", "Tokens are rows in one formula and columns in the next",
        "$k_t = x_t W_k$ beside $y_t = M_t q_t$",
        "Rows for the projections, columns for the memory. Formulas have columns here, arrays have rows.",
        "A weight copied from one to the other has to be transposed.", "06"),
    Erratum(44, "ambiguous", "below S 34", "States move at every token",
        "“we update memory states at chunk boundaries”",
        "By [S 33] states move at every token. What waits for the boundary is what is generated, and the state at which the gradient is taken.",
        "Someone who moves the states at boundaries only builds another model.", "07"),
    Erratum(45, "unsupported", "below S 15", "A slower level does not have what a faster one forgot",
        "“Level 2 still has it”",
        "Until its own boundary a level has not moved, so it has nothing yet of the stream. Afterwards it has its own step on its own chunk; a faster level hands nothing over. Whether that keeps more is a question for a measurement, and the lesson has one.",
        "It is the argument for several speeds, and it is not in the equations.", "08"),
    Erratum(46, "typo", "P 41", "The preconditioner stands on both sides",
        r"$P_{t+1} = P_{t+1} - \zeta_{t+1} \nabla_{P_t} \tilde{\mathcal{L}}$",
        "The step starts from P_t.",
        "As printed it defines nothing.", "05", "expressive_optimisers.preconditioner"),
    Erratum(47, "typo", "P 59–60", "Values are called keys",
        r"data are mapped “to a set of self-generated keys”; $\tilde{\mathcal{L}}(x_t, u_t)$ has no W in it",
        "Values: [P 60] says so itself. The loss compares u_t with what W answers to x_t.",
        "A loss without W has nothing to minimise.", "05", "expressive_optimisers.general_step"),
    Erratum(48, "typo", "P 66–67", "Oja's gradient subtracts a matrix from a column",
        r"$M^\top v - v k^\top$ (φ left out)",
        r"The gradient of $-2 \langle M k, v \rangle + \|M^\top v\|^2$ is $2 (v v^\top M - v k^\top)$; a rate absorbs the 2.",
        "As printed the shapes do not fit.", "02"),
    Erratum(49, "typo", "P 68", "The Omega rule subtracts a loss from a weight",
        r"$M_t = \alpha_t M_{t-1} - \sum_i \gamma_{t,i} \tilde{\mathcal{L}}(M_t; k_i, v_i)$",
        "The loss's gradient, at the state before the step.",
        "A loss is a number and no direction.", "02"),
    Erratum(50, "typo", "P 75", "The slow momentum stands on both sides",
        r"$M^{(2)}_t = M^{(2)}_t - \dots$",
        "The state before the step stands on the right.",
        "As printed it defines nothing.", "09"),
    Erratum(51, "unsupported", "P 98–99", "A proximal step is not gradient descent",
        "“optimized using gradient descent, or equivalently” as the minimiser of the loss plus the cost of moving",
        "That is an implicit step on the loss itself. Gradient descent is the minimiser for the *linearised* loss, as in [P 9] and [P 19–20]; on a regression the two differ.",
        "Delta Gradient Descent is the case in which they differ, so the definition blurs the paper's own point.", "04", "expressive_optimisers.general_cases"),
    Erratum(52, "unsupported", "P 102", "The betas do not follow from the objective",
        r"$\beta_1$ and $\beta_2$ in the “optimal” memory of [P 101]",
        "The objective weighs all gradients alike, so its minimiser has plain sums. Weights in the objective stand in both sums, the same in both.",
        "Two free rates are what makes Adam Adam, and they are put in by hand.", "05", "momentum.adam_regression"),
    Erratum(53, "wrong", "P 104", "The rate is divided by β₂, not multiplied",
        r"$\eta \beta_2 \tilde M$ with $P = H / \beta_2$",
        r"From $H^{-1} P = 1 / \beta_2$ the step is $\eta \tilde M / \beta_2$. Its sign is that of row 25.",
        "The print inverts the effect of β₂ on the step.", "05", "momentum.adam_rate"),
    Erratum(54, "ambiguous", "P Def. 2, P Fig. 3, P 73", "Levels are counted from both ends",
        "“the higher the level is, the lower its frequency”, beside “the first level (with frequency 1)”, which is pre-training",
        "By the definition the first level is the fastest, by the figure and [P 73] the slowest. Here levels count from the fast end.",
        "“A higher level” means opposite things on neighbouring pages.", "13"),
    Erratum(55, "unsupported", "P App. B", "AdaGrad is no case of the sum of gradients",
        r"the form “generalizes the AdaGrad”, “when $\beta_1 = 1$”",
        "At that value the numerator is the sum of all gradients; AdaGrad moves along the last one alone.",
        "The claimed special case is another optimiser.", "05"),
    Erratum(56, "ambiguous", "P Fig. 7", "Frequencies that behave like chunk lengths",
        "“the higher the lowest-frequency the lower the performance”, and “2K” is cheaper than “512”",
        "A level that moves more often costs more. So the two numbers read as chunk lengths, and the sentence is about these.",
        "Read as frequencies, the figure recommends the opposite setting.", "08"),
    Erratum(57, "unsupported", "P Table 1, P 9.2", "Hope is not the best in every cell",
        "“the best performance across all tasks and levels of difficulties” among attention-free models",
        "Titans is ahead in 2 cells, S-NIAH-2 and S-NIAH-3 at 4K; of 18 cells Hope wins 13 and ties 3.",
        "The claim is stronger than its table.", "12"),
    Erratum(58, "unsupported", "P Table 1, P 9.2", "Hope-Attention against the Transformer is a mixed picture",
        "“Hope-Attention achieves a better performance compared to Transformers”",
        "It is ahead in 11 of 18 cells, equal in 1 and behind in 6.",
        "The comparison is the paper's evidence for the continuum memory.", "12"),
    Erratum(59, "unsupported", "P Table 6", "One component costs perplexity",
        "“All components of Hope are positively contributing to its performance”",
        "Without the inner projection of q the perplexity falls from 12.24 to 12.19, and the accuracy from 58.1 to 57.4. The text has it right: “perplexity in language modeling and/or accuracy”.",
        "Whether the query should adapt (row 19) is open by this table.", "12"),
    Erratum(60, "typo", "P 7.2", "An algorithm is called a figure",
        "the pseudocode of M3 is “in Figure 1”",
        "It is Algorithm 1.",
        "A reader looks in the wrong place.", "09"),
    Erratum(61, "typo", "P 9.1", "A digit is missing in the size of a data set",
        "Banking with “3083 examples”",
        "The data set has 13,083.",
        "The share of the data used cannot be worked out.", "12"),
)
# fmt: on


_TAG = re.compile(r"\b([SP]) (\d+)((?:–\d+)?)(?!\d|\.\d)")


def _linked(text: str, brackets: bool) -> str:
    """Equations as links to their rows in NOTATION.md: those in brackets, or all of them if brackets are to be added."""

    def link(match: re.Match[str]) -> str:
        return f"[[{match[0]}]](NOTATION.md#{match[1].lower()}-{match[2]})"

    if brackets:
        return _TAG.sub(link, text)
    return re.sub(rf"\[({_TAG.pattern})\]", lambda found: _TAG.sub(link, found[1]), text)


def _section(erratum: Erratum) -> list[str]:
    identity, notebook = erratum.proof(), erratum.notebook()
    lines = [
        f"## {erratum.row} · {erratum.title}",
        "",
        f"{_linked(erratum.place, brackets=True)} · *{erratum.kind}*",
        "",
        f"- **Printed**: {_linked(erratum.printed, brackets=False)}",
        f"- **Meant**: {_linked(erratum.reading, brackets=False)}",
        f"- **Why it matters**: {erratum.why}",
        f"- **Lesson**: [{erratum.lesson}](notebooks/{notebook.name})",
    ]
    if identity is not None:
        lines.append(f"- **Proof**: `{identity.name}`: {identity.claim}")
    if erratum.drawn():
        lines.append(f"- **Size of the slip**: {erratum.size():.0%}")
    return [*lines, ""]


def markdown() -> str:
    """The whole of ERRATA.md: how to read it, then one section per row."""
    lines = [
        "# Errata",
        "",
        "Generated from `hope_ref/symbolic/errata.py` by `make docs`; do not edit.",
        "",
        "Where the two sources of this project slip, contradict each other or claim more than they show: the paper *Nested Learning*",
        "([arXiv:2512.24695](https://arxiv.org/abs/2512.24695), **[P n]** its equation n, **[P20 n]** that of its short version) and the",
        "tutorial *HOPE: A Self-Referential Module* (**[S n]**, its n-th displayed formula). [NOTATION.md](NOTATION.md) lists the",
        "equations, [REFERENCES.md](REFERENCES.md) the sources.",
        "",
        "A row says what is printed, what is meant, and why it matters; its number is for good. Its kind is one of these:",
        "",
        "| kind | rows | meaning |",
        "|---|---|---|",
        *(
            f"| *{kind}* | {sum(e.kind == kind for e in ERRATA)} | {meaning} |"
            for kind, meaning in KINDS.items()
        ),
        "",
        "Both proofs of a wrong row run in every test. The size of a slip is the relative error of the printed form, in the Frobenius",
        "norm, with every symbol drawn at random (positive ones from (0.2, 0.9)); where there is no symbol there is no such size. It does",
        "not say how much harm a slip does. [A1](notebooks/A1_take_the_errata_tour.ipynb) runs every row.",
        "",
    ]
    for erratum in ERRATA:
        lines += _section(erratum)
    return "\n".join(lines).rstrip() + "\n"
