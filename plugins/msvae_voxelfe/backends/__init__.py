"""Two backends for the linear problem of a structure: compiled kernels, and torch (imported only when used)."""
