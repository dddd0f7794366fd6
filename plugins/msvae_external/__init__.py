"""Any program as a solver, from the lines of a study: templates in, a command, declared outputs back."""

from msvae import Solver, hook
from msvae_external.solver import External


@hook
def msvae_solvers() -> list[type[Solver]]:
    return [External]
