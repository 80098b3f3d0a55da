r"""Every symbol once, as data: name in code, LaTeX, shape, meaning and source; and the tutorial's formulas, numbered.

NOTATION.md and the symbol table at the top of each notebook are made from `SYMBOLS`. Sources are written as

* ``S n``   the n-th displayed formula of the tutorial *HOPE: A Self-Referential Module* (`TUTORIAL_FORMULAS`);
* ``P n``   equation n of the long version of *Nested Learning: The Illusion of Deep Learning Architecture*
  (Behrouz, Razaviyayn, Zhong, Mirrokni, 2025); ``P20 n`` equation n of its short conference version;
* ``Titans`` the Titans paper (Behrouz, Zhong, Mirrokni, 2024);
* ``D``     a decision of this project, where the sources are silent or contradict themselves.
"""

from __future__ import annotations

from typing import NamedTuple


class Symbol(NamedTuple):
    """One symbol: its name in code, its LaTeX, the shape of the array, its meaning, and where it comes from."""

    name: str
    latex: str
    shape: str
    meaning: str
    source: str
    topic: str


class Formula(NamedTuple):
    """One displayed formula of the tutorial: its number, its LaTeX as printed, and the concept it belongs to."""

    number: int
    latex: str
    concept: str


def _symbols(topic: str, *rows: tuple[str, str, str, str, str]) -> tuple[Symbol, ...]:
    return tuple(Symbol(*row, topic) for row in rows)


