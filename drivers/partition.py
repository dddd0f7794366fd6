"""Campaign 'partition': the partition function of a disordered crystal, and averages that follow from it.

mpiexec -n 3 python -m mpi4py drivers/partition.py STUDY.toml OUTPUT [--resume]
"""

from msvae.campaigns.launch import drive

if __name__ == "__main__":
    drive("partition")
