from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from model import SMNER, Recognizer, SMNERProcessor
from model.checkpoint import save_checkpoint
from model.errors import TextTooLong
from model.modeling.image_encoder import ImageEncoder
from tests.training.learning.architectures import ARCHITECTURES, MAX_TOKENS, WORDS, Architecture
from training.cli.train import main
from training.data.dataset import Collator, PostDataset
from training.data.posts import LabeledPost, TypedWords
from training.data.sources import DataSource
from training.learning.network import build
from training.learning.objective import Objective
from training.recipes.recipe import Recipe

TYPES = ["PER", "LOC"]
POSTS = [
    "RT @KawhiLeonard: the #NBA is great in St. Louis 😀 👩‍👩‍👧 so great that it takes more than a few words!",
    "hi",
    "Ünïcode e\u0301 \u200d日本 Angela visits Paris \x01",
]


class Tiny(NamedTuple):
    """An architecture, its published folder, and the network and processor built from it."""

    architecture: Architecture
    folder: Path
    model: SMNER
    processor: SMNERProcessor

    def logits(self, *posts: str) -> list[torch.Tensor]:
        """Logits of each post's real spans, from one batch."""
        with torch.no_grad():
            output = self.model.eval()(**self.processor(posts))
        return [logits[mask] for logits, mask in zip(output.logits, output.spans.mask, strict=True)]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def tiny(request: pytest.FixtureRequest, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp(request.param)
    architecture = ARCHITECTURES[request.param]
    architecture.save(folder)
    model, processor = build(recipe.model_copy(update={"text_encoder": str(folder)}), TYPES)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)  # so that inputs make a difference
    return Tiny(architecture, folder, model, processor)


def test_each_word_knows_its_sub_tokens(tiny: Tiny) -> None:
    encoded = tiny.processor.tokenize_words(WORDS)
    tokens = tiny.processor.tokenizer.convert_ids_to_tokens(encoded.input_ids)
    pieces = tiny.architecture.pieces
    assert tokens[1:-1] == list(chain(*pieces))
    ends = [sum(map(len, pieces[: word + 1])) for word in range(len(pieces))]  # [CLS] shifts them by one
    assert encoded.word_ends == ends
    assert encoded.word_starts == [1, *(end + 1 for end in ends[:-1])]


@pytest.mark.parametrize("post", POSTS)
def test_every_raw_word_has_sub_tokens(tiny: Tiny, post: str) -> None:
    encoded = tiny.processor.tokenize(post)
    assert all(post[word.start : word.end] == word.text for word in encoded.words)
    starts, ends = encoded.word_starts, encoded.word_ends
    assert starts == [1, *(end + 1 for end in ends[:-1])]
    assert all(start <= end for start, end in zip(starts, ends, strict=True))
    assert ends[-1] == len(encoded.input_ids) - 2  # before [SEP]


def test_max_tokens_equals_the_encoders_positions(tiny: Tiny) -> None:
    """An exclamation mark is one sub-token or, with its space, two; [CLS] and [SEP] are the others."""
    each = len(tiny.processor.tokenize("!").input_ids) - 2
    fitting = (MAX_TOKENS - 2) // each
    assert tiny.processor.max_tokens == MAX_TOKENS
    assert torch.isfinite(tiny.logits("!" * fitting)[0]).all()
    with pytest.raises(TextTooLong, match=f"at most {MAX_TOKENS}"):
        tiny.processor.tokenize("!" * (fitting + 1))


def test_padding_uses_the_encoders_pad_token(tiny: Tiny) -> None:
    """RoBERTa derives positions from it."""
    assert tiny.processor.tokenizer.pad_token_id == tiny.model.text_encoder.config.pad_token_id


def test_batching_does_not_change_answers(tiny: Tiny) -> None:
    together, alone = tiny.logits(*POSTS), [tiny.logits(post)[0] for post in POSTS]
    for left, right in zip(together, alone, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-4)
    assert (together[0][0] - together[2][0]).abs().max() > 1e-2


def test_morphs_at_the_input_leave_the_positions_right(tiny: Tiny, recipe: Recipe) -> None:
    """Embeddings do not show RoBERTa where the padding is."""
    told = recipe.model_copy(update={"text_encoder": str(tiny.folder), "morph_inputs": True})
    model, _ = build(told, TYPES)
    model.load_state_dict(tiny.model.state_dict(), strict=False)  # all but the morphs, which start at zero
    for own, other in zip(tiny._replace(model=model).logits(*POSTS), tiny.logits(*POSTS), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-4)


def test_checkpoint_answers_like_the_saved_network(tiny: Tiny, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, tiny.model, tiny.processor, card={"README.md": b"# tiny\n"})
    loaded = Recognizer.from_pretrained(tmp_path, device="cpu")
    assert loaded.processor.max_tokens == MAX_TOKENS
    for words in (WORDS, *map(str.split, POSTS)):
        assert loaded.processor.tokenize_words(words) == tiny.processor.tokenize_words(words)
    again = tiny._replace(model=loaded.model, processor=loaded.processor)
    for left, right in zip(again.logits(*POSTS), tiny.logits(*POSTS), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_few_steps_lower_the_loss(tiny: Tiny, recipe: Recipe, bf16: bool) -> None:
    model, processor = build(recipe.model_copy(update={"text_encoder": str(tiny.folder)}), TYPES)
    posts = [LabeledPost("1", ("Kawhi", "in", "Rome"), (TypedWords(0, 0, "PER"), TypedWords(2, 2, "LOC")))]
    batch = Collator(processor, model.config.label2id, 4)([PostDataset(posts, processor)[0]] * 2)
    optimizer = torch.optim.AdamW([p for p in model.train().parameters() if p.requires_grad], lr=5e-3)
    objective = Objective(model, no_entity_weight=1, cmib_weight=0, cmib_beta=0)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = objective(batch).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert sum(losses[-3:]) / 3 < 0.7 * losses[0]


def test_smner_train_takes_its_folder(tiny: Tiny, recipe: Recipe, source: DataSource, tmp_path: Path) -> None:
    keys = ["pretrained=false", "image_encoder=timm:test_efficientnet", "image_encoder_weights=none", "max_steps=1"]
    keys += ["teacher=none", "attention_heads=2", f"text_encoder={tiny.folder}"]
    run = tmp_path / "run"
    assert main(["compact", "--data", str(source.path), "--output", str(run), "--set", *keys]) == 0
    assert Recognizer.from_pretrained(run, device="cpu").recognize("") == []


def test_half_precision_weights_are_trained_in_single(tiny: Tiny, recipe: Recipe, tmp_path: Path) -> None:
    published = tiny.architecture.save(tmp_path, half=True).state_dict()
    torch.save(ImageEncoder("timm:test_efficientnet").trunk.state_dict(), tmp_path / "image.pth")
    weights = {"pretrained": True, "image_encoder_weights": str(tmp_path / "image.pth")}
    for changes in ({}, weights):
        model, _ = build(recipe.model_copy(update={"text_encoder": str(tmp_path), **changes}), TYPES)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(torch.equal(own, published[name].float()) for name, own in model.text_encoder.state_dict().items())
