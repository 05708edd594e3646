# syntax=docker/dockerfile:1
# docker build --target cpu  -t lethe:cpu .
# docker build --target cuda -t lethe:cuda .

ARG PYTHON_VERSION=3.11
ARG DEBIAN=bookworm

# One base for both targets. vLLM's CUDA wheels bring the CUDA libraries along and the host brings the driver, so an
# nvidia/cuda base would hold them a second time. What it lacks is nvcc: vLLM then does without FlashInfer's kernels,
# which are compiled on the spot.
# g++: torch.compile for the CPU and Triton for the GPU compile when the server starts. libnuma1: vLLM's CPU kernels.
FROM python:${PYTHON_VERSION}-slim-${DEBIAN} AS base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 lethe \
    && install --directory --owner=lethe --group=lethe /home/lethe/.cache
ENV PATH=/opt/lethe/bin:$PATH \
    PYTHONUNBUFFERED=1

FROM base AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/lethe
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY server server
COPY offsets offsets

# As in the Makefile, which says why: torch's CPU build from PyTorch's index, and three packages taken out again.
# EXTRAS: of pyproject.toml.
FROM build AS build-cpu
ARG EXTRAS=cpu,signing,s3
ARG TORCH=torch==2.13.0+cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# hadolint ignore=DL3013
RUN pip install --no-deps --extra-index-url "${TORCH_INDEX}" "${TORCH}" \
    && pip install ".[${EXTRAS}]" \
    && pip uninstall --yes torchvision torchaudio torchcodec

FROM build AS build-cuda
ARG EXTRAS=cuda,signing,s3
# hadolint ignore=DL3013
RUN pip install ".[${EXTRAS}]"

FROM base AS server
LABEL org.opencontainers.image.title="lethe" \
      org.opencontainers.image.description="A black-box unlearning inference server" \
      org.opencontainers.image.licenses="Apache-2.0"
# In a container the default, 127.0.0.1, can't be reached from outside.
ENV LETHE_HOST=0.0.0.0
# A number: Kubernetes can't tell from a name that it isn't root.
USER 1000:1000
WORKDIR /home/lethe
EXPOSE 8000
# Alive, not ready: GET /ready says when the modules are loaded. A port given otherwise than as LETHE_PORT, or TLS, needs
# a check of its own.
HEALTHCHECK --interval=30s --timeout=10s --start-period=15m --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; \
u.urlopen('http://127.0.0.1:' + os.environ.get('LETHE_PORT', '8000') + '/health', timeout=8)"]
ENTRYPOINT ["lethe"]
CMD ["serve", "--help"]

FROM server AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/lethe /opt/lethe

# Last, so that a build without a target runs everywhere.
FROM server AS cpu
COPY --from=build-cpu /opt/lethe /opt/lethe
