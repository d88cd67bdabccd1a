from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig

from model import SMNER, SMNERConfig


def test_the_defaults_are_the_papers() -> None:
    config = SMNERConfig()
    assert config.image_encoder == "torchvision:resnet152"
    assert (config.hidden_size, config.attention_heads, config.max_span_width) == (768, 12, 4)
    assert (config.length_size, config.morph_size, config.classifier_dropout) == (50, 100, 0.2)
    assert config.use_cmib
    assert config.use_cma


def test_paper_encoders_have_published_parameter_counts() -> None:
    with torch.device("meta"):
        model = SMNER(SMNERConfig())
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert sum(size for name, size in sizes.items() if name.startswith("text_encoder.")) == 109_482_240
    assert sum(size for name, size in sizes.items() if name.startswith("image_encoder.")) == 58_143_808


def test_no_entity_is_label_zero() -> None:
    config = SMNERConfig()
    assert config.id2label == {0: "O", 1: "PER", 2: "LOC", 3: "ORG", 4: "MISC"}
    assert config.label2id["ORG"] == 3
    assert config.entity_types == ["PER", "LOC", "ORG", "MISC"]
    assert config.num_labels == 5


def test_other_entity_types_may_be_given() -> None:
    config = SMNERConfig(id2label={0: "O", 1: "TEAM", 2: "VENUE"})
    assert config.entity_types == ["TEAM", "VENUE"]
    assert config.label2id == {"O": 0, "TEAM": 1, "VENUE": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id2label": {0: "PER", 1: "O"}}, "'O' at index 0"),
        ({"id2label": {0: "O"}}, "distinct entity types"),
        ({"id2label": {0: "O", 1: "PER", 2: "PER"}}, "distinct entity types"),
        ({"id2label": {0: "O", 2: "PER"}}, "distinct entity types"),
        ({"max_span_width": 0}, "at least 1, not 0"),
        ({"classifier_dropout": 1.0}, r"in \[0, 1\), not 1.0"),
        ({"classifier_dropout": -0.1}, r"in \[0, 1\), not -0.1"),
        ({"attention_heads": 7}, "width 768 is not divisible by 7 heads"),
        ({"initial_deviation": 0.0}, "must be positive, not 0.0"),
        ({"score_temperature": 0.0}, "must be positive, not 0.0"),
        ({"critic": "bilinear"}, "critic must be one of mlp, cosine, not 'bilinear'"),
        ({"image_encoder": None}, "image_feature_size must be given"),
    ],
)
def test_bad_configuration_is_refused_with_the_value(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SMNERConfig(**arguments)


def test_a_saved_configuration_is_read_back(tmp_path: Path) -> None:
    text = BertConfig(hidden_size=32, num_attention_heads=4)
    config = SMNERConfig(
        text_config=text, attention_heads=4, use_cma=False, max_span_width=8, id2label={0: "O", 1: "TEAM"}
    )
    config.save_pretrained(tmp_path)
    loaded = SMNERConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert loaded.id2label == {0: "O", 1: "TEAM"}
    assert (loaded.hidden_size, loaded.max_span_width, loaded.use_cma) == (32, 8, False)


def test_ready_features_need_no_image_encoder() -> None:
    config = SMNERConfig(image_encoder=None, image_feature_size=2048)
    assert (config.image_encoder, config.image_feature_size) == (None, 2048)
