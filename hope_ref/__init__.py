"""HOPE and Nested Learning: derived in SymPy, stated in NumPy, computed in PyTorch, and proven equal.

The three floors hold the same concepts under the same names:

* ``hope_ref.symbolic``  derives each equation and proves it (SymPy only);
* ``hope_ref.reference`` states it, one token at a time, in float64 (NumPy only);
* ``hope_ref.parallel``  computes it in chunks, with batch and heads, on CPU or CUDA (PyTorch).

``hope_ref.agreement`` holds the floors against each other; ``python -m hope_ref verify`` shows the result.
Importing this package loads nothing but NumPy: import the floor that you need.
"""

from hope_ref import notation

__all__ = ["__version__", "notation"]
__version__ = "0.1.0"
