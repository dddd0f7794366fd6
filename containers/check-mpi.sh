#!/bin/bash
# Says in one line whether the host's mpiexec and the image's MPI fit: two ranks of the image have to find each other.
# Usage: containers/check-mpi.sh msvae.sif          ENTER="ch-run ROOT --" containers/check-mpi.sh    (other than Apptainer)
set -u
enter=${ENTER:-apptainer exec ${1:?give the image, or ENTER}}
launch=${LAUNCH:-mpiexec -n 2}
python=${PYTHON:-python}
host=$(${launch%% *} --version 2>&1 | grep -m1 -Eo '\(Open[A-Z]* ?[A-Za-z]*\) [0-9.]+|Version: +[0-9.]+|Intel\(R\) MPI Library.*' | tr -s ' ')
# shellcheck disable=SC2086
found=$($launch $enter $python -c "from mpi4py import MPI; print(MPI.COMM_WORLD.Get_size(), MPI.Get_library_version().split(chr(10))[0])" \
    </dev/null 2>/dev/null | grep -E '^[0-9]+ ' | sort | uniq -c | head -1 | tr -s ' \t' ' ')
case "$found" in
    " 2 2 "*) echo "fits: two ranks of the image (${found# 2 2 }) meet under the host's launcher (${host:-unknown})" ;;
    *) echo "does not fit: under the host's launcher (${host:-unknown}) the ranks of the image say '${found:-nothing}'; the host's MPI has to be" \
            "of the family of the image's (MPICH: MPICH, Intel MPI, Cray MPICH, MVAPICH), or srun --mpi=pmi2 starts the ranks"
       exit 1 ;;
esac
