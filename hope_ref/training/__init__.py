"""Training: one loop from a laptop's CPU to several GPUs, on text, resumable bit for bit. For notebooks and the command line."""

from hope_ref.training.evaluation import Trained, Worth, bits_per_byte, evaluate, generate, trained
from hope_ref.training.loop import Outcome, train
from hope_ref.training.presets import PRESETS
from hope_ref.training.settings import Run, TrainingSettings

__all__ = [
    "PRESETS",
    "Outcome",
    "Run",
    "Trained",
    "TrainingSettings",
    "Worth",
    "bits_per_byte",
    "evaluate",
    "generate",
    "train",
    "trained",
]
