"""muSpectre's spectral projection scheme, in a process of its own: its wheel replaces muGrid's extension module.

    python muspectre_peer.py IMAGE.npy SOFT      then on standard input a tolerance a line

Prints for each tolerance a line of JSON: the seconds that it took, and the stiffness (6, 6).
"""

from __future__ import annotations

import json
import sys
import time

import muSpectre
import numpy as np

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
QUIET = muSpectre.Verbosity.Silent
LAW = muSpectre.material.MaterialLinearElastic1_3d


def main() -> None:
    image, soft = np.load(sys.argv[1]), float(sys.argv[2])
    cell = muSpectre.Cell(list(image.shape), [float(n) for n in image.shape], muSpectre.Formulation.small_strain)
    phases = [LAW.make(cell, "stiff", 1.0, 0.3), LAW.make(cell, "soft", soft, 0.3)]
    for place, phase in enumerate(image.ravel(order="F")):
        phases[phase].add_pixel(place)
    cell.initialise()
    for line in sys.stdin:
        tolerance = float(line)
        start = time.perf_counter()
        solver = muSpectre.solvers.KrylovSolverCG(cell, tolerance, 2000, QUIET)
        columns = []
        for i, j in VOIGT:
            strain = np.zeros((3, 3))
            strain[i, j] += 0.5
            strain[j, i] += 0.5
            found = muSpectre.solvers.newton_cg(cell, strain, solver, tolerance, tolerance, QUIET)
            stress = found.stress.reshape(9, -1, order="F").mean(axis=1).reshape(3, 3)
            columns.append([stress[k, m] for k, m in VOIGT])
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "stiffness": np.array(columns).T.tolist()}), flush=True)


if __name__ == "__main__":
    main()
