# Three images that share layers: `service` (the default target) serves, `bulk` answers whole folders, `training` trains.
#   docker build -t smner .
#   docker build -t smner-cpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
# docker/pin-images.sh names the base images by digest.

# ---- torch's own pins, the first block of constraints.txt. No other pin changes the result, so a change of those
# installs no torch and leaves its layer, nearly all of the image, as it is.
FROM python:3.11-slim-bookworm AS pins
WORKDIR /build
COPY constraints.txt ./
RUN sed '/^$/q' constraints.txt > torch.txt

# ---- torch, in an environment without pip: that of the base image installs into it.
FROM python:3.11-slim-bookworm AS torch
RUN python -m venv --without-pip /opt/venv
# torch from PyPI includes CUDA. The CPU build has its own index and is a tenth of the size.
ARG TORCH_INDEX=""
COPY --from=pins /build/torch.txt /build/torch.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --constraint /build/torch.txt \
        ${TORCH_INDEX:+--index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple} torch torchvision

# ---- What writes the bills of materials, which list what is installed beside it.
FROM pins AS cyclonedx
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/cyclonedx \
    && /opt/cyclonedx/bin/pip install --constraint constraints.txt cyclonedx-bom

# ---- The code and the embedded checkpoints.
FROM pins AS application
# The commands name the Python that builds them, so it has the path of the one that will run them.
RUN python -m venv /opt/venv
# Build isolation would fetch the newest setuptools, whatever the constraints say.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --constraint constraints.txt setuptools
COPY pyproject.toml README.md LICENSE ./
COPY model model
COPY training training
COPY service service
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation --target /opt/app .

# ---- Common to all images.
FROM python:3.11-slim-bookworm AS runtime
LABEL org.opencontainers.image.title="SMNER" \
      org.opencontainers.image.description="Named entity recognition for social-media posts, from text and photo" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm"
RUN groupadd --gid 10001 smner \
    && useradd --uid 10001 --gid smner --no-create-home --home-dir /tmp --shell /usr/sbin/nologin smner
COPY --from=torch /opt/venv /opt/venv
COPY pyproject.toml constraints.txt docker/requirements.py docker/install.sh /opt/build/
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=cyclonedx,source=/opt/cyclonedx,target=/opt/cyclonedx \
    sh /opt/build/install.sh
# Deployments mount the root file system read-only; everything is written to /tmp.
ENV PATH=/opt/app/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /tmp

# ---- docker build --target training
FROM runtime AS training
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=cyclonedx,source=/opt/cyclonedx,target=/opt/cyclonedx \
    sh /opt/build/install.sh train \
    && install --directory --mode 1777 /cache
ENV HF_HOME=/cache/huggingface \
    TORCH_HOME=/cache/torch
COPY --from=application /opt/app /opt/app
ARG REVISION=""
LABEL org.opencontainers.image.revision="$REVISION"
USER 10001:10001
ENTRYPOINT ["smner-train"]

# ---- docker build --target bulk
FROM runtime AS bulk
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=cyclonedx,source=/opt/cyclonedx,target=/opt/cyclonedx \
    sh /opt/build/install.sh bulk s3 kuberay
ENV HF_HUB_OFFLINE=1
COPY --from=application /opt/app /opt/app
ARG REVISION=""
LABEL org.opencontainers.image.revision="$REVISION"
USER 10001:10001
ENTRYPOINT ["smner-recognize"]

# ---- docker build --target service
FROM runtime AS service
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=cyclonedx,source=/opt/cyclonedx,target=/opt/cyclonedx \
    sh /opt/build/install.sh traces
COPY docker/healthcheck.py /opt/healthcheck.py
# A checkpoint has all that serving needs; nothing is downloaded at run time.
ENV SMNER_HOST=0.0.0.0 \
    SMNER_PORT=8000 \
    HF_HUB_OFFLINE=1
COPY --from=application /opt/app /opt/app
ARG REVISION=""
LABEL org.opencontainers.image.revision="$REVISION"
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 CMD ["python", "/opt/healthcheck.py"]
ENTRYPOINT ["smner-serve"]
