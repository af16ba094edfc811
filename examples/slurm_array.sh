#!/usr/bin/env bash
# Restore many scans as a Slurm array: usage: sbatch --array=1-16 examples/slurm_array.sh INPUT OUTPUT TASK [options]
# Every task of the array restores its part of the scans. When some failed or a task ran out of time, submit the same
# line again: what is finished stays so. Exit code 6: scans failed, see OUTPUT/failures-I-of-N.csv; 130, 143: stopped.
#SBATCH --job-name=tat
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=tat-%A-%a.log
##SBATCH --gres=gpu:1
set -uo pipefail

if [[ $# -lt 3 ]]; then
  echo "usage: sbatch --array=1-N $0 INPUT OUTPUT TASK [options of tat restore]" >&2
  exit 2
fi
input=$1 output=$2 task=$3
shift 3
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# Arrays may begin anywhere: the part is counted from the array's first number.
part=$((${SLURM_ARRAY_TASK_ID:-1} - ${SLURM_ARRAY_TASK_MIN:-1} + 1))

tat restore "$input" -o "$output" --task "$task" --shard "$part/${SLURM_ARRAY_TASK_COUNT:-1}" --events "$output.$part.jsonl" "$@"
