"""Generators of the gest-api (https://github.com/campa-consortium/gest-api), as libEnsemble, Xopt and Optimas use them.

Any of them is a searcher of ours, and our searchers are such generators (`generator_of`). Needs `msvae[gest]`.
"""

from msvae import Searcher, hook
from msvae_gest.searcher import Gest


@hook
def msvae_searchers() -> list[type[Searcher]]:
    return [Gest]
