from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from model import SMNER, SMNERConfig, SMNERProcessor
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabeledPost, TypedWords
from training.figures.analysis import confusion, modality_gap, principal_plane, represent
from training.scoring.scores import Predictions


def post(words: str, *entities: tuple[int, int, str], image: Path | None = None) -> LabeledPost:
    return LabeledPost(words, tuple(words.split()), tuple(TypedWords(*entity) for entity in entities), image)


def test_confusions_by_hand() -> None:
    """Ann Lee is found once and cut short once, Rome is taken for an ORG, Oslo is missed, and "to" is no entity."""
    posts = [
        post("Ann Lee in Rome", (0, 1, "PER"), (3, 3, "LOC")),
        post("Ann Lee to Oslo", (0, 1, "PER"), (3, 3, "LOC")),
    ]
    predicted: Predictions = [
        (TypedWords(0, 1, "PER"), TypedWords(3, 3, "ORG")),
        (TypedWords(0, 0, "PER"), TypedWords(2, 2, "LOC")),
    ]
    assert confusion(posts, predicted, ["PER", "LOC", "ORG"]) == [
        [1, 0, 0, 1],  # PER: one right, one missed
        [0, 0, 1, 1],  # LOC: one taken for an ORG, one missed
        [0, 0, 0, 0],
        [1, 1, 0, 0],  # spurious: "Ann" and "to"
    ]


def test_the_gap_is_distance_over_spread() -> None:
    """The centers (0, 0) and (6, 8) are 10 apart; every point is 2 from the center of its cloud."""
    text = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])
    image = torch.tensor([[6.0, 10.0], [6.0, 6.0]])
    assert modality_gap(text, image) == pytest.approx(5)
    assert modality_gap(7 * text, 7 * image) == pytest.approx(5)
    assert modality_gap(text, text) == 0


def test_the_plane_has_the_widest_joint_spread() -> None:
    """Along the third axis ±3, along the first ±1, along the second nothing; signs are free."""
    text = torch.tensor([[0.0, 5.0, 3.0], [0.0, 5.0, -3.0]])
    image = torch.tensor([[1.0, 5.0, 0.0], [-1.0, 5.0, 0.0]])
    first, second = principal_plane(text, image)
    torch.testing.assert_close(first.abs(), torch.tensor([[3.0, 0.0], [3.0, 0.0]]))
    torch.testing.assert_close(second.abs(), torch.tensor([[0.0, 1.0], [0.0, 1.0]]))


@pytest.fixture
def dataset(processor: SMNERProcessor, image: Image.Image, tmp_path: Path) -> PostDataset:
    """Three posts, of which the first and the last have an image, and a fourth whose image is torn."""
    image.resize((64, 64)).save(tmp_path / "a.png")
    image.rotate(90).resize((64, 64)).save(tmp_path / "b.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    names = ("a.png", None, "b.png", "torn.png")
    texts = ("Kawhi Leonard won it", "hi", "Game of Thrones in St . Louis", "torn")
    posts = [post(text, image=tmp_path / name if name else None) for text, name in zip(texts, names, strict=True)]
    return PostDataset(posts, processor, decode_images=True)


def collator(model: SMNER, processor: SMNERProcessor) -> Collator:
    return Collator(processor, model.config.label2id, model.config.max_span_width)


@pytest.mark.parametrize("training", [True, False])
def test_representations_are_the_networks_own(
    smner: SMNER, processor: SMNERProcessor, dataset: PostDataset, training: bool
) -> None:
    """Of the first post alone, computed by hand from the network's parts; the torn image's post is left out."""
    smner.train(training)
    seen = represent(smner, dataset, collator(smner, processor))
    assert seen is not None
    assert smner.training == training
    smner.eval()
    assert len(seen.text) == len(seen.image) == 2
    batch = collator(smner, processor).inputs([dataset[0]])
    with torch.inference_mode():
        states = smner.text_encoder(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        image = smner.image_projection(smner.encode_images(batch["pixel_values"]))
        assert smner.bottleneck is not None
        torch.testing.assert_close(seen.text[:1], states[:, 0])
        torch.testing.assert_close(seen.image[:1], image[:, 0])
        assert seen.text_posterior is not None
        assert seen.image_posterior is not None
        torch.testing.assert_close(seen.text_posterior.mean[:1], smner.bottleneck.text_posterior(states[:, 0]).mean)
        posterior = smner.bottleneck.image_posterior(image[:, 0])
        torch.testing.assert_close(seen.image_posterior.deviation[:1], posterior.deviation)


def test_similarities_are_of_the_entities_found(smner: SMNER, processor: SMNERProcessor, dataset: PostDataset) -> None:
    """The network takes every single word for a PER and finds nothing else: one similarity for each of 4 + 7 words."""
    with torch.no_grad():
        for parameter in smner.classifier.parameters():
            parameter.zero_()
        parameter.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0, 0.0]))  # the last bias
    seen = represent(smner, dataset, collator(smner, processor))
    assert seen is not None
    assert seen.attended is not None
    assert len(seen.apart) == len(seen.attended) == 11
    batch = collator(smner, processor).inputs([dataset[0]])
    with torch.inference_mode():
        spans = smner.span_encoder(
            smner.text_encoder(batch["input_ids"], batch["attention_mask"]).last_hidden_state,
            batch["word_starts"], batch["word_ends"], batch["morphs"],
            smner(**batch).spans,
        )[:4]  # fmt: skip
    assert seen.image_posterior is not None
    expected = F.cosine_similarity(spans, seen.image_posterior.mean[:1], dim=-1)
    torch.testing.assert_close(seen.apart[:4], expected)


def test_without_cmib_and_cma_their_outputs_are_none(
    config: SMNERConfig, processor: SMNERProcessor, dataset: PostDataset
) -> None:
    config.use_cmib = config.use_cma = False
    model = SMNER(config)
    seen = represent(model, dataset, collator(model, processor))
    assert seen is not None
    assert (seen.text_posterior, seen.image_posterior, seen.attended) == (None, None, None)


def test_posts_without_images_have_no_representations(smner: SMNER, processor: SMNERProcessor) -> None:
    dataset = PostDataset([post("hi")], processor, decode_images=True)
    assert represent(smner, dataset, collator(smner, processor)) is None
