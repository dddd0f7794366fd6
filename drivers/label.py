"""Campaign 'label': evaluate every structure of a data set with the solver.

mpiexec -n 3 python -m mpi4py drivers/label.py STUDY.toml OUTPUT [--resume]
"""

from msvae.campaigns.launch import drive

if __name__ == "__main__":
    drive("label")
