"""What things cost: the self-modifying Titans, the kernels and the peers, timed in turns. ``python -m hope_ref bench``."""
