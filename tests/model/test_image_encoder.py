import pytest
import torch
from torch import nn

from model.image_encoder import ImageEncoder, build_trunk


@pytest.fixture(scope="module")
def timm_encoder() -> ImageEncoder:
    return ImageEncoder("timm:test_efficientnet").eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_row_zero_is_the_mean_of_the_map_and_the_rest_is_the_map_row_by_row(timm_encoder: ImageEncoder) -> None:
    encoder = ImageEncoder("timm:test_efficientnet")
    encoder.register_module("trunk", nn.Identity())
    feature_map = torch.tensor([[[[1.0, 2, 3], [4, 5, 6]]]])  # (1, 1, 2, 3)
    assert encoder(feature_map)[0, :, 0].tolist() == [3.5, 1, 2, 3, 4, 5, 6]


def test_a_timm_backbone_is_read_at_its_last_feature_map(timm_encoder: ImageEncoder) -> None:
    photos = torch.randn(2, 3, 64, 96)
    feature_map = timm_encoder.trunk(photos)
    assert feature_map.shape == (2, timm_encoder.feature_size, 2, 3)  # strides of 32
    features = timm_encoder(photos)
    torch.testing.assert_close(features[:, 0], feature_map.mean((2, 3)))
    torch.testing.assert_close(features[:, 1:].transpose(1, 2), feature_map.flatten(2))


def test_a_frozen_encoder_stays_in_evaluation_mode_and_its_batch_norms_do_not_move() -> None:
    encoder = ImageEncoder("timm:test_efficientnet").requires_grad_(False).train()
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    encoder(torch.randn(2, 3, 64, 64))
    assert not encoder.trunk.training
    torch.testing.assert_close(dict(encoder.named_buffers()), before, atol=0, rtol=0)


def test_an_encoder_that_is_fine_tuned_goes_into_training_mode() -> None:
    assert ImageEncoder("timm:test_efficientnet").train().trunk.training


def test_a_torchvision_resnet_gives_the_papers_grid_of_49_regions() -> None:
    encoder = ImageEncoder("torchvision:resnet18").eval()
    assert encoder.feature_size == 512
    with torch.no_grad():
        assert encoder(torch.randn(1, 3, 224, 224)).shape == (1, 50, 512)


def test_resnet_152_has_as_many_parameters_as_the_paper_says() -> None:
    with torch.device("meta"):
        trunk, feature_size = build_trunk("torchvision:resnet152")
    assert (parameters(trunk), feature_size) == (58_143_808, 2048)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:vit_tiny_patch16_224", r"\(1, 197, 192\), not in a feature map"),
        ("timm:swin_tiny_patch4_window7_224", r"\(1, 7, 7, 768\), not in a feature map"),  # channels last
        ("torchvision:alexnet", "torchvision:alexnet is not a ResNet"),
        ("keras:resnet50", "'keras:resnet50' is not of the form"),
        ("resnet50", "'resnet50' is not of the form"),
        ("torchvision:resnet153", "resnet153"),
    ],
)
def test_an_encoder_that_will_not_do_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_trunk(name)
