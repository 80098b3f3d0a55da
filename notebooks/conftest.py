"""Matplotlib tells on stderr that it builds its font cache: before the notebooks run, not within one."""

import matplotlib.font_manager  # noqa: F401
