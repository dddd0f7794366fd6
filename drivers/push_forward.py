"""Campaign 'push-forward': what microstructural uncertainty does to a quantity of interest.

mpiexec -n 3 python -m mpi4py drivers/push_forward.py STUDY.toml OUTPUT [--resume]
"""

from msvae.campaigns.launch import drive

if __name__ == "__main__":
    drive("push-forward")
