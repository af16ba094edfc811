#!/usr/bin/env bash
# Restore every scan of a folder: usage: bash examples/restore_folder.sh FOLDER OUTPUT_FOLDER TASK [options of tat restore]
# Scans that have an output already are left alone, so an interrupted run goes on where it was. Exits with 6 if any scan failed.
set -uo pipefail

if [[ $# -lt 3 ]]; then
  echo "usage: $0 FOLDER OUTPUT_FOLDER TASK [options of tat restore]" >&2
  exit 2
fi
folder=$1 outputs=$2 task=$3
shift 3
mkdir -p "$outputs" || exit 2
shopt -s nullglob

failed=0
for scan in "$folder"/*.nii "$folder"/*.nii.gz "$folder"/*.nrrd "$folder"/*.mha; do
  output=$outputs/$(basename "$scan")
  [[ -e $output ]] && continue
  echo "$scan" >&2
  tat restore "$scan" --task "$task" -o "$output" "$@"
  status=$?
  [[ $status -eq 130 ]] && exit 130 # Ctrl-C ends the loop too
  [[ $status -eq 0 ]] || failed=$((failed + 1))
done
if [[ $failed -gt 0 ]]; then
  echo "$failed scans could not be restored" >&2
  exit 6
fi
