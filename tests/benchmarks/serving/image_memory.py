"""How much memory decoding a photo at the limit of pixels takes, by format.

    python -m tests.benchmarks.serving.image_memory

Each photo, 8000 × 6000 pixels of noise enlarged, is decoded in a process of its own; printed are the MiB by which its
peak exceeds the memory before, and bytes a pixel.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_SIZE = (8000, 6000)
_FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": ("RGB", {"quality": 85}),
    "progressive JPEG": ("RGB", {"quality": 85, "progressive": True}),
    "PNG": ("RGB", {"compress_level": 1}),
    "WebP": ("RGB", {"method": 0}),
    "AVIF 4:2:0": ("RGB", {"speed": 10}),
    "AVIF 4:4:4": ("RGB", {"speed": 10, "subsampling": "4:4:4"}),
    "AVIF with transparency": ("RGBA", {"speed": 10}),
}
_PROGRAM = r"""
import re, sys
from model.preprocessing.images import read_image
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])  # getrusage counts the parent
content = open(sys.argv[1], "rb").read()
before = peak()
read_image(content, size=224)
print(peak() - before)
"""


def main() -> None:
    """Print one line for each format."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 4), np.uint8)
    photo = Image.fromarray(noise, "RGBA").resize(_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        for name, (mode, options) in _FILES.items():
            path = Path(folder, "photo")
            photo.convert(mode).save(path, name.split()[-1] if "JPEG" in name else name.split()[0], **options)
            done = subprocess.run([sys.executable, "-c", _PROGRAM, str(path)], capture_output=True, check=True)
            kib = int(done.stdout)
            print(
                f"{name:23} {kib / 1024:5.0f} MiB {kib * 1024 / (_SIZE[0] * _SIZE[1]):5.1f} bytes a pixel", flush=True
            )


if __name__ == "__main__":
    main()
