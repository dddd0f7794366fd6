"""Campaign 'compare-dns': a part of homogenised structures against the simulation of every voxel.

mpiexec -n 3 python -m mpi4py drivers/compare_dns.py STUDY.toml OUTPUT [--resume]
"""

from msvae.campaigns.launch import drive

if __name__ == "__main__":
    drive("compare-dns")
