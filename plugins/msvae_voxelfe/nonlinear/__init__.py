"""Nonlinear solvers: plasticity and finite strain along a path of loads."""
