import torch

from model.modeling.morph_inputs import MorphInputs
from model.morphs import Morph


def test_morph_is_added_to_its_words_sub_tokens() -> None:
    """[CLS] pa ##ris HAS [SEP] and a padded post [CLS] 9 [SEP] [PAD] [PAD]."""
    inputs = MorphInputs(1)
    with torch.no_grad():
        inputs.embedding.weight.copy_(torch.tensor([[0.0], [10], [20], [30], [40], [50]]))
    starts, ends = torch.tensor([[1, 3], [1, 0]]), torch.tensor([[2, 3], [1, 0]])
    morphs = torch.tensor([[Morph.LOWER, Morph.UPPER], [Morph.DIGIT, Morph.PADDING]])
    added = inputs(torch.ones(2, 5, 1), starts, ends, morphs)[..., 0]
    assert added.tolist() == [[1, 21, 21, 11, 1], [1, 41, 1, 1, 1]]
