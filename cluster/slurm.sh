#!/bin/bash
#SBATCH --job-name=msvae
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=32
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
# Usage: sbatch [--nodes=8 --time=...] cluster/slurm.sh STUDY.toml RUN_DIRECTORY [--set key=value ...]
#
# Five minutes before its time is over every rank gets SIGUSR1, and the campaign ends at a clean point. What the run says of
# itself then decides: a stopped one is queued again and goes on with --resume, as does one whose ranks were killed (three
# times at most); one that is done or has failed is not. A job that is requeued because a node died goes on as well.
#
# MSVAE       how it is started; in a container: MSVAE="apptainer exec msvae.sif python -m mpi4py -m msvae"
# MSVAE_TOOL  the command without MPI, for the batch script itself: MSVAE_TOOL="apptainer exec msvae.sif msvae"
# MSVAE_MPI   what srun --mpi gets: pmi2 for MPICH (5 warns that it is deprecated), Intel MPI and MVAPICH, pmix for Open MPI
set -u
study=$1 run=$2
shift 2
resume=()
[ -f "$run/study.toml" ] && resume=(--resume)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=PASSIVE
code=0
# shellcheck disable=SC2086
srun --mpi="${MSVAE_MPI:-pmi2}" --kill-on-bad-exit=1 ${MSVAE:-python -m mpi4py -m msvae} \
    run "$study" --output "$run" ${resume[@]+"${resume[@]}"} "$@" </dev/null || code=$?
said=0
# shellcheck disable=SC2086
${MSVAE_TOOL:-msvae} status "$run" --exit-code >/dev/null 2>&1 || said=$?
restarts=${SLURM_RESTART_COUNT:-0}
if [ "$said" -eq 75 ] || { [ "$said" -eq 76 ] && [ "$restarts" -lt 3 ]; }; then
    echo "msvae: the run goes on after requeue $((restarts + 1))"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
[ "$said" -eq 0 ] && exit 0
exit "$code"
