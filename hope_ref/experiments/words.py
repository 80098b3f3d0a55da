"""The words of the figures in RESULTS.md: what a reader who cannot see one should know, and what to see in it. [D]"""

from __future__ import annotations

FIGURES: dict[str, tuple[str, str]] = {
    "recall": (
        "Share of right answers against the number of pairs, 4 to 32, one line for each model trained on up to "
        "16 pairs, the mean of its seeds; a dotted line marks the 16. RESULTS.md has the numbers.",
        "Inside the trained 16 pairs nearly all models are full marks; beyond, they part. A mean well below "
        "the others at few pairs is a seed that never learnt the task.",
    ),
    "text": (
        "Two panels. Left, bits per byte on unseen text for each model, one mark per seed, at equal steps "
        "and, for the baselines, at equal time. Right, bits per byte against the place in a window eight "
        "times as long as those of training, a line per model: RESULTS.md has the numbers of both.",
        "Left: what a model of this size is worth, with as many steps and with as much time. Right: what "
        "happens beyond the 128 bytes that it was trained on.",
    ),
    "formal_languages": (
        "A table of shaded cells: models in rows, and in columns the six formal languages at lengths up to 40 "
        "and 41 to 80; every cell holds the percentage of whole words that are labelled right, darker for "
        "more. RESULTS.md has the numbers as text.",
        "Whole words right (%), mean of the seeds; an empty cell was not run.",
    ),
    "ablations": (
        "Rows, one for each change to HOPE: how many thousandths of a bit per byte the change costs on unseen "
        "text, one mark per seed, with a line at zero. RESULTS.md has the numbers.",
        "Right of the line: the change costs; left of it: it helps. Marks of one row that lie on both sides "
        "are no finding.",
    ),
    "chunk_size": (
        "Two panels against the chunk size on a logarithmic axis: bits per byte on unseen text, and the time "
        "of a training step relative to chunks of 16, one mark per seed and a line through the means. "
        "RESULTS.md has the numbers.",
        "A chunk size is a choice of model and of speed at once.",
    ),
    "languages": (
        "Three panels. Left and middle, the share of words right against the number of languages taught in turn, with words of "
        "their own and with shared words that contradict each other, a line for each arrangement of levels, all trained through "
        "their updates, beside a line at chance. Right, for eight languages, the share right of each, in the order of teaching.",
        "All attention is emptied after every lesson: what is above the dotted line, levels have kept.",
    ),
    "continual": (
        "Two panels, random Markov languages and text with renamed bytes. Each shows how much worse language "
        "A has become after B against the loss on B, one line per model over a grid of learning rates, means "
        "of the seeds: forgetting grows as B is learnt better. RESULTS.md says where the differences are clear.",
        "Who learns B better forgets more of A: only a curve below the MLP's is a better memory, not a point "
        "to its left or right.",
    ),
    "digits": (
        "Rows, one for each model, with two marks: accuracy over all ten digits after the fifth task, and how "
        "much was forgotten. Models that learn in turn end near 20 per cent, which is knowing the last task "
        "alone; all tasks at once reach 94 per cent.",
        "Five tasks of two digits in turn: no number of levels keeps the first four; the last row has seen "
        "all at once.",
    ),
    "learned_starts": (
        "Three panels, Markov languages, renamed text and digits. Each has a row for every arrangement of levels with two marks "
        "per seed, one for levels that start at random and one for levels whose start was trained through the updates.",
        "The test after phases longer than in training: bits on A once B was learned, left is better; digits right in the end, "
        "right is better.",
    ),
    "modules": (
        "Rows, one for each way to learn twenty modules that come two at a time: per cent of passages named right after the last "
        "task, one mark per seed and a bar at their mean, beside a line at 10 per cent. RESULTS.md has the numbers.",
        "The dotted line is perfect knowledge of the last task and none of the others; the last three rows have no turn to forget.",
    ),
    "adaptation": (
        "Two panels, unseen text of the kind that was trained on and Python source, which was not. Bits per "
        "byte against the learning rate of the continuum memory, in multiples of the default: while it is "
        "read for the first time, and when the same passage is read again with what was learnt. RESULTS.md "
        "has the numbers.",
        "At rate 0 nothing is learnt; how far the lines fall below their start is what learning while reading "
        "is worth.",
    ),
    "optimizers": (
        "Rows, one for each optimiser of the matrices of a small HOPE: bits per byte on unseen text after "
        "equal steps, one mark per seed. RESULTS.md has the numbers and the time of a step.",
        "Equal steps, the best of four rates each; RESULTS.md has the time that a step takes.",
    ),
    "reproducibility": (
        "Rows, one for each model, with marks on a logarithmic axis: the largest error of a twin that reads the "
        "same stream in float32, and of one that is cut elsewhere, one mark per seed, with a line at 1e-3. "
        "RESULTS.md has the numbers.",
        "Where a model contracts, marks stand at the rounding of float32 and of float64. Where it is chaotic, "
        "they have moved to the right, and would go on to do so.",
    ),
}  # experiment -> alternative text, caption
