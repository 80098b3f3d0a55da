"""What all floors use: the checks of arguments, files that are never half written, the leaves of nested states."""
