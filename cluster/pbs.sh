#!/bin/bash
#PBS -N msvae
#PBS -l select=1:ncpus=32:mpiprocs=32
#PBS -l walltime=04:00:00
#PBS -r y
# Usage: qsub -v study=STUDY.toml,run=RUN_DIRECTORY cluster/pbs.sh
# Not run: no PBS was at hand. PBS sends no signal before the end that every site lets through, so that the walltime is told
# to the campaign, which ends at a clean point; the job then submits its own continuation.
cd "$PBS_O_WORKDIR" || exit 1
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
resume=()
[ -f "$run/study.toml" ] && resume=(--resume)
mpiexec python -m mpi4py -m msvae run "$study" --output "$run" ${resume[@]+"${resume[@]}"} \
    --set limits.walltime="03:50:00" </dev/null
code=$?
msvae status "$run" --exit-code >/dev/null 2>&1
if [ $? -eq 75 ]; then
    qsub -v study="$study",run="$run" "$0"
    exit 0
fi
exit $code
