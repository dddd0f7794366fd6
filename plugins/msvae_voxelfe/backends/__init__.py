"""The linear problem of a structure, solved with the compiled kernels or in torch, whose import costs seconds."""
