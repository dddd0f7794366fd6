#!/bin/bash
#SBATCH --job-name=msvae
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=32
#SBATCH --time=04:00:00
# Usage: sbatch containers/slurm.sh STUDY.toml RUN_DIRECTORY
# A job that is submitted again goes on where the last one ended.
set -euo pipefail
study=$1
run=$2
resume=()
[ -f "$run/study.toml" ] && resume=(--resume)
export OMP_NUM_THREADS=1
srun --mpi=pmi2 apptainer exec msvae.sif python -m mpi4py -m msvae run "$study" --output "$run" "${resume[@]}" </dev/null
