import torch

from model import SMNER, Recognizer, SMNERConfig, SMNERProcessor
from training.scoring.speed import as_served, measure_speed


def test_speed_is_measured_in_one_thread(recognizer: Recognizer) -> None:
    torch.set_num_threads(2)
    speed = measure_speed(recognizer, ["Anna visits Rome"] * 45)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert speed is not None
    assert speed.on_cpu
    assert speed.posts == 15  # every third
    assert 0 < speed.alone < (speed.with_photo or 0)
    assert speed.per_second > 0


def test_without_an_image_encoder_no_photo(config: SMNERConfig, processor: SMNERProcessor) -> None:
    config.image_encoder, config.image_feature_size = None, 24
    speed = measure_speed(Recognizer(SMNER(config), processor, device="cpu"), ["Rome"])
    assert speed is not None
    assert speed.with_photo is None


def test_without_posts_there_is_no_speed(recognizer: Recognizer) -> None:
    assert measure_speed(recognizer, []) is None


def test_measuring_leaves_the_network_alone(smner: SMNER, processor: SMNERProcessor) -> None:
    """Folding changes weights, which then cannot be saved."""
    before = {name: tensor.clone() for name, tensor in smner.state_dict().items()}
    served = as_served(smner.train(), processor)
    assert smner.training
    assert served.model is not smner
    torch.testing.assert_close(smner.state_dict(), before, atol=0, rtol=0)
