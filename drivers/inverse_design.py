"""Campaign 'inverse-design': search the latent space for a structure with given properties.

mpiexec -n 3 python -m mpi4py drivers/inverse_design.py STUDY.toml OUTPUT [--resume]
"""

from msvae.campaigns.launch import drive

if __name__ == "__main__":
    drive("inverse-design")
