from pathlib import Path

import pytest
from PIL import Image

from model import SMNER, SMNERProcessor
from training.features.image_encoder import FrozenImageEncoder


@pytest.fixture
def images(tmp_path: Path, image: Image.Image) -> list[Path]:
    """Two images, the second upside down."""
    folder = tmp_path / "photos"
    folder.mkdir()
    small = image.resize((96, 96))
    small.save(folder / "a.png")
    small.rotate(180).save(folder / "b.jpg")
    return [folder / "a.png", folder / "b.jpg"]


@pytest.fixture
def encoder(smner: SMNER, processor: SMNERProcessor) -> FrozenImageEncoder:
    """The image encoder of the small network."""
    assert smner.image_encoder is not None
    return FrozenImageEncoder("timm:test_efficientnet", smner.image_encoder, processor.image_settings)
