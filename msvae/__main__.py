"""`python -m msvae`, and under MPI `mpiexec -n N python -m mpi4py -m msvae`."""

from msvae.cli import main

if __name__ == "__main__":
    main()
