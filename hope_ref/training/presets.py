"""Runs to start from: `tiny` for a laptop, `small` for one GPU, `760m` on paper. [D]"""

from __future__ import annotations

from hope_ref.config import HopeConfig
from hope_ref.training.settings import Run, TrainingSettings

LARGE = 200_000_000  # parameters from which a run has to be asked for twice

PRESETS: dict[str, Run] = {
    # 300 steps, minutes on one CPU thread
    "tiny": Run(
        HopeConfig(width=64, heads=2, levels_chunk_sizes=(128, 512)),
        TrainingSettings(betas=(0.9, 0.95)),
    ),
    # an afternoon on one GPU
    "small": Run(
        HopeConfig(width=256, heads=4, blocks=6),
        TrainingSettings(
            steps=5000, batch=32, tokens=512, lr=1e-3, log_every=20, checkpoint_every=500, evaluate_every=500
        ),
    ),
    # the size of the sources' smaller models: on paper, until it is asked for
    "760m": Run(
        HopeConfig(width=1024, heads=16, blocks=25),
        TrainingSettings(
            steps=60_000,
            batch=128,
            tokens=4096,
            lr=4e-4,
            precision="bfloat16",
            parallelism="fsdp",
            recompute=True,
            warmup=0.02,
            schedule="cosine",
            checkpoint_every=1000,
            evaluate_every=1000,
        ),
    ),
}
