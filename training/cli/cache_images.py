"""``smner-cache-images``: encodes a folder of images once."""

import argparse
import sys
from pathlib import Path

from training.cli.arguments import DEVICES
from training.cli.command import command
from training.features.cache import cache_images, images_in
from training.features.image_encoder import FrozenImageEncoder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the image-feature file to write")
    parser.add_argument(
        "--encoder", default="torchvision:resnet152", metavar="NAME", help="torchvision:NAME or timm:NAME (%(default)s)"
    )
    parser.add_argument(
        "--weights", metavar="SOURCE", help="package:NAME, a .pth file, or none for random; else the published weights"
    )
    parser.add_argument("--device", default="auto", help=DEVICES)


@command("smner-cache-images", "Encode a folder of photos once.", add_arguments, advice="the same command continues")
def main(options: argparse.Namespace) -> None:
    """Encode the images, and name those that cannot be read."""
    pretrained = options.weights != "none"
    encoder = FrozenImageEncoder.load(options.encoder, options.weights, pretrained=pretrained, device=options.device)
    images = images_in(options.images)
    broken = cache_images(images, options.output, encoder)
    if len(broken) == len(images):
        raise ValueError(f"none of {len(images)} photos could be read")
    for image in broken:
        print(f"{image}: cannot be read, left out", file=sys.stderr)
