#!/bin/sh
# In the Dockerfile: install the project's dependencies, or those of its extras, and write the bill of materials
# of all that the environment has then.
#   sh install.sh [EXTRA …]
set -eu
cd /opt/build
python=/opt/venv/bin/python
"$python" requirements.py pyproject.toml "$@" > requirements.txt
pip --cache-dir /root/.cache/pip --python "$python" install --constraint constraints.txt --requirement requirements.txt
/opt/cyclonedx/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
  --output-format JSON --output-file /opt/sbom.cdx.json "$python"
