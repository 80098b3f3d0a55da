r"""One configuration, many models: which options of `HopeConfig` make the field's memories, and what HOPE lacks.

`RELATIVES` has one entry per model; ``HopeConfig.relative("longhorn")`` is the configuration, `ridge` the one model that
is a function here, `parallel.shared_gain.shared_gain` the one that is a component of its own. An entry is about the
recurrence of the memory alone: not about a model's norms, gates and convolutions. Three limits hold for every entry
that HOPE's own mixer makes:

* keys and queries are unit(z) = z / √(‖z‖² + 1e-6), so ‖k‖² is ‖z‖² / (‖z‖² + 1e-6) and never quite 1;
* α is a sigmoid: below 1 on paper, and 1.0 in float64 from a bias of 37 on;
* η of explicit and normalised steps is below ``eta_max``: it is exactly 1 for ``eta_max=2`` at a bias of 0.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np

from hope_ref.common.validation import Array, float64, per_token


@dataclass(frozen=True)
class Relative:
    """One model of the field, as a configuration of HOPE.

    Attributes:
        name: what ``HopeConfig.relative`` takes.
        model: its name in the field.
        paper: arXiv number or DOI, as in REFERENCES.md.
        equation: LaTeX of its recurrence, in the letters of NOTATION.md.
        options: the options of `HopeConfig` that make it; None if none do.
        needs: what must be true of the parameters; without options, what comes nearest.
        lacks: what HOPE has no option for.
    """

    name: str
    model: str
    paper: str
    equation: str
    options: dict[str, Any] | None
    needs: str
    lacks: str


_ALPHA_ONE = 1 - 2.0**-53  # the largest float64 below 1; a bias of 36.7
_KEEPS = "α = 1: alpha_readout = 0 and alpha_bias >= 37"
_ONE = "η = 1: eta_readout = 0 and eta_bias_memory = 0 with eta_max = 2"

_GIVEN: dict[str, Any] = {
    "surprise_bound": 0.0,
    "value_norm": False,
    "writing": ("memory",),
    "target": "shared",
}  # a memory that answers with given values: nothing but `memory` writes, and its target is v itself
_MATRIX: dict[str, Any] = {
    **_GIVEN,
    "architecture": "linear",
    "objective": "dot",
    "retention_target": "zero",
    "erase": "full",
}  # M_t = M_{t-1} (α I - η̃ k kᵀ) + η̃ v kᵀ, y = M q: the same for every chunk size
_TTT: dict[str, Any] = {
    **_GIVEN,
    "step": "explicit",
    "erase": "none",
    "read_skip": True,
    "alpha_init": _ALPHA_ONE,
}  # gradient descent on ½‖M(k) - v‖², its gradient frozen at the boundary

_ENTRIES = (
    Relative(
        "linear_attention",
        "linear attention with retention (RetNet, Mamba-2)",
        "2006.16236",
        r"M_t = \alpha_t M_{t-1} + v_t k_t^\top, \quad y_t = M_t q_t",
        {**_MATRIX, "step": "explicit", "erase": "none", "eta_max": 2.0, "eta_init": (1.0, 0.1)},
        f"{_ONE}; any other η scales the value; for α = 1, {_KEEPS.removeprefix('α = 1: ')}",
        "the feature map of the keys and its normaliser; one α per channel (gated linear attention, Mamba)",
    ),
    Relative(
        "longhorn",
        "Longhorn",
        "2407.14207",
        r"M_t = M_{t-1} - \tfrac{\eta_t}{1 + \eta_t \|k_t\|^2} (M_{t-1} k_t - v_t) k_t^\top, \quad y_t = M_t q_t",
        {**_MATRIX, "step": "implicit", "alpha_init": _ALPHA_ONE},
        f"{_KEEPS}; with α < 1 it forgets, which Longhorn does not",
        "one η per value channel, and the diagonal approximation of k kᵀ that its fast form takes",
    ),
    Relative(
        "nlms",
        "normalised least mean squares",
        "10.1109/TAC.1967.1098599",
        r"M_t = M_{t-1} - \tfrac{\eta_t}{\|k_t\|^2 + 10^{-6}} (M_{t-1} k_t - v_t) k_t^\top, \quad y_t = M_t q_t",
        {**_MATRIX, "step": "normalized", "eta_max": 2.0, "alpha_init": _ALPHA_ONE},
        f"{_KEEPS}; 0 < η < 2, which eta_max = 2 keeps",
        "another regulariser than 1e-6, which is fixed",
    ),
    Relative(
        "kaczmarz",
        "Kaczmarz's projection",
        "10.1080/00207179308934446",
        r"M_t = M_{t-1} - \tfrac{1}{\|k_t\|^2} (M_{t-1} k_t - v_t) k_t^\top, \quad y_t = M_t q_t",
        {
            **_MATRIX,
            "step": "normalized",
            "eta_max": 2.0,
            "eta_init": (1.0, 0.1),
            "alpha_init": _ALPHA_ONE,
        },
        f"{_ONE}; {_KEEPS}; not exact: 1e-6 / (‖k‖² + 1e-6) of the error is left, about one part in a million",
        "a step without the 1e-6 beside ‖k‖²",
    ),
    Relative(
        "delta_net",
        "DeltaNet",
        "2406.06484",
        r"M_t = M_{t-1} (I - \eta_t k_t k_t^\top) + \eta_t v_t k_t^\top, \quad y_t = M_t q_t",
        {"mixer": "gated_delta_rule", "gated": False},
        "η < beta_max, 1 by default and 2 for negative eigenvalues; HOPE's own write makes it too, with "
        "relative('longhorn', step='explicit')",
        "nothing in the recurrence",
    ),
    Relative(
        "gated_delta_net",
        "Gated DeltaNet",
        "2412.06464",
        r"M_t = \alpha_t M_{t-1} (I - \eta_t k_t k_t^\top) + \eta_t v_t k_t^\top, \quad y_t = M_t q_t",
        {"mixer": "gated_delta_rule"},
        "η < beta_max; HOPE's own write has α_t I - η_t k kᵀ as its factor, which is equal at α = 1 only",
        "a decay before the erase in the write of HOPE itself",
    ),
    Relative(
        "ttt_linear",
        "TTT-Linear",
        "2407.04620",
        r"M_t(k) = k + W_t k, \quad W_t = W_{t-1} - \eta_t (k_t + W_{b(t)} k_t - v_t) k_t^\top, \quad y_t = M_t(q_t)",
        {**_TTT, "architecture": "linear"},
        f"{_KEEPS}; the paper prints no ½, so its rate is η/2",
        "the layer norm around W k, its bias, and keys and queries of other lengths than 1",
    ),
    Relative(
        "ttt_mlp",
        "TTT-MLP",
        "2407.04620",
        r"M_t(k) = k + W_1 \sigma(W_2 k), \quad W_{i,t} = W_{i,t-1} - \eta_t \nabla_{W_i} "
        r"\tfrac12 \|M_{b(t)}(k_t) - v_t\|^2, \quad y_t = M_t(q_t)",
        _TTT,
        f"{_KEEPS}; hidden = 4 d, d the width of a head; the paper prints no ½, so its rate is η/2",
        "the layer norm around the network, its biases, GELU in the place of SiLU, and keys and queries of other "
        "lengths than 1",
    ),
    Relative(
        "titans",
        "Titans",
        "2501.00663",
        r"B_t = \mu_t B_{t-1} - \eta_t \nabla \tfrac12 \|M_{b(t)}(k_t) - v_t\|^2, \quad M_t = \alpha_t M_{t-1} + B_t",
        {"mixer": "titans"},
        "η < 1/C, C = memory_chunk_size; the paper prints no ½, so its rate is η/2, and its α is 1 - α; HOPE's own "
        "write makes it too if μ is constant, with relative('ttt_mlp', retention_target='zero', inner_momentum=μ)",
        "a memory of more than two layers, persistent memory, and attention beside it",
    ),
    Relative(
        "lact",
        "LaCT (large chunks)",
        "2505.23884",
        r"M_b(q) = W_1 \sigma(W_2 q), \quad W_{i,b+C} = W_{i,b} + \sum_{t=b}^{b+C-1} \eta_t \nabla_{W_i} "
        r"\langle M_b(k_t), v_t \rangle, \quad y_t = M_{b(t)}(q_t)",
        {
            **_TTT,
            "objective": "dot",
            "read": "boundary",
            "read_skip": False,
            "memory_chunk_size": 2048,
            "projection_chunk_size": 2048,
        },
        f"{_KEEPS}; within a chunk the state moves already, but no read sees it",
        "the third weight of SwiGLU, a rate per weight, the norm kept after each update, Muon as its step, and "
        "attention within the chunk",
    ),
    Relative(
        "mesa",
        "Mesa, recursive least squares",
        "2506.05233",
        r"M_t = \arg\min_M \tfrac12 \sum_{i \le t} \eta_i \|M k_i - v_i\|^2 + \tfrac12 \|M - M_0\|_F^2",
        None,
        "hope_ref.relatives.ridge is its memory at a chunk's end; one token at a time ridge is Longhorn's write",
        "an implicit step of rank C: HOPE's are of rank one, one after another, which is another minimiser; the "
        "decay of old pairs and one ridge per channel, which ridge lacks too",
    ),
    Relative(
        "rwkv_7",
        "RWKV-7",
        "2503.14456",
        r"M_t = M_{t-1} \left(\mathrm{diag}(\alpha_t) - \hat k_t (\eta_t \odot \hat k_t)^\top\right) + v_t k_t^\top, "
        r"\quad y_t = M_t q_t",
        None,
        "gated_delta_net comes nearest",
        "α and η per channel, and a key of its own for the erase",
    ),
    Relative(
        "kimi_delta_attention",
        "Kimi Delta Attention",
        "2510.26692",
        r"M_t = M_{t-1} \mathrm{diag}(\alpha_t) (I - \eta_t k_t k_t^\top) + \eta_t v_t k_t^\top, \quad y_t = M_t q_t",
        None,
        "gated_delta_net comes nearest: the same with one α for all channels",
        "α per channel",
    ),
    Relative(
        "delta_product",
        "DeltaProduct",
        "2502.10297",
        r"M_{t,i} = M_{t,i-1} (I - \eta_{t,i} k_{t,i} k_{t,i}^\top) + \eta_{t,i} v_{t,i} k_{t,i}^\top, \quad "
        r"M_{t,0} = \alpha_t M_{t-1}, \quad y_t = M_t q_t",
        None,
        "gated_delta_net with beta_max=2 comes nearest: one write for each token",
        "several writes for each token, with keys, values and rates of their own",
    ),
    Relative(
        "comba",
        "Comba",
        "2506.02475",
        r"M_t = M_{t-1} (\alpha_t I - \rho \eta_t k_t k_t^\top) + \eta_t v_t k_t^\top, \quad "
        r"y_t = M_t (q_t - \rho' k_t)",
        None,
        "relative('longhorn', step='explicit') with α free is Comba at ρ = 1 and ρ' = 0",
        "a share ρ of the step for the erase, and the correction ρ' of the query",
    ),
    Relative(
        "shared_gain",
        "VisionHOPE",
        "2609.33325",
        r"G_t = \alpha_t G_{t-1} - \eta_t (G_{t-1} k_t + k_t - v_t) k_t^\top, \quad G_b = I, \quad "
        r"M_{\square,t} = M_{\square,b} G_t, \quad y_t = M_b q_t",
        None,
        "hope_ref.parallel.shared_gain is its recurrence, with read='boundary' and the same two limits on η, which is "
        "eta_max sigmoid(z) where VisionHOPE has 0.025 softplus(z)",
        "a linear memory without the skip, one η for all memories, and memories of η and α that are vectors",
    ),
)
RELATIVES: dict[str, Relative] = {entry.name: entry for entry in _ENTRIES}


def options(name: Any) -> dict[str, Any]:
    """The options of `HopeConfig` that make a relative.

    Args: name, a key of `RELATIVES`. Returns: a new dict.
    Raises: ValueError naming ``name``, what it got and the known names; where no configuration makes the model, what does.
    """
    known = ", ".join(repr(entry.name) for entry in _ENTRIES if entry.options is not None)
    entry = RELATIVES.get(name) if isinstance(name, str) else None
    if entry is None:
        raise ValueError(f"name must be one of {known}, got {name!r}")
    if entry.options is None:
        raise ValueError(
            f"name must be one of {known}, got {name!r}: no configuration makes {entry.model}; {entry.needs}"
        )
    return dict(entry.options)


def ridge(k: Any, v: Any, eta: Any, memory: Any = None) -> Array:
    """M = argmin_M ½ Σ_t η_t ‖M k_t - v_t‖² + ½ ‖M - M_0‖_F²: recursive least squares after its last token.

    The implicit step of rank C over a chunk of C tokens: with the rows √η_t k_t in X and √η_t (v_t - M_0 k_t) in U,
    M = M_0 + Uᵀ (I + X Xᵀ)⁻¹ X. For one token it is Longhorn's write, of step η/(1 + η‖k‖²).

    Args:
        k: keys, (C, d_k).
        v: values, (C, d_v).
        eta: weight of each pair >= 0, a number or (C,); 1/η is the ridge.
        memory: M_0, (d_v, d_k); None starts empty.
    Returns:
        M, (d_v, d_k).
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    k = float64("k", k, ("C", "d_k"))
    v = float64("v", v, (len(k), "d_v"))
    shape = (v.shape[1], k.shape[1])
    memory = np.zeros(shape) if memory is None else float64("memory", memory, shape)
    root = np.sqrt(per_token("eta", eta, len(k), low=0))[:, None]  # (C, 1)
    x, u = root * k, root * (v - k @ memory.T)  # (C, d_k), (C, d_v)
    return memory + np.linalg.solve(np.eye(len(k)) + x @ x.T, u).T @ x


