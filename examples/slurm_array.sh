#!/usr/bin/env bash
# Restore many scans as a Slurm array: usage: sbatch --array=1-16 examples/slurm_array.sh INPUT OUTPUT TASK [options]
# Every task of the array restores its part of the scans. When some failed or a task ran out of time, submit the same
# line again: what is finished stays so. Exit code 6: scans failed, see OUTPUT/failures-I-of-N.csv; 130, 143: stopped.
# Run on Slurm 22.05, tasks cancelled and requeued in between; not with GPUs.
#SBATCH --job-name=tat
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=tat-%A-%a.log
#SBATCH --open-mode=append
##SBATCH --gres=gpu:1
set -uo pipefail

if [[ $# -lt 3 ]]; then
  echo "usage: sbatch --array=1-N slurm_array.sh INPUT OUTPUT TASK [options of tat restore]" >&2
  exit 2
fi
input=$1 output=${2%/} task=$3
shift 3
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# Arrays may begin anywhere and have a step, but no gaps: the part is counted from the array's first number.
first=${SLURM_ARRAY_TASK_MIN:-1} last=${SLURM_ARRAY_TASK_MAX:-1} step=${SLURM_ARRAY_TASK_STEP:-1} parts=${SLURM_ARRAY_TASK_COUNT:-1}
if (((last - first) / step + 1 != parts)); then
  echo "expected an array without gaps, as --array=1-$parts; what is finished stays so when all of it is submitted again" >&2
  exit 2
fi
part=$(((${SLURM_ARRAY_TASK_ID:-1} - first) / step + 1))

mkdir -p "$(dirname "$output")" # where the events go
tat restore "$input" -o "$output" --task "$task" --shard "$part/$parts" --events "$output.$part.jsonl" "$@"
