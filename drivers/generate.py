"""Campaign 'generate': decode structures for asked values of a condition and judge them.

mpiexec -n 3 python -m mpi4py drivers/generate.py STUDY.toml OUTPUT [--resume]
"""

from msvae.campaigns.launch import drive

if __name__ == "__main__":
    drive("generate")
