"""Campaign 'screen': compositions that have a property, among millions of candidates.

mpiexec -n 3 python -m mpi4py drivers/screen.py STUDY.toml OUTPUT [--resume]
"""

from msvae.campaigns.launch import drive

if __name__ == "__main__":
    drive("screen")
