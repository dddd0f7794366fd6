"""Campaign 'train': fit the VAE and its heads, labelling first where a head needs it.

mpiexec -n 3 python -m mpi4py drivers/train.py STUDY.toml OUTPUT [--resume]
"""

from msvae.campaigns.launch import drive

if __name__ == "__main__":
    drive("train")
