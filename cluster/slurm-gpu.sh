#!/bin/bash
#SBATCH --job-name=msvae
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=5
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
# Usage: sbatch cluster/slurm-gpu.sh STUDY.toml RUN_DIRECTORY [--set key=value ...]
# One rank for each device and one that keeps the records; [executor] gpus deals the devices out. Not run on a node with GPUs.
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
exec bash "$(dirname "$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=\([^ ]*\).*/\1/p')")/slurm.sh" "$@" \
    --set executor.gpus="${SLURM_GPUS_ON_NODE:-4}" --set executor.threads="$OMP_NUM_THREADS"