def table() -> str:
    """Every relative as text: model and paper, the options that make it, what it needs, what HOPE lacks."""
    lines = ["One configuration, many models. HopeConfig.relative(name) is the configuration.", ""]
    for entry in _ENTRIES:
        where = "doi" if entry.paper.startswith("10.") else "arXiv"
        lines.append(f"{entry.name}: {entry.model} [{where}:{entry.paper}]")
        made = "none" if entry.options is None else ", ".join(f"{n}={v!r}" for n, v in entry.options.items())
        for title, text in (("options", made), ("needs", entry.needs), ("lacks", entry.lacks)):
            lines += textwrap.wrap(text, 110, initial_indent=f"  {title:<8} ", subsequent_indent=" " * 11)
        lines.append("")
    return "\n".join(lines[:-1])


def _paper(entry: Relative) -> str:
    """A link to the paper of a relative."""
    host = "https://doi.org/" if entry.paper.startswith("10.") else "https://arxiv.org/abs/"
    return f"[{entry.paper}]({host}{entry.paper})"


def markdown() -> str:
    """The section for NOTATION.md: a table of recurrences, then what each relative needs and what HOPE lacks."""
    lines = [
        "## One configuration, many models",
        "",
        "The memories of the field that an option or two make of HOPE's own write, and those that none makes. Each configuration is",
        "compared with a literal loop written from the model's paper, to 1e-12 (`tests/test_relatives.py`); where the two are not equal,",
        "the list below says by how much. Only the recurrence is compared, not the norms, gates and convolutions around it.",
        "`python -m hope_ref relatives` prints the options of each.",
        "",
        "| model | paper | recurrence | made by |",
        "|---|---|---|---|",
    ]
    for entry in _ENTRIES:
        made = "–" if entry.options is None else f'`HopeConfig.relative("{entry.name}")`'
        equation = entry.equation.replace("|", r"\|")
        lines.append(f"| {entry.model} | {_paper(entry)} | ${equation}$ | {made} |")
    lines += ["", "What each needs besides its configuration, and what HOPE lacks:", ""]
    for entry in _ENTRIES:
        title = "Instead" if entry.options is None else "Needs"
        lines.append(f"* **{entry.model}**. {title}: {entry.needs}. Lacks: {entry.lacks}.")
    return "\n".join(lines) + "\n"
