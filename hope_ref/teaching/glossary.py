"""The words of the course: what each means in one sentence, and the notebook that explains it; a section of NOTATION.md. [D]

No notebook may use a word before the one that explains it: a test reads the course in order. It leaves out what only looks
ahead: a notebook's opening, its **Next**, and the map of notebook 00 (`prose`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


class Term(NamedTuple):
    """One word: how to find it, what it means, and where the course says so."""

    word: str
    pattern: str  # finds the word in prose; capitals do not matter
    meaning: str  # one sentence
    notebook: str  # the number of the notebook that explains it
    phrase: str  # from the Markdown of that notebook, word for word; line breaks do not matter


# fmt: off
TERMS = (
    Term("HOPE", r"\bHOPE\b", "The architecture of this course: memories that learn while they read, each at its own speed, the fastest of which write their own targets.", "00", "HOPE is a model made of many memories that learn while it reads, each at its own speed"),
    Term("amnesia", r"\bamnesia\b", "A model forgets what it has read once that leaves the context; only what training put into the weights stays.", "00", "What it learned in training stays, but what it reads is forgotten with its context and never reaches the weights"),
    Term("memory", r"\bmemor(y|ies)\b", "Whatever makes a loss over pairs of key and value small: a matrix, an MLP, an optimiser's buffer.", "00", "a memory is whatever makes a loss small"),
    Term("key, value", r"\bkeys?\b|\bvalues?\b", "What a memory is addressed with, and what it should answer.", "00", "Keys go in, values should come out, like faces and names."),
    Term("token", r"\btokens?\b", "One element of the stream that a model reads: a word, a byte, or a pair of key and value.", "00", "A *token* is one element of the stream that a model reads, here a number."),
    Term("delta rule", r"\bdelta rule\b", "A matrix memory that first checks what it already answers, and writes what is missing.", "00", "the other is the *delta rule*, which first checks what the matrix already answers"),
    Term("linear attention", r"\blinear attention\b", "A matrix memory that adds every association, whatever it already knows.", "00", "*linear attention*, which adds every pair to its matrix"),
    Term("frequency", r"\bfrequenc(y|ies)\b", "How often a part changes what the next read sees, per tick of its own clock: 1 at every token, 1/C once per chunk, 0 never.", "00", "| frequency | how often does it move? |"),
    Term("context", r"\bcontexts?\b", "What a memory sees and compresses: tokens, pairs, gradients.", "00", "| context | what does it get to see? |"),
    Term("check", r"\bchecks?\b", "A line that prints a bound on the largest difference between two arrays; where the bound does not hold, the notebook stops.", "00", "no entry of the two arrays differs by more than that bound"),
    Term("proved, measured, plausible", r"\bplausibl[ey]\b", "Proved: shown by SymPy for all numbers, at the formula's sizes; measured: shown by a run, for the numbers at hand; plausible: neither of the two.", "00", "What is neither proved nor measured, we call plausible."),
    Term("chunk, boundary", r"\bboundar(y|ies)\b", "C tokens of one stream that share the state at their start; that start is their boundary.", "07", "So cut the stream into chunks of $C$ tokens and do a chunk at once."),
    Term("errata", r"\berrata\b", "Slips of the sources: the formula as printed, the right form with its proof, and how far off the print is.", "00", "the formula as printed, and the right one"),
    Term("causal", r"\bcausal(ity)?\b", "No output depends on a later token.", "01", "No output depends on a later token; the triangle makes it *causal*."),
    Term("retention", r"\bretention\b", "α, the factor on the old memory at each token: 1 keeps, 0 erases.", "01", "*Retention* $\\alpha_t$ multiplies the old memory at every token."),
    Term("state", r"(?<!\bwe )(?<!the )\bstates?\b(?! that it is written)", "All that a later token can see of earlier ones; a call takes it in and returns it.", "07", "Two things are then asked of a state, and they run on two clocks."),
    Term("stable", r"\b(un)?stable\b|\bstability\b", "Repeated writes converge: every factor by which a write multiplies what is there lies strictly between -1 and 1.", "02", "The error goes to 0 iff that eigenvalue lies strictly between -1 and 1"),
    Term("one shot", r"\bone[- ]shot\b", "A write after which the memory answers exactly the value, whatever it answered before.", "02", "stores in **one shot**: whatever the memory answered before, now it answers $v$"),
    Term("gated delta rule", r"\bgated\b", "The delta rule with retention: decay first, then measure the error of what is left, then write.", "02", "decay first, then measure the error of what is left, then write"),
    Term("unit lower-triangular system", r"\btriangular\b", "One equation per token, with earlier unknowns only and 1 on the diagonal; its one solution gives all writes of a chunk at once.", "02", "a *unit lower-triangular system*"),
    Term("regression loss", r"\bregression( loss)?\b", "½‖M k - v‖²: the answer should equal the value; the dot-product loss only asks it to point along the value.", "02", "the *regression loss*"),
    Term("surprise", r"(?<!\*\*The )(?<!· The )\bsurpris(e|es|ing)\b", "What a layer or memory got wrong at that moment: minus the gradient of the loss at its output.", "03", "The value is the **surprise**, what the layer got wrong at that moment"),
    Term("proximal form", r"\bproximal\b", "A step as the exact solution of a small problem: the loss, or its linear approximation, plus what it costs to move.", "03", "the second is what it costs to move; a step in this form is called *proximal*"),
    Term("self-referential", r"\bself-referen", "The value written depends on the state that it is written into.", "03", "the value is a function of the state that it is written into"),
    Term("local surprise", r"\blocal surprise", "Minus the gradient of the loss at the output of one layer; with that layer's input it makes the layer's write.", "03", "Each layer has its own input and gets its own *local surprise*"),
    Term("batch", r"\bbatch(es)?\b(?! and head axes)", "Several samples whose gradients are all taken at the same weights and added.", "03", "all gradients are taken at the same weights, and no value sees another write"),
    Term("explicit step", r"\bexplicit\b", "A step along the slope at its starting point; it may overshoot.", "04", "A step that *evaluates* the slope where it stands is called explicit"),
    Term("implicit step", r"\bimplicit\b(?! curriculum)", "A step to where the slope of its objective vanishes; it cannot overshoot a fixed target.", "04", "One that asks for the slope to vanish where it *arrives* is called implicit."),
    Term("Delta Gradient Descent", r"\bDelta Gradient Descent\b", "Gradient descent that also erases along its input: the output should equal u = -∇, not only point along it.", "04", "erase along $x_t$. Hence the name."),
    Term("Sherman–Morrison, Woodbury", r"\bSherman\b|\bWoodbury\b", "Formulas for the inverse of a multiple of the identity plus one outer product, and plus C of them.", "04", "As a formula this is due to Sherman and Morrison"),
    Term("erase term", r"\berase term\b", "-η W x xᵀ: what a step removes along its input, even where there is nothing to learn.", "04", "The erase term is not a gradient: it sees the moving memory"),
    Term("frozen gradient", r"\bfrozen\b|\bfreez", "A gradient taken at the start of its chunk, although the state has moved since.", "04", "takes all gradients of a chunk at its start"),
    Term("momentum", r"\bmomentum\b", "What an optimiser keeps of past gradients: a sum that is multiplied by μ at each step.", "05", "*Momentum* keeps one array `m`."),
    Term("running mean", r"\brunning mean\b", "β m + (1 - β) g: an average in which old gradients fade.", "05", "Adam keeps a running mean, $m \\leftarrow \\beta m+(1-\\beta) g$"),
    Term("delta momentum", r"\bdelta momentum\b", "Momentum that looks before it writes: the gradient is its key, and along it the old content is erased.", "05", "The paper damps only the erase, which makes **delta momentum**"),
    Term("Newton–Schulz", r"\bNewton[–-]Schulz\b", "An iteration of matrix products that pulls every singular value toward 1 and leaves the singular vectors alone.", "09", "Newton–Schulz takes the size away"),
    Term("Titans", r"(?<![\[-])(?<!modifying )\bTitans\b", "A memory that is trained while it reads, with momentum and forgetting.", "06", "*Titans* puts momentum inside a memory, and adds forgetting."),
    Term("gate", r"\bgates?\b", "η, α and μ of a token: how much it writes, how much is kept, how much momentum carries on.", "06", "A model computes these three numbers, its *gates*; here they are given."),
    Term("MLP memory, skip", r"\bMLP memory\b|\ba skip\b|\bthe skip\b", "M(z) = z + W₁ σ(W₂ z): one hidden layer beside a skip, so that a fresh memory returns its own input.", "06", "The MLP (multilayer perceptron) has a hidden layer and a *skip connection*"),
    Term("clock", r"\bclocks?\b", "What decides at which tokens or steps a part may move or be read anew.", "07", "Two things are then asked of a state, and they run on two clocks."),
    Term("continuum memory system", r"\bcontinuum memor", "A row of MLPs, each of which moves once per chunk of its own length.", "00", "The slow ones form its *continuum memory*"),
    Term("softmax attention", r"\bsoftmax attention\b", "Attention as in a Transformer: all pairs are kept, and the answer is an average of the values, weighted by how well their keys match the query.", "01", "A Transformer keeps all pairs and answers with a weighted average, *softmax attention*."),
    Term("level", r"\blevels?\b", "One MLP of the continuum memory, with its own clock; in notebook 13, any part, ordered by frequency.", "00", "small networks, called *levels*, that move their weights once per stretch of text"),
    Term("driver", r"\bdriver\b", "`adapt`, which moves the levels by the model's own loss on tokens just seen; a forward pass alone never moves them.", "08", "a driver, `adapt`, sees to it that no output depends on its own future"),
    Term("RMSNorm", r"\bRMSNorm\b", "Scales a vector of d numbers to the norm √d.", "08", "which scales a vector to the norm $\\sqrt d$"),
    Term("Shampoo", r"\bshampoo\b", "An optimiser that measures distances by roots of the summed outer products of its gradients.", "09", "It remembers only outer products of the gradients"),
    Term("M3", r"\bM3\b", "An optimiser with a fast and a slow momentum, both orthogonalised.", "09", "The name M3 is for its multi-scale momentum"),
    Term("window", r"\bwindows?\b", "The f steps whose gradients a slow momentum adds up before it moves.", "09", "a slow one that adds up the gradients of $f$ steps and then moves once"),
    Term("self-made target", r"\bself-made\b", "v̂ = M(v): what a memory answers to the value becomes what it should answer to the key.", "10", "That is what it will try to answer to the key."),
    Term("self-modifying Titans", r"\bself-modifying\b", "Five memories that make their own keys, values, rates, retention and targets.", "10", "Nothing outside tells this module what to store."),
    Term("meta-learned", r"\bmeta-learn", "Learned in pre-training, through all the writes that follow: said of the weights at which the memories start.", "10", "the initial weights $W_0$, learned in pre-training, by gradients through every write that follows"),
    Term("copy, moving state", r"\bmoving state\b", "Inside a chunk, whatever makes a write is read from a copy taken at its start; the writes go into the state that moves.", "10", "What it writes goes into the *moving* state"),
    Term("read-out", r"\bread-outs?\b", "A fixed vector that turns a memory's answer into one number, η or α.", "10", "read-outs $r_\\eta$, $r_\\alpha$ make one, biases stand outside the memories"),
    Term("parity", r"\bparity\b", "Whether the number of 1s so far is odd: the smallest task that needs a state that can change its sign.", "10", "a memory that can flip can count modulo 2"),
    Term("golden vector", r"\bgolden vectors?\b", "A file of inputs, options and the results of the NumPy reference, against which other implementations are checked.", "11", "numbers that the NumPy floor has computed once"),
    Term("convolution", r"\bconvolutions?\b", "Mixes a token with the three before it, each channel by itself, before the projections become keys, values and queries.", "11", "causal, each channel for itself, four tokens wide"),
    Term("equal steps, equal time", r"\bequal (steps|time)\b", "Two ways to compare trainings: by what a batch is worth, and by what an hour is worth.", "12", "Equal steps answers what a batch is worth, equal time what an hour is worth"),
)
# fmt: on


def cells(path: Path) -> list[str]:
    """The Markdown cells of a notebook, each as one line."""
    book = json.loads(path.read_text("utf-8"))
    return [" ".join("".join(c["source"]).split()) for c in book["cells"] if c["cell_type"] == "markdown"]


def prose(path: Path) -> list[str]:
    """What a reader meets in a notebook: without what looks ahead, and without formulas, code and addresses."""
    found = []
    for cell in cells(path):
        text = "" if "**Next**" in cell or "**You will do**" in cell else cell
        text = re.sub(r"## \d+ · The map.*?(?=## |$)", "", text)
        text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|``.*?``|`[^`]*`|\]\([^)]*\)|<[^>]*>", " ", text)
        found.append(text)
    return found


def course(notebooks: Path = NOTEBOOKS) -> list[Path]:
    """The notebooks in the order in which they are read: numbers, then appendices."""
    return sorted(notebooks.glob("*.ipynb"), key=lambda path: path.stem)


def first_use(term: Term, notebooks: Path = NOTEBOOKS) -> str | None:
    """The number of the notebook whose prose uses a term first; None if none does."""
    pattern = re.compile(term.pattern, re.IGNORECASE)
    for path in course(notebooks):
        if any(pattern.search(text) for text in prose(path)):
            return path.stem.split("_")[0]
    return None


def markdown() -> str:
    """The section for NOTATION.md."""
    lines = [
        "## Words",
        "",
        "The words of the course, each with the notebook that explains it. A test reads the notebooks in order: none uses a word",
        "before it is explained, unless it only looks ahead (in its opening, its last line, or the map of notebook 00).",
        "",
        "| word | meaning | notebook |",
        "|---|---|---|",
    ]
    for term in sorted(TERMS, key=lambda term: term.word.casefold()):
        lines.append(f"| {term.word} | {term.meaning} | {term.notebook} |")
    return "\n".join(lines) + "\n"
