#!/bin/bash
#SBATCH --job-name=msvae
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=32
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
# Usage: sbatch containers/slurm.sh STUDY.toml RUN_DIRECTORY
# Five minutes before its time is over the job gets SIGUSR1, ends at a clean point with exit code 75, and is queued again;
# a job that is submitted again goes on where the last one ended.
set -euo pipefail
study=$1
run=$2
resume=()
[ -f "$run/study.toml" ] && resume=(--resume)
export OMP_NUM_THREADS=1
code=0
srun --mpi=pmi2 apptainer exec msvae.sif python -m mpi4py -m msvae run "$study" --output "$run" "${resume[@]}" </dev/null || code=$?
[ "$code" -eq 75 ] && scontrol requeue "$SLURM_JOB_ID"
exit "$code"
