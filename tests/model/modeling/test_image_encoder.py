import pytest
import torch
from torch import nn

from model.modeling.image_encoder import ImageEncoder, build_trunk, fold_for_inference


@pytest.fixture(scope="module")
def timm_encoder() -> ImageEncoder:
    return ImageEncoder("timm:test_efficientnet").eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_row_zero_is_the_mean_of_the_map(timm_encoder: ImageEncoder) -> None:
    encoder = ImageEncoder("timm:test_efficientnet")
    encoder.register_module("trunk", nn.Identity())
    feature_map = torch.tensor([[[[1.0, 2, 3], [4, 5, 6]]]])  # (1, 1, 2, 3)
    assert encoder(feature_map)[0, :, 0].tolist() == [3.5, 1, 2, 3, 4, 5, 6]


def test_timm_backbone_gives_its_last_feature_map(timm_encoder: ImageEncoder) -> None:
    images = torch.randn(2, 3, 64, 96)
    feature_map = timm_encoder.trunk(images)
    assert feature_map.shape == (2, timm_encoder.feature_size, 2, 3)  # strides of 32
    features = timm_encoder(images)
    torch.testing.assert_close(features[:, 0], feature_map.mean((2, 3)))
    torch.testing.assert_close(features[:, 1:].transpose(1, 2), feature_map.flatten(2))


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_its_batch_norms_do_not_move(fine_tuned: bool) -> None:
    encoder = ImageEncoder("timm:test_efficientnet").requires_grad_(fine_tuned).train()
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    assert before
    features = encoder(torch.randn(2, 3, 64, 64))
    assert features.requires_grad == encoder.trunk.training == fine_tuned
    torch.testing.assert_close(dict(encoder.named_buffers()), before, atol=0, rtol=0)


def test_torchvision_resnet_gives_49_regions() -> None:
    encoder = ImageEncoder("torchvision:resnet18").eval()
    assert encoder.feature_size == 512
    with torch.no_grad():
        assert encoder(torch.randn(1, 3, 224, 224)).shape == (1, 50, 512)


def test_resnet_152_has_the_papers_parameter_count() -> None:
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
def test_unsuitable_image_encoder_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_trunk(name)


def with_statistics(encoder: ImageEncoder) -> ImageEncoder:
    """Give batch norms statistics as after training; fresh ones change nothing."""
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return encoder


@pytest.mark.parametrize("name", ["timm:test_efficientnet", "timm:tf_efficientnet_lite0", "torchvision:resnet18"])
def test_folding_batch_norms_keeps_features(name: str) -> None:
    encoder = with_statistics(ImageEncoder(name)).eval()
    images = torch.rand(2, 3, 96, 96)
    expected = encoder(images)
    fold_for_inference(encoder, size=96)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    torch.testing.assert_close(encoder(images), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_a_folded_encoder_refuses_to_be_saved() -> None:
    """Without its batch norms it no longer matches the configuration and would not load."""
    encoder = ImageEncoder("timm:test_efficientnet")
    fold_for_inference(encoder, size=64)
    with pytest.raises(ValueError, match=r"load a model that can be saved"):
        nn.Sequential(encoder).state_dict()


def test_batch_norms_in_another_order_stay() -> None:
    class Crossed(nn.Module):
        """The norm before the convolution."""

        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            mapped: torch.Tensor = self.convolution(self.norm(images))
            return mapped

    encoder = ImageEncoder("timm:test_efficientnet")
    encoder.trunk = Crossed()
    encoder = with_statistics(encoder).eval()
    images = torch.rand(2, 3, 8, 8)
    expected = encoder(images)
    fold_for_inference(encoder, size=8)
    torch.testing.assert_close(encoder(images), expected)
    assert encoder.state_dict()
