#!/bin/sh
# Makes benchmarks/.venv: the peers, and nothing else of their own; everything else, torch
# included, is seen through the project's .venv (run `make setup` first).
set -eu
cd "$(dirname "$0")/.."
project="$PWD/.venv"
own="$PWD/benchmarks/.venv"
[ -x "$project/bin/python" ] || { echo "No $project: run 'make setup' first." >&2; exit 1; }

"$project/bin/python" -m venv "$own"
# addsitedir, not a bare path: it also reads the project's own .pth files (editable install).
seen=$("$project/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
here=$("$own/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "import site; site.addsitedir('$seen')" > "$here/project.pth"

# --no-deps: the peers would pull in another torch, CUDA and old pins that they do not need to
# run these attacks. What they do import at the top comes with them here, or (visdom) has a
# stand-in in peers.py.
"$own/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
  foolbox==3.3.4 eagerpy==0.30.0 GitPython==3.1.46 gitdb==4.0.12 smmap==5.0.2 \
  torchattacks==3.5.1 torchvision==0.28.0 \
  adversarial-robustness-toolbox==1.20.1 six==1.17.0 tqdm==4.67.1 \
  cleverhans==4.0.0 adv-lib==0.2.8 torchattack==1.7.2 secml-torch==1.5 pyautoattack==0.2.0 \
  kornia==0.9.0 kornia_rs==0.2.0
"$own/bin/python" benchmarks/peers.py
