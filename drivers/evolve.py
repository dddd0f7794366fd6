"""Campaign 'evolve': frames of a simulation at other times, from a learnt latent dynamics.

mpiexec -n 3 python -m mpi4py drivers/evolve.py STUDY.toml OUTPUT [--resume]
"""

from msvae.campaigns.launch import drive

if __name__ == "__main__":
    drive("evolve")
