"""The figures: what each one measures, and how it is drawn. One module per subject."""
