"""How the repository becomes a site, slides and student notebooks. The library and the notebooks need nothing of it."""
