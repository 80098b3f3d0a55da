"""The words of the figures in RESULTS.md: what a reader who cannot see one should know, and what to see in it. [D]"""

from __future__ import annotations

FIGURES: dict[str, tuple[str, str]] = {
    "recall": (
        "Share of right answers against the number of pairs, 4 to 32, a line per model trained on up to 16, "
        "the mean of its seeds. A dotted line marks the 16: see where the lines part. RESULTS.md has the "
        "numbers.",
        "Up to the 16 pairs of training nearly all models answer everything; beyond, they part. A mean well "
        "below the others at few pairs comes from a seed that never learned the task.",
    ),
    "text": (
        "Two panels, bits per byte on unseen text. Left, a mark per model and seed, at equal steps and "
        "equal time; right, a line per model against the place in a window eight times the trained length: "
        "see which stay flat. RESULTS.md has the numbers.",
        "Left: what a model of this size achieves, with as many steps and with as much time. Right: what "
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
        "Right of the line the change costs; left of it, it helps. Marks of one row on both sides of the "
        "line show nothing.",
    ),
    "chunk_size": (
        "Two panels against the chunk size on a logarithmic axis: bits per byte on unseen text, and the time "
        "of a training step relative to chunks of 16, one mark per seed and a line through the means. "
        "RESULTS.md has the numbers.",
        "A chunk size is a choice of model and of speed at once.",
    ),
    "languages": (
        "Three panels. Left and middle, share of words right against languages taught in turn, with own "
        "words and with shared ones that contradict each other, a line per arrangement of levels. Right, "
        "each of eight languages. A dotted line marks chance.",
        "All attention is emptied after every lesson: whatever is above the dotted line, the levels have "
        "kept.",
    ),
    "continual": (
        "Two panels, Markov languages and text with renamed bytes: how much worse language A has become "
        "after B against the loss on B, a line per model over learning rates. The better B is learned, the "
        "more of A is lost. RESULTS.md has the numbers.",
        "A model that learns B better forgets more of A: a better memory is a curve below the MLP's, not a "
        "point to its left or right.",
    ),
    "digits": (
        "Rows, one per model, with two marks: accuracy over all ten digits after the fifth task, and how "
        "much was forgotten. Learning in turn ends near 20 per cent, the last task alone; all tasks at once "
        "reach 94.",
        "Five tasks of two digits in turn: no number of levels keeps the first four; the last row was "
        "trained on all at once.",
    ),
    "learned_starts": (
        "Three panels, Markov languages, renamed text and digits, a row for every arrangement of levels. "
        "Two kinds of marks, one per seed, tell levels that start at random from levels whose start was "
        "trained through the updates.",
        "The test after phases longer than in training: bits on A once B has been learned, left is better; "
        "digits right at the end, right is better.",
    ),
    "modules": (
        "Rows, one for each way to learn twenty modules that come two at a time: per cent of passages named "
        "right after the last task, a mark per seed, a bar at their mean. A line at 10 is the last task "
        "alone. RESULTS.md has the numbers.",
        "The dotted line is perfect knowledge of the last task and none of the others; the last three rows "
        "do not learn in turn and have nothing to forget.",
    ),
    "adaptation": (
        "Two panels, unseen text of the trained kind and Python source: bits per byte against the continuum "
        "memory's learning rate, on a first reading, on a second, and on what follows it. See how far each "
        "falls below rate 0. RESULTS.md has the numbers.",
        "At rate 0 nothing is learned; how far the lines fall below their start is what learning while "
        "reading is worth.",
    ),
    "optimizers": (
        "Rows, one for each optimiser of the matrices of a small HOPE: bits per byte on unseen text after "
        "equal steps, one mark per seed. RESULTS.md has the numbers and the time of a step.",
        "Equal steps, the best of four rates each; RESULTS.md has the time that a step takes.",
    ),
    "reproducibility": (
        "Rows, one per model, marks on a log axis: the largest error of a twin that reads the stream in "
        "float32 and of one cut elsewhere, a mark per seed, a line at 1e-3. See which marks lie far to the "
        "right. RESULTS.md has the numbers.",
        "Where a model contracts, the marks stand at the rounding errors of float32 and of float64. Where "
        "it is chaotic, they have moved to the right, and would keep moving on a longer stream.",
    ),
}  # experiment -> alternative text, caption
