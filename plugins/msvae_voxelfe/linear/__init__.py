"""Linear solvers: conductivity and elasticity, their effective tensors, gradients and errors."""
