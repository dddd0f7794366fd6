#!/bin/bash
#BSUB -J msvae
#BSUB -n 32
#BSUB -W 04:00
#BSUB -wa USR1 -wt 5
#BSUB -r
# Usage: study=STUDY.toml run=RUN_DIRECTORY bsub < cluster/lsf.sh
# Not run: no LSF was at hand. Five minutes before its time is over the job gets SIGUSR1 and ends at a clean point with what
# `msvae status --exit-code` calls stopped; it is requeued then (bsub -Q 75, or REQUEUE_EXIT_VALUES of the queue).
#BSUB -Q "75"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
resume=()
[ -f "$run/study.toml" ] && resume=(--resume)
mpiexec python -m mpi4py -m msvae run "$study" --output "$run" ${resume[@]+"${resume[@]}"} </dev/null
code=$?
msvae status "$run" --exit-code >/dev/null 2>&1
[ $? -eq 75 ] && exit 75
exit $code
