#!/bin/bash
#SBATCH --job-name=msvae
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=32
#SBATCH --array=1-4
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
# Usage: sbatch cluster/slurm-array.sh STUDY.toml RUN_DIRECTORY [--set key=value ...]
# Replicates with seeds of their own in RUN_DIRECTORY-1, -2, ...; afterwards: msvae merge RUN_DIRECTORY-*
study=$1 run=$2
shift 2
script=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=\([^ ]*\).*/\1/p' | head -1)
exec bash "$(dirname "$script")/slurm.sh" "$study" "$run-$SLURM_ARRAY_TASK_ID" --set seed="$SLURM_ARRAY_TASK_ID" "$@"