# fmt: off
SYMBOLS: tuple[Symbol, ...] = (
    *_symbols(
        "sequences and sizes",
        ("t", "t", "integer", "position of a token, counted from 0 in code", "S 3"),
        ("length", "T", "integer", "number of tokens in a sequence", "D"),
        ("d", "d", "integer", "width of a token", "D"),
        ("d_k", "d_k", "integer", "width of keys and queries", "P 6"),
        ("d_v", "d_v", "integer", "width of values", "P 6"),
        ("hidden", "h", "integer", "hidden width of an MLP memory", "D"),
        ("x", "x_t", "(d,)", "token t, or the input of a linear layer; a sequence stacks rows, (T, d)", "S 7"),
        ("k", "k_t", "(d_k,)", "key: what a memory is addressed with", "S 3"),
        ("v", "v_t", "(d_v,)", "value: what a memory is to answer", "S 3"),
        ("q", "q_t", "(d_k,)", "query: what a memory is asked", "S 22"),
        ("y", "y_t", "(d_v,)", "output: the memory's answer to the query", "S 24"),
        ("keys", "K", "(T, d_k)", "all keys of a sequence, one per row (the sources use columns)", "S 1"),
        ("values", "V", "(T, d_v)", "all values of a sequence, one per row", "S 1"),
        ("queries", "Q", "(T, d_k)", "all queries of a sequence, one per row", "D"),
        ("chunk_size", "C", "integer", "tokens per chunk", "P 90"),
        ("boundary", "b(t)", "integer", "C ⌊t/C⌋: the tokens that the state at the chunk's start has seen", "D"),
        ("outputs", "Y", "(T, d_v)", "all outputs of a sequence, one per row", "S 24"),
        ("other", "i, j", "integer", "positions in a sum", "D"),
        ("frobenius", r"\|W\|_F", "scalar", "Frobenius norm: the root of the sum of all squared entries", "D"),
        ("unknown", "A", "shape of W", "a weight that is solved for", "D"),
        ("change", r"\Delta", "function", "any rule by which a state changes, of state and context", "P 2"),
    ),
    *_symbols(
        "memories",
        ("memory", "M", "(d_v, d_k)", "matrix memory, acts as M k; M_t is its state after token t", "S 1"),
        ("loss", r"\mathcal{L}", "scalar", "what one step of a memory makes smaller", "S 1"),
        ("eta", r"\eta", "scalar per token", "inner learning rate, ≥ 0", "S 5"),
        ("alpha", r"\alpha", "scalar per token", "retention: 1 keeps, 0 erases (Titans' α is 1 minus this)", "S 29"),
        ("lam", r"\lambda", "scalar", "‖x‖₂ of the vector that a rank-one step is taken along", "S 18"),
        ("identity", "I", "(d, d)", "identity matrix", "S 18"),
        ("w1", "W_1", "(d, h)", "second layer of an MLP memory, applied last", "S 28"),
        ("w2", "W_2", "(h, d)", "first layer of an MLP memory, applied first", "S 28"),
        ("silu", r"\sigma", "function", "activation of the memories, z / (1 + exp(-z))", "D"),
    ),
    *_symbols(
        "gradient descent as a memory",
        ("w", "W", "(d_out, d_in)", "weight of a linear layer y = W x", "S 6"),
        ("grad_y", r"\nabla_y \mathcal{L}", "(d_out,)", "gradient of the loss at the layer's output", "S 7"),
        ("surprise", r"v_t = -\nabla_{y} \mathcal{L}", "(d_out,)", "the value that gradient descent writes: minus the gradient", "S 10"),
        ("u", "u_t", "(d_out,)", "wanted output of a layer; minus the gradient in Delta Gradient Descent", "S 17"),
        ("eta_prime", r"\eta'", "scalar", "η / (1 + η λ²), the step of Delta Gradient Descent", "P 57"),
        ("inputs", "X", "(C, d_in)", "the inputs of a chunk, one per row (columns in formulas)", "D"),
        ("wanted", "U", "(C, d_out)", "the wanted outputs of a chunk, one per row", "D"),
        ("eta_step", r"\tilde\eta", "scalar", "the step actually taken, e.g. η / (1 + η ‖φ‖²)", "D"),
    ),
    *_symbols(
        "momentum and optimisers",
        ("gradient", "g_t", "shape of W", "gradient of the loss with respect to the weights", "P 10"),
        ("m", "m_t", "shape of W", "momentum: a memory of gradients", "S 11"),
        ("mu", r"\mu", "scalar", "momentum decay (the sources' α here; Titans calls it η)", "S 12"),
        ("beta", r"\beta", "scalar", "decay of an exponential moving average", "S 36"),
        ("target", "P", "(rows, rows) or scalar", "what delta momentum is to answer to a gradient; 1 for a parameter vector", "P 46"),
        ("weights", "w_i", "(n,)", "weight of gradient i in Adam's regression", "D"),
        ("lam_ridge", r"\lambda_m", "scalar", "ridge of Adam's regression", "P 101"),
        ("psi", r"\psi(r, \theta)", "scalar", "the oscillating toy loss r² + κ (r - θ + a sin ωr)²", "P 53"),
        ("coupling", r"\kappa", "scalar", "weight of the oscillating term (k in the paper)", "P 53"),
        ("amplitude", r"a_\psi", "scalar", "amplitude of the oscillation (α in the paper)", "P 53"),
        ("omega", r"\omega", "scalar", "frequency of the oscillation", "P 53"),
        ("o", "O", "(rows, columns)", "a matrix on its way to orthogonality", "P 43"),
        ("newton_schulz", r"\mathrm{NS}_n", "function", "n Newton–Schulz steps from X / (‖X‖_F + 1e-7)", "P 42"),
        ("zeta", r"\zeta", "scalar", "step size on ‖OᵀO - I‖²; 1/8 gives the cubic Newton–Schulz step", "P 44"),
    ),
    *_symbols(
        "expressive optimisers",
        ("g_hat", r"\hat g_t", "(columns,)", "what a preconditioner has to map to the gradient", "P 40"),
        ("p", "P", "(rows, columns)", "a preconditioner; what a momentum is to answer, the target of the topic above", "P 38"),
        ("feature", r"\phi(g)", "function", "feature of the gradient, entry by entry", "P 51"),
        ("output", r"\sigma(m)", "function", "what a momentum's answer goes through; σ of the memories in a deep momentum", "P 52"),
        ("scale", "s", "scalar", "size of a step whose output has lost its scale", "D"),
        ("left", "L", "(rows, rows)", "Shampoo's sum of outer products g gᵀ", "P 106"),
        ("right", "R", "(columns, columns)", "Shampoo's sum of outer products gᵀ g", "P 106"),
        ("outer_sum", "H", "(d, d)", "Σ g_i g_iᵀ over the gradients of a regression", "P 107"),
        ("gradient_sum", r"\tilde M", "(1, d)", "Σ g_iᵀ over the gradients of a regression", "P 107"),
        ("retention", "r_j, A_j", "list of pairs", "rates and anchors of a step: Σ_j (r_j/2)‖W - A_j‖²; ρ and Ā are the rates' sum and the anchors' mean", "P 59"),
        ("curvature", r"\delta", "0 or 1", "0 for the loss -⟨W x, u⟩, 1 for ½‖W x - u‖²", "D"),
    ),
    *_symbols(
        "Titans and chunks",
        ("momentum_state", "B_t", "shape of M", "inner momentum of a memory", "Titans"),
        ("state", "S_t", "(d_out, d_in)", "state of a rank-one recurrence", "D"),
        ("phi", r"\varphi_t", "(d_in,)", "input that a rank-one write is made along", "D"),
        ("write", "w_t", "(d_out,)", "what token t writes: S_t = α_t S_{t-1} + w_t φ_tᵀ", "D"),
        ("gamma", r"\gamma_t", "scalar per token", "product of the retentions of a chunk up to token t", "D"),
        ("ratio", "D_{t,s}", "(C, C)", "γ_t / γ_s: what is left at t of a write made at s", "D"),
    ),
    *_symbols(
        "self-modifying Titans",
        ("box", r"\square", "one of k, v, q, eta, alpha, memory", "names a memory of the self-modifying Titans", "S 27"),
        ("v_hat", r"\hat v_{\square,t}", "(d,)", "self-generated target of memory □: M_□ at the boundary, applied to v_t", "S 27"),
        ("error", "e", "(d,)", "gradient of the inner loss at the memory's output", "D"),
        ("activation", "a", "(h,)", "σ(W_2 k_t), the input of W_1", "D"),
        ("z", "z_t", "scalar per token", "read-out of M_η before the step's own bias", "D"),
        ("eta_bias", r"c_\square", "scalar", "bias of the learning rate of memory □, outside the decaying memories", "D"),
        ("alpha_bias", r"c_\alpha", "scalar", "bias of the retention, outside the decaying memories", "D"),
        ("eta_readout", r"r_\eta", "(d,)", "scalar read-out of M_η", "D"),
        ("alpha_readout", r"r_\alpha", "(d,)", "scalar read-out of M_α", "D"),
        ("eta_max", r"\eta_{\max}", "scalar", "largest learning rate of explicit and normalised steps", "D"),
        ("surprise_bound", "c", "scalar", "bound on ‖u‖; 0 switches it off", "D"),
        ("retention_target", "R", "shape of W", "what forgetting returns to: W_0 or 0", "D"),
        ("erase_origin", "E", "shape of W", "what the erase term measures from: 0 or W_0", "D"),
        ("gain", "G_t", "(d, d)", "what all linear memories without the skip have moved by since the boundary: W_t = W_b G_t", "D"),
        ("gain_bound", r"\varrho", "scalar", "bound on what a write injects into the gain: η‖u‖‖k‖ ≤ ϱ (1 - α), at most 1; 0 switches it off", "D"),
        ("prediction", "p_t", "(d_out,)", "(W_{t-1} - E) φ_t, what the memory answers before the write", "D"),
        ("momentum_ratio", "c_{t,s}", "(C, C)", "Σ_{r=s..t} D_{t,r} μ^{r-s}: what is left at t of a momentum write made at s", "D"),
        ("momentum_reach", "b_t", "scalar per token", "Σ_{r=1..t} D_{t,r} μ^r: how much of B_0 has reached S_t", "D"),
        ("w_query", "W_q", "(d, d)", "query projection, the only one that does not adapt", "P 83"),
        ("o_t", "o_t", "(d,)", "output of the self-modifying Titans", "S 34"),
    ),
    *_symbols(
        "continuum memory system",
        ("level", r"\ell", "integer", "level of the continuum memory, listed fast to slow", "S 15"),
        ("theta", r"\theta^{(\ell)}", "parameters", "the weights of level ℓ, constant within its chunk", "S 15"),
        ("theta_start", r"\theta_0^{(\ell)}", "parameters", "the state that level ℓ starts from", "P 72"),
        ("level_chunk_size", r"C^{(\ell)}", "integer", "tokens between two updates of level ℓ", "S 15"),
        ("level_rate", r"\eta^{(\ell)}", "scalar", "learning rate of level ℓ", "S 15"),
        ("frequency", r"f_\ell", "scalar", "updates of level ℓ per longest sequence, L_max / C^(ℓ); in [P 70] per largest chunk", "S 15"),
        ("longest", r"L_{\max}", "integer", "longest sequence that frequencies are counted on", "S 15"),
        ("error_signal", r"f(\theta; x_t)", "parameters", "error signal of any optimiser, e.g. the gradient of the loss", "S 15"),
        ("level_function", r"f_\theta(z)", "(d,)", "W_1 σ(W_2 n): the residual branch of a level", "D"),
        ("normalised", "n", "(d,)", "RMSNorm(z) with a slow gain", "D"),
        ("level_value", r"V^{(\ell)}", "(d, d)", "value projection of the associative signal", "D"),
        ("nested_rate", r"\varepsilon_\theta", "scalar", "share of a level's result that its starting state takes over", "D"),
        ("level_weight", r"a_\ell", "scalar", "weight of level ℓ in the independent variant", "P 74"),
    ),
    *_symbols(
        "HOPE",
        ("heads", "H", "integer", "number of heads, each with its own memories", "D"),
        ("blocks", "N", "integer", "number of HOPE blocks", "D"),
        ("p_key", "P_k", "(d, d)", "input projection before the key memory", "D"),
        ("p_value", "P_v", "(d, d)", "input projection before the value memory", "D"),
        ("convolution_width", r"\mathrm{conv}", "integer", "width of the causal depthwise convolution, 4", "P 8.3"),
    ),
    *_symbols(
        "M3",
        ("m1", "m^{(1)}", "shape of W", "fast momentum, moves every step", "S 36"),
        ("m2", "m^{(2)}", "shape of W", "slow momentum, moves every f steps (m^(K) in the tutorial)", "S 37"),
        ("o1", "O_1", "shape of W", "Newton–Schulz of the fast momentum", "P Alg. 1"),
        ("o2", "O_2", "shape of W", "Newton–Schulz of the slow momentum", "P Alg. 1"),
        ("second_moment", "V", "shape of W", "running second moment that divides the update", "P Alg. 1"),
        ("slow_weight", "a", "scalar", "weight of the slow momentum in the update", "P Alg. 1"),
        ("slow_every", "f", "integer", "steps between two moves of the slow momentum", "P Alg. 1"),
        ("epsilon", r"\varepsilon", "scalar", "keeps the division away from zero", "P Alg. 1"),
    ),
)

