"""Campaign 'traverse': change one property along its axis, hold the others, and verify by the solver.

mpiexec -n 3 python -m mpi4py drivers/traverse.py STUDY.toml OUTPUT [--resume]
"""

from msvae.campaigns.launch import drive

if __name__ == "__main__":
    drive("traverse")
