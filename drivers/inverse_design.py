"""Run the campaign 'inverse-design' of a study.

mpiexec -n 3 python -m mpi4py drivers/inverse_design.py STUDY.toml OUTPUT [--resume]
"""

import sys
from pathlib import Path

from msvae.campaigns.launch import launch
from msvae.errors import MsvaeError

if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--resume"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    try:
        table = launch(Path(arguments[0]), Path(arguments[1]), resume="--resume" in sys.argv, campaign="inverse-design")
    except MsvaeError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    for row in table.rows if table else ():
        sys.stdout.write("  ".join(row) + "\n")