_FORMULAS: tuple[tuple[str, str], ...] = (
    ("linear_attention", r"\mathcal{M}^* = \arg\min_{\mathcal{M}} \tilde{\mathcal{L}}(\mathcal{M}(\mathbf{K}); \mathbf{V})"),
    ("linear_attention", r"\tilde{\mathcal{L}} = -\langle \mathcal{M}\mathbf{K}, \mathbf{V}^\top \rangle"),
    ("linear_attention", r"\mathcal{M}_t = \mathcal{M}_{t-1} + \mathbf{v}_t \mathbf{k}_t^\top"),
    ("delta_rule", r"\tilde{\mathcal{L}} = \|\mathcal{M}\mathbf{K} - \mathbf{V}\|^2_2"),
    ("delta_rule", r"\mathcal{M}_t = \mathcal{M}_{t-1} - \eta_t (\mathcal{M}_{t-1}\mathbf{k}_t - \mathbf{v}_t)\mathbf{k}_t^\top"),
    ("gradient_descent", r"W_{t+1} = W_t - \eta_t \nabla_W \mathcal{L}(W_t; \mathbf{x}_t)"),
    ("gradient_descent", r"W_{t+1} = W_t - \eta_t \nabla_{y_t}\mathcal{L}(W_t; \mathbf{x}_t) \otimes \mathbf{x}_t"),
    ("gradient_descent", r"W_{t+1} = \arg\min_W \langle W\mathbf{x}_t, \nabla_{y_t}\mathcal{L}(W_t; \mathbf{x}_t) \rangle + \frac{1}{2\eta_t}\|W - W_t\|^2_2"),
    ("gradient_descent", r"W_{t+1} = W_t + \eta_{t+1} \mathbf{v}_t \otimes \mathbf{x}_t"),
    ("gradient_descent", r"\mathbf{v}_t = \mathbf{f}_{W_t}(\mathbf{x}_t) = -\nabla_{y_t}\mathcal{L}(W_t; \mathbf{x}_t)"),
    ("momentum", r"W_{t+1} = W_t + \mathbf{m}_{t+1}"),
    ("momentum", r"\mathbf{m}_{t+1} = \alpha_{t+1}\mathbf{m}_t - \eta_{t+1}\nabla_W \mathcal{L}(W_t; \mathbf{x}_{t+1})"),
    ("momentum", r"\min_{\mathbf{m}} -\langle \mathbf{m}, \nabla_W \mathcal{L}(W_t; \mathbf{x}_t) \rangle"),
    ("continuum_memory", r"\mathbf{y}_t = \text{MLP}^{(f_k)}(\text{MLP}^{(f_{k-1})}(\cdots \text{MLP}^{(f_1)}(\mathbf{x}_t)))"),
    ("continuum_memory", r"\theta^{(f_\ell)}_{i+1} = \begin{cases} \theta^{(f_\ell)}_i - \sum_{t=i-C^{(\ell)}}^{i} \eta^{(\ell)}_t f(\theta^{(f_\ell)}_t; \mathbf{x}_t) & \text{if } i \equiv 0 \pmod{C^{(\ell)}} \\ 0 & \text{otherwise} \end{cases}"),
    ("delta_gradient_descent", r"W_{t+1} = \arg\min_W \langle W\mathbf{x}_t, \mathbf{u}_t \rangle + \frac{1}{2\eta_t}\|W - W_t\|^2_2"),
    ("delta_gradient_descent", r"W_{t+1} = \arg\min_W \frac{1}{2}\|W\mathbf{x}_t - \mathbf{u}_t\|^2_2 + \frac{1}{2\eta_t}\|W - W_t\|^2_2"),
    ("delta_gradient_descent", r"2(W_{t+1}\mathbf{x}_t - \mathbf{u}_t)\mathbf{x}_t^\top + 2\eta_t(W_{t+1} - W_t) = 0"),
    ("delta_gradient_descent", r"W_{t+1}(\mathbf{x}_t\mathbf{x}_t^\top + \eta_t I) = \mathbf{u}_t\mathbf{x}_t^\top + \eta_t W_t"),
    ("delta_gradient_descent", r"(\mathbf{x}_t\mathbf{x}_t^\top + \eta_t I)^{-1} = \frac{1}{\eta_t}\left(I - \frac{1}{\lambda^2 + \eta_t}\mathbf{x}_t\mathbf{x}_t^\top\right)"),
    ("delta_gradient_descent", r"W_{t+1} = W_t\left(I - \frac{1}{\lambda^2+\eta_t}\mathbf{x}_t\mathbf{x}_t^\top\right) - \beta_t \nabla_{y_t}\mathcal{L}(W_t; \mathbf{x}_t) \mathbf{x}_t^\top"),
    ("self_modifying_titans", r"\mathbf{k}_t = \mathbf{x}_t W_k, \quad \mathbf{v}_t = \mathbf{x}_t W_v, \quad \mathbf{q}_t = \mathbf{x}_t W_q"),
    ("self_modifying_titans", r"\min_{\mathcal{M}} \mathcal{L}(\mathcal{M}; \mathbf{k}_t, \mathbf{v}_t)"),
    ("self_modifying_titans", r"\mathbf{y}_t = \mathcal{M}_t \mathbf{q}_t"),
    ("self_modifying_titans", r"\mathbf{k}_t = \mathcal{M}_{k,t-1}(\mathbf{x}_t), \quad \mathbf{v}_t = \mathcal{M}_{v,t-1}(\mathbf{x}_t)"),
    ("self_modifying_titans", r"\eta_t = \mathcal{M}_{\eta,t-1}(\mathbf{x}_t), \quad \alpha_t = \mathcal{M}_{\alpha,t-1}(\mathbf{x}_t)"),
    ("self_modifying_titans", r"\hat{\mathbf{v}}_{\square,t} = \mathcal{M}_{\square,t-1}(\mathbf{v}_t) \quad \text{for } \square \in \{k, v, q, \eta, \alpha, \text{memory}\}"),
    ("self_modifying_titans", r"\mathcal{M}_{\square}(\cdot) = (\cdot) + W_{\square,1}\sigma(W_{\square,2}(\cdot))"),
    ("self_modifying_titans", r"\mathcal{M}_{\square,t} = \mathcal{M}_{\square,t-1}\left(\alpha_t I - \eta_t\mathbf{k}_t\mathbf{k}_t^\top\right) - \eta_t \nabla_{\mathcal{M}_{\square,t-1}} \mathcal{L}(\mathcal{M}_{\square,t-1}; \mathbf{k}_t, \hat{\mathbf{v}}_{\square,t})"),
    ("hope", r"\mathbf{k}_t = \mathcal{M}_{k,C \times \lceil t/C \rceil}(\mathbf{x}_t), \quad \mathbf{v}_t = \mathcal{M}_{v,C \times \lceil t/C \rceil}(\mathbf{x}_t)"),
    ("hope", r"\eta_t = \mathcal{M}_{\eta,C \times \lceil t/C \rceil}(\mathbf{x}_t), \quad \alpha_t = \mathcal{M}_{\alpha,C \times \lceil t/C \rceil}(\mathbf{x}_t)"),
    ("hope", r"\hat{\mathbf{v}}_{\square,t} = \mathcal{M}_{\square,C \times \lceil t/C \rceil}(\mathbf{v}_t)"),
    ("hope", r"\mathcal{M}_{\square,t} = \mathcal{M}_{\square,t-1}\left(\alpha_t I - \eta_t\mathbf{k}_t\mathbf{k}_t^\top\right) - \eta_t \nabla\mathcal{L}_{\mathcal{M}_{\square,C \times \lceil t/C \rceil}}"),
    ("hope", r"\mathbf{o}_t = \mathcal{M}_{\text{memory},t}(\mathbf{q}_t)"),
    ("hope", r"\mathbf{y}_t = \text{MLP}^{(f_k)}(\text{MLP}^{(f_{k-1})}(\cdots \text{MLP}^{(f_1)}(\mathbf{o}_t)))"),
    ("m3", r"\mathbf{m}^{(1)}_{t+1} = \beta_1 \mathbf{m}^{(1)}_t + (1-\beta_1)\nabla_W\mathcal{L}"),
    ("m3", r"\mathbf{m}^{(K)}_{i+1} = \begin{cases} \beta_K \mathbf{m}^{(K)}_i + (1-\beta_K) \sum_{j} \nabla_W\mathcal{L}_j & \text{if } i \equiv 0 \pmod{K} \\ \mathbf{m}^{(K)}_i & \text{otherwise} \end{cases}"),
)
# fmt: on

