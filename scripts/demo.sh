#!/bin/sh
# bale's main job on a real checkpoint: compress, inspect, verify, decompress, then the same with loss.
# Run by `make demo`; needs Python 3.11 or newer. PYTHON names it, MODELS the folder for the checkpoint.
set -eu
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
MODELS=${MODELS:-.models}
venv=.venv-demo
work=build/demo

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
if [ ! -t 1 ] || [ -n "${NO_COLOR:-}" ]; then
    say() { printf '\n%s\n' "$*"; }
fi
run() { printf '$ %s\n' "$*"; "$@"; }

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "bale needs Python 3.11 or newer; name one with: make demo PYTHON=python3.12" >&2
    exit 2
fi

# The stamp is written last, so an installation that was broken off is done again.
if [ ! -e "$venv/ready" ] || [ -n "$(find pyproject.toml -newer "$venv/ready")" ]; then
    say "Installing bale into $venv (no torch)"
    "$PYTHON" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable .
    touch "$venv/ready"
fi
bin=$(pwd)/$venv/bin
PATH=$bin:$PATH

say "A public checkpoint: MiniLM, a sentence encoder, 91 MB of float32"
python scripts/fetch_models.py "$MODELS" minilm >/dev/null
rm -rf "$work"
mkdir -p "$work"
cp "$MODELS/minilm/model.safetensors" "$work/model.safetensors"
cd "$work"

say "1. Compress, every bit kept"
run bale compress model.safetensors

say "2. What is inside"
printf '$ bale inspect model.safetensors.bale\n'
bale inspect model.safetensors.bale >inspect.txt
head -n 6 inspect.txt
echo "... and $(($(wc -l <inspect.txt) - 7)) more tensors"
tail -n 1 inspect.txt

say "3. Check every stored byte and every decoded tensor"
run bale verify model.safetensors.bale

say "4. Get it back"
run bale decompress model.safetensors.bale -o restored.safetensors
python - <<'END'
import hashlib

digests = {}
for name in ("model.safetensors", "restored.safetensors"):
    with open(name, "rb") as file:
        digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    print(f"SHA-256 {digests[name]}  {name}")
if len(set(digests.values())) > 1:
    raise SystemExit("the two files differ: that is a bug in bale, please report it")
print("The same file, byte for byte.")
END

say "5. The same with loss: matrices as 4-bit integers, each tensor's error measured on what was written"
run bale compress model.safetensors -p int4 -o model-int4.bale
run bale verify model-int4.bale --against model.safetensors

say "6. The least error in as many bits (compiles for some seconds at its first run)"
run bale compress model.safetensors -p trellis:bits=3.85 -o model-trellis.bale

say "In short"
python - <<'END'
import json
import os

ROW = "{:<10} {:>12} {:>8} {:>14} {:>14}"
print(ROW.format("", "bytes", "", "bits a weight", "weight error"))
original = os.path.getsize("model.safetensors")
rows = []
for title, archive in (("lossless", "model.safetensors.bale"), ("int4", "model-int4.bale"), ("trellis", "model-trellis.bale")):
    with open(archive + ".report.json", encoding="utf-8") as file:
        totals = json.load(file)["totals"]
    error = totals["relative_error"]
    rows.append((title, totals["stored_bytes"], totals["bits_per_weight"], f"{100 * error:.1f} %" if error else "none"))
weights = 8 * rows[0][1] / rows[0][2]
for title, size, bits, error in (("original", original, 8 * original / weights, "-"), *rows):
    print(ROW.format(title, f"{size:,}", f"{100 * size / original:.1f} %", f"{bits:.2f}", error))
END
cat <<END

Weight error is the distance from the original weights, relative to their size. It is not model quality:
try the model before you ship lossy weights.

The archives and their reports are in $work. Next: $venv/bin/bale --help
END
