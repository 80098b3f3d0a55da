"""Handwritten digits, two classes at a time: the smallest honest test of class-incremental learning.

Source: the 1,797 images of 8 x 8 pixels that scikit-learn carries (`load_digits`), no download; needs the optional
extra `digits`. Tasks come one after another, and the learner is not told which task a test image belongs to.

Chance, with ten classes and tasks of two: 1/10 blindly; 1/5 mean accuracy, and forgetting 1, for a learner that is
perfect on the last task and knows nothing else; 1/2 only if the task were told.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

from hope_ref.common.validation import Array, float64, in_range, positive_integer, scalar
from hope_ref.tasks.common import Integers, Seed, generator, integers

PIXELS = 64


class Digits(NamedTuple):
    """images (n, 64), from 0 to 1; labels (n,)."""

    images: Array
    labels: Integers


class Task(NamedTuple):
    """The classes of a task, and its images and labels to train and to test on."""

    classes: tuple[int, ...]
    train: Digits
    test: Digits


def load() -> Digits:
    """The digits of scikit-learn, grey levels 0..16 divided by 16.

    Raises: ImportError, naming the optional extra, where scikit-learn is not installed.
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise ImportError("the digits need scikit-learn: pip install 'hope_ref[digits]'") from error
    found = datasets.load_digits()
    return Digits(np.asarray(found.data, np.float64) / 16, np.asarray(found.target, np.int64))


def tasks(
    digits: Digits, seed: Seed, classes_per_task: Any = 2, test: Any = 0.2, shuffle: bool = False
) -> tuple[Task, ...]:
    """Cut the digits into tasks of a few classes each, and each class into training and test images.

    Args:
        digits: images (n, 64) and labels (n,).
        seed: of the split (and of the order of the classes), an integer or several.
        classes_per_task: a divisor of the number of classes.
        test: the share of every class that is held out, rounded down, but at least one image.
        shuffle: whether the classes come in a random order; else 0, 1 | 2, 3 | …
    Returns:
        the tasks, in the order in which they are learnt; images of a task in random order.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    images = float64("digits.images", digits.images, ("n", PIXELS))
    labels = integers("digits.labels", digits.labels, images.shape[:1], low=0)
    share, size = scalar("test", test, low=0, high=1), positive_integer("classes_per_task", classes_per_task)
    classes, counts = np.unique(labels, return_counts=True)
    if not len(classes) or len(classes) % size:
        raise ValueError(f"classes_per_task must divide {len(classes)} classes, got {size}")
    held_out = {int(c): max(1, int(n * share)) for c, n in zip(classes, counts, strict=True)}
    if any(held_out[int(c)] >= n for c, n in zip(classes, counts, strict=True)):
        raise ValueError(f"test must leave every class an image to train on, got {share:g}")
    rng = generator(seed)
    order = rng.permutation(classes) if shuffle else classes
    made = []
    for group in order.reshape(-1, size):
        parts: tuple[list[Integers], list[Integers]] = ([], [])
        for c in group:
            rows = rng.permutation(np.flatnonzero(labels == c))
            parts[0].append(rows[held_out[int(c)] :])
            parts[1].append(rows[: held_out[int(c)]])
        train, rest = (rng.permutation(np.concatenate(part)) for part in parts)
        names = tuple(int(c) for c in group)
        made.append(Task(names, Digits(images[train], labels[train]), Digits(images[rest], labels[rest])))
    return tuple(made)


def permuted_pixels(digits: Digits, seed: Seed) -> Digits:
    """The same digits with their pixels in another fixed order: a new task with the old classes."""
    images = float64("digits.images", digits.images, ("n", PIXELS))
    return Digits(images[:, generator(seed).permutation(PIXELS)], digits.labels)


def accuracy(predicted: Any, labels: Any) -> float:
    """The share of labels that are right, both (n,)."""
    labels = integers("labels", labels, ("n",), low=0)
    predicted = integers("predicted", predicted, labels.shape)
    if not len(labels):
        raise ValueError("labels must have at least one entry, got none")
    return float((predicted == labels).mean())


def _matrix(value: Any) -> Array:
    matrix = float64("matrix", value, ("tasks", "tasks"))
    if matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"matrix must be square, tasks learnt by tasks tested, got {matrix.shape}")
    in_range("matrix", float(matrix.min()), float(matrix.max()), low=0, high=1)
    return matrix


def mean_accuracy(matrix: Any) -> float:
    """Σ_j R[T, j] / T with R[i, j] the accuracy on task j after learning task i: how good it is in the end.

    Args: matrix, (tasks, tasks), from 0 to 1.
    """
    return float(_matrix(matrix)[-1].mean())


def forgetting(matrix: Any) -> float:
    """The mean over all tasks but the last of max_{j <= i < T} R[i, j] - R[T, j]: how much better it once was.

    Args: matrix, (tasks, tasks), R[i, j] the accuracy on task j after learning task i; one task alone forgets nothing.
    """
    matrix = _matrix(matrix)
    lost = [matrix[j:-1, j].max() - matrix[-1, j] for j in range(len(matrix) - 1)]
    return float(np.mean(lost)) if lost else 0.0
