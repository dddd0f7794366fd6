"""Campaign 'gradation': a part graded for a target, decoded to one voxel image and verified.

mpiexec -n 3 python -m mpi4py drivers/gradation.py STUDY.toml OUTPUT [--resume]
"""

from msvae.campaigns.launch import drive

if __name__ == "__main__":
    drive("gradation")
