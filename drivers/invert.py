"""Campaign 'invert': images of a learnt manifold that explain measured data.

mpiexec -n 3 python -m mpi4py drivers/invert.py STUDY.toml OUTPUT [--resume]
"""

from msvae.campaigns.launch import drive

if __name__ == "__main__":
    drive("invert")
