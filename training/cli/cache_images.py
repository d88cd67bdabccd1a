"""``smner-cache-images``: runs a frozen image encoder once over a folder of photos."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.features.image_features import cache_images, images_in
from training.learning.encoders import FrozenImageEncoder


def arguments() -> argparse.ArgumentParser:
    """The command line of ``smner-cache-images``."""
    parser = argparse.ArgumentParser("smner-cache-images", description="Encode a folder of photos once.")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="the photos")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the image-feature file to write")
    parser.add_argument(
        "--encoder", default="torchvision:resnet152", metavar="NAME", help="torchvision:NAME or timm:NAME"
    )
    parser.add_argument(
        "--weights", metavar="SOURCE", help="package:NAME, a .pth file, or none for random; else the published weights"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; a mistake of the caller is one line on standard error and exit status 2."""
    options = arguments().parse_args(argv)
    try:
        pretrained = options.weights != "none"
        weights = options.weights if pretrained else None
        encoder = FrozenImageEncoder.load(options.encoder, weights, pretrained=pretrained, device=options.device)
        images = images_in(options.images)
        broken = cache_images(images, options.output, encoder)
    except (ValueError, OSError, ImportError) as error:
        print(f"smner-cache-images: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("smner-cache-images: interrupted; the same command goes on", file=sys.stderr)
        return 130
    if len(broken) == len(images):
        print(f"smner-cache-images: none of {len(images)} photos could be read", file=sys.stderr)
        return 2
    for image in broken:
        print(f"{image}: cannot be read, left out", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
