# notbugs on a GPU machine:
#   docker build -t notbugs .
#   docker run --rm --gpus all -v "$PWD":/work notbugs reproduce ilyas2019 --data cifar10 --preset gpu
# Another torch: --build-arg BASE=pytorch/pytorch:TAG (2.9 or newer).
ARG BASE=pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime
FROM ${BASE}

COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
# The image's own torch stays: a constraint keeps pip from fetching another.
RUN python -c "import torch; print('torch==' + torch.__version__)" > /tmp/constraint.txt \
 && pip install --no-cache-dir --constraint /tmp/constraint.txt "/src[all]" \
 && rm -r /src

ENV XDG_CACHE_HOME=/work/.cache
WORKDIR /work
ENTRYPOINT ["notbugs"]
