#!/usr/bin/env bash
# A night's work: every scan of a folder restored, again and again until nothing is left that could still come right.
# usage: bash examples/restore_folder.sh FOLDER OUTPUT_FOLDER TASK [options of tat restore]
# Exits as tat restore does: 0 all restored, 6 some failed (listed in OUTPUT_FOLDER/failures.csv).
set -uo pipefail

if [[ $# -lt 3 ]]; then
  echo "usage: $0 FOLDER OUTPUT_FOLDER TASK [options of tat restore]" >&2
  exit 2
fi
folder=$1 outputs=$2 task=$3
shift 3

for attempt in 1 2 3; do
  tat restore "$folder" -o "$outputs" --task "$task" "$@" # what is finished already is left alone
  status=$?
  [[ $status -eq 6 ]] || exit "$status"
  echo "attempt $attempt: some scans failed" >&2
done
cat "$outputs/failures.csv" >&2
exit 6
