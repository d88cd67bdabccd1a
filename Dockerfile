# Two images that share layers: `service` (the default target) serves, `training` trains.
#   docker build -t smner .
#   docker build -t smner-cpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .

# ---- An empty environment. pip stays outside: the final images do not need it.
FROM python:3.11-slim-bookworm AS environment
RUN python -m venv --without-pip /opt/venv
WORKDIR /build

# ---- Dependencies; rebuilt only when constraints.txt or pyproject.toml changes.
FROM environment AS dependencies
# torch from PyPI includes CUDA. The CPU build has its own index and is a tenth of the size.
ARG TORCH_INDEX=""
COPY constraints.txt ./
RUN pip --python /opt/venv/bin/python install --no-cache-dir --constraint constraints.txt \
        ${TORCH_INDEX:+--index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple} torch torchvision
COPY pyproject.toml docker/requirements.py ./
RUN python requirements.py pyproject.toml > requirements.txt \
    && pip --python /opt/venv/bin/python install --no-cache-dir --constraint constraints.txt \
        --requirement requirements.txt
# The bill of materials lists what was installed, so its tool has an environment of its own.
RUN python -m venv /opt/cyclonedx \
    && /opt/cyclonedx/bin/pip install --no-cache-dir --constraint constraints.txt cyclonedx-bom \
    && /opt/cyclonedx/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
        --output-format JSON --output-file /opt/sbom.cdx.json /opt/venv/bin/python

# ---- The code and the embedded checkpoint, a small layer on a large one.
FROM environment AS application
# Build isolation would fetch the newest setuptools, whatever the constraints say.
COPY constraints.txt ./
RUN pip --python /opt/venv/bin/python install --no-cache-dir --constraint constraints.txt setuptools
COPY pyproject.toml README.md LICENSE ./
COPY model model
COPY training training
COPY service service
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-build-isolation --target /opt/app .

# ---- Common to both images.
FROM python:3.11-slim-bookworm AS runtime
ARG REVISION=""
LABEL org.opencontainers.image.title="SMNER" \
      org.opencontainers.image.description="Named entity recognition for social-media posts, from text and photo" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm"
RUN groupadd --gid 10001 smner \
    && useradd --uid 10001 --gid smner --no-create-home --home-dir /tmp --shell /usr/sbin/nologin smner
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=dependencies /opt/sbom.cdx.json /opt/sbom.cdx.json
COPY --from=application /opt/app /opt/app
# Deployments mount the root file system read-only; everything is written to /tmp.
ENV PATH=/opt/app/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /tmp

# ---- docker build --target training
FROM runtime AS training
COPY pyproject.toml constraints.txt docker/requirements.py /opt/training/
# This image has more in it, so it gets a bill of materials of its own.
RUN python /opt/training/requirements.py /opt/training/pyproject.toml train > /opt/training/requirements.txt \
    && pip --python /opt/venv/bin/python install --no-cache-dir --constraint /opt/training/constraints.txt \
        --requirement /opt/training/requirements.txt \
    && python -m venv /opt/cyclonedx \
    && /opt/cyclonedx/bin/pip install --no-cache-dir --constraint /opt/training/constraints.txt cyclonedx-bom \
    && /opt/cyclonedx/bin/cyclonedx-py environment --pyproject /opt/training/pyproject.toml --output-reproducible \
        --output-format JSON --output-file /opt/sbom.cdx.json /opt/venv/bin/python \
    && rm -r /opt/cyclonedx \
    && install --directory --mode 1777 /cache
ENV HF_HOME=/cache/huggingface \
    TORCH_HOME=/cache/torch
USER 10001:10001
ENTRYPOINT ["smner-train"]

# ---- docker build --target service
FROM runtime AS service
COPY docker/healthcheck.py /opt/healthcheck.py
# A checkpoint has all that serving needs; nothing is downloaded at run time.
ENV SMNER_HOST=0.0.0.0 \
    SMNER_PORT=8000 \
    HF_HUB_OFFLINE=1
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 CMD ["python", "/opt/healthcheck.py"]
ENTRYPOINT ["smner-serve"]
