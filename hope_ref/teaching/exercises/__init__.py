"""The exercises: checkers, solutions and wrong answers. One module per notebook."""