TUTORIAL_FORMULAS: tuple[Formula, ...] = tuple(
    Formula(number, latex, concept) for number, (concept, latex) in enumerate(_FORMULAS, start=1)
)


def symbol(name: str) -> Symbol:
    """Return the symbol of that name in code; KeyError with the known names if there is none."""
    for entry in SYMBOLS:
        if entry.name == name:
            return entry
    raise KeyError(f"no symbol named {name!r}; known: {', '.join(s.name for s in SYMBOLS)}")


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def table(*names: str) -> str:
    """A Markdown table of the named symbols (all of them when none is named), in the order given."""
    chosen = [symbol(name) for name in names] if names else list(SYMBOLS)
    rows = [
        f"| ${_cell(s.latex)}$ | `{s.name}` | {_cell(s.shape)} | {_cell(s.meaning)} | [{s.source}] |"
        for s in chosen
    ]
    return "\n".join(["| symbol | in code | shape | meaning | source |", "|---|---|---|---|---|", *rows])


def markdown() -> str:
    """The whole of NOTATION.md."""
    lines = [
        "# Notation",
        "",
        "Generated by `make docs` from `hope_ref/notation.py`, the words from `hope_ref/teaching/glossary.py`, the last table",
        "from the citations; do not edit.",
        "",
        "Column vectors in formulas (`M @ k`), rows in arrays (`k @ M.T`). Time is the first axis of a sequence;",
        "batch and head axes exist only in `hope_ref.parallel`. Tokens are counted from 0.",
        "",
        "Sources: **[S n]** the n-th displayed formula of the tutorial *HOPE: A Self-Referential Module* (listed below);",
        "**[P n]** equation n of the long version of *Nested Learning: The Illusion of Deep Learning Architecture*;",
        "**[P20 n]** equation n of its short conference version; **[Titans]** the Titans paper; **[D]** a decision of this project.",
        "[REFERENCES.md](REFERENCES.md) has the papers.",
        "",
    ]
    for topic in dict.fromkeys(s.topic for s in SYMBOLS):
        lines += [
            f"## {topic[0].upper() + topic[1:]}",
            "",
            table(*(s.name for s in SYMBOLS if s.topic == topic)),
            "",
        ]
    lines += [
        "## The tutorial's displayed formulas",
        "",
        "As printed there, slips included (ERRATA.md tells which).",
        "",
    ]
    for formula in TUTORIAL_FORMULAS:
        lines += [f"**S{formula.number}** · `{formula.concept}`", "", f"$${formula.latex}$$", ""]
    return "\n".join(lines).rstrip() + "\n"
