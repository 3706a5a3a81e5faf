# chronos-dysts with the tested set of packages, for the processor:
#   docker build -t chronos-dysts .
#   docker run --rm -v "$PWD:/work" chronos-dysts demo
#   docker run --rm -p 8888:8888 -v "$PWD:/work" --entrypoint jupyter chronos-dysts lab --ip 0.0.0.0 --no-browser --allow-root
# For an accelerator, with the NVIDIA container toolkit on the host:
#   docker build -t chronos-dysts:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
#   docker run --rm --gpus all -v "$PWD:/work" chronos-dysts:cuda train …
FROM python:3.12-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
# The packages change less often than the code: they have a layer of their own.
COPY requirements.txt .
RUN pip install --extra-index-url "$TORCH_INDEX" -r requirements.txt
COPY setup.py settings.ini pyproject.toml README.md LICENSE ./
COPY chronos_dysts chronos_dysts
RUN pip install --no-deps --no-build-isolation . && pip check

FROM python:3.12-slim
COPY --from=build /opt/venv /opt/venv
# TOKENIZERS_PARALLELISM is no secret.
# hadolint ignore=DL3064
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
WORKDIR /work
ENTRYPOINT ["chronos-dysts"]
CMD ["--help"]
