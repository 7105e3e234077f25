#!/usr/bin/env bash
# The parts of cifar10_features.py, but `resnet18-controls`, beside each other on one GPU, and the
# GPU tests beside them.
#
#   benchmarks/gpu/cifar10_features.sh SECONDS        no row begins after so many (420: 8 minutes)
#
# Needs CIFAR-10 under $NOTBUGS_DATA and the packages of pyproject.toml. Rows are kept in $KEEP, a
# second call on the same machine goes on with what is missing; results are copied to $OUT.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${OUT:-runs/gpu}
keep=${KEEP:-/tmp/cifar10-features}
python=${PYTHON:-python3}
mkdir -p "$keep" "$out"
export OMP_NUM_THREADS=3
if [ ! -e "$keep/tests.log" ]; then
  timeout "$1" "$python" -m pytest -q -n 3 -p no:cacheprovider -p no:benchmark -m gpu \
    tests/entries tests/training/test_gpu.py >"$keep/tests.log" 2>&1 &
fi
for part in sets controls factors robust resnet18; do
  "$python" benchmarks/gpu/cifar10_features.py --parts $part --seconds "$1" --invert 100 \
    --out "$keep" >>"$keep/$part.log" 2>&1 &
done
wait
cp "$keep"/*.json "$out"
(cd "$keep" && tail -n 400 -v *.log) >"$out/logs.txt"
tar -cf "$out/pictures.tar" -C "$keep" pictures
tail -n 25 "$keep/tests.log" | cut -c1-250
grep -h source "$keep"/*.log
cat "$keep"/*.md
