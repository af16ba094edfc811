#!/usr/bin/env bash
# From an empty clone to a restored scan: installs tat into .venv (once; TAT_VENV=DIR: elsewhere), makes a noisy CT
# of a made-up abdomen, restores it, scores both against the full-dose scan and draws them. Then it restores a real
# CT slice, which the package pydicom brings along. Results go to quickstart/.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${TAT_VENV:-$PWD/.venv}
programs() { if [[ -d $venv/Scripts ]]; then echo "$venv/Scripts"; else echo "$venv/bin"; fi; } # Windows, all others
if ! "$(programs)/tat" --version > /dev/null 2>&1; then
  for python in python3 python py python3.13 python3.12 python3.11 none; do # macOS comes with an older python3
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1 && break
  done
  if [[ $python == none ]]; then
    echo "quickstart: expected Python 3.11 or later, found none; install one and run this again" >&2
    exit 1
  fi
  echo "Installing tat into $venv (once; a few minutes) ..." >&2
  "$python" -m venv "$venv"
  "$(programs)/python" -m pip install --quiet --disable-pip-version-check -e .
fi
export PATH="$(programs):$PATH"

out=quickstart
mkdir -p "$out"

echo "A full-dose CT, and the same at a quarter of the dose ..." >&2
python examples/make_phantom.py "$out/full_dose.nii.gz"
tat simulate "$out/full_dose.nii.gz" --task ct-denoise --strength 0.25 --seed 1 -o "$out/quarter_dose.nii.gz" --overwrite

echo "Restoring ..." >&2
tat restore "$out/quarter_dose.nii.gz" --task ct-denoise -o "$out/restored.nii.gz" --report "$out/report.json" --overwrite

echo "Before (input: quarter dose) and after (restored), against full dose:"
tat evaluate "$out/restored.nii.gz" --reference "$out/full_dose.nii.gz" --input "$out/quarter_dose.nii.gz" --task ct-denoise

python examples/before_after.py "$out/before_after.png" --task ct-denoise \
  "Quarter dose=$out/quarter_dose.nii.gz" "Restored=$out/restored.nii.gz" "Full dose=$out/full_dose.nii.gz"

echo "A real CT slice (DICOM in, NIfTI out; there is no better scan of it to score against) ..." >&2
real=$(python -c 'from pydicom.data import get_testdata_file as find; print(find("CT_small.dcm", download=False), end="")')
tat restore "$real" -o "$out/real_restored.nii.gz" --overwrite
python examples/before_after.py "$out/real_before_after.png" --task ct-denoise \
  "As scanned=$real" "Restored=$out/real_restored.nii.gz"
echo "Figures: $out/before_after.png, $out/real_before_after.png"
