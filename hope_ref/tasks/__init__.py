"""The data: synthetic tasks, NumPy only, seeded."""
