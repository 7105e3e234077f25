#!/usr/bin/env bash
# Everything that wants a GPU, in three calls of at most ten minutes each:
#
#   benchmarks/on_gpu.sh quick | robust | tests     results go to $OUT (default: runs/gpu)
#
# Needs CIFAR-10 under $NOTBUGS_DATA. Packages that the machine lacks may lie as wheels in .whl/.
# DEVICE=cpu with IMAGES=2048 EPOCHS=1 COUNT=64 tries all of it without a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
part=${1:?quick, robust or tests}
out=${OUT:-runs/gpu}
device=${DEVICE:-cuda}
python=${PYTHON:-python3}
mkdir -p "$out"
failed=0
if compgen -G ".whl/*.whl" >/dev/null; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target /tmp/site .whl/*.whl
  export PYTHONPATH=/tmp/site:${PYTHONPATH:-}
fi
export PYTHONPATH=$PWD/src:${PYTHONPATH:-} PYTHONUNBUFFERED=1
few=(${IMAGES:+--images "$IMAGES"} ${EPOCHS:+--epochs "$EPOCHS"} ${COUNT:+--count "$COUNT"})

case $part in
  quick)  # 94 % in seconds, and whether compiling and CUDA graphs pay
    for mode in "" default reduce-overhead; do
      mkdir -p "$out/standard-${mode:-eager}"
      "$python" benchmarks/cifar10.py --only standard --device "$device" --seeds "${SEEDS:-5}" \
        "${few[@]}" ${mode:+--compile "$mode"} --out "$out/standard-${mode:-eager}" ||
        { echo "standard, ${mode:-eager}: failed"; failed=1; }
    done
    "$python" benchmarks/compiled.py --device "$device" --rounds "${ROUNDS:-20}" \
      --modes default reduce-overhead --out "$out" || { echo "compiled: failed"; failed=1; }
    ;;
  robust)  # an L2 model of ResNet-18's class, judged by the standard evaluation
    "$python" benchmarks/cifar10.py --only robust --device "$device" "${few[@]}" \
      --count "${COUNT:-2000}" --out "$out"
    ;;
  tests)  # what the tests have to say of CUDA, and two processes by NCCL where there are two GPUs
    "$python" -m pytest -q tests -m gpu 2>&1 | tee "$out/tests.log" | tail -15
    ;;
  *)
    echo "quick, robust or tests; got $part" >&2
    exit 2
    ;;
esac
find "$out" -name '*.md' -exec cat {} +
exit "$failed"
