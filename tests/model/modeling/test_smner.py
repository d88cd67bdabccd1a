import math
from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import masking_utils

from model import SMNER, SMNERConfig, SMNERProcessor
from model.modeling.smner import SMNEROutput

TEXTS = ["Kawhi Leonard at #NBA", "hi", "The cat sat in St . Louis"]
WIDTH, CHANNELS, REGIONS = 24, 256, 4  # of the tiny network: 2 × 2 regions of 256 channels
Batch = dict[str, Tensor]


@pytest.fixture
def texts(processor: SMNERProcessor) -> Batch:
    """Three posts of 5, 1 and 7 words, no photos."""
    return processor(TEXTS)


@pytest.fixture
def batch(texts: Batch) -> Batch:
    """The same with ready features; the second post has no photo."""
    mask = torch.tensor([True, False, True])
    return texts | {"image_features": torch.randn(3, 1 + REGIONS, CHANNELS), "image_mask": mask}


@pytest.fixture
def ablated(config: SMNERConfig) -> Callable[..., SMNER]:
    def build(*, use_cmib: bool = True, use_cma: bool = True) -> SMNER:
        config.use_cmib, config.use_cma = use_cmib, use_cma
        model: SMNER = SMNER(config).eval()
        nn.init.normal_(model.no_image)
        return model

    return build


def rows(batch: Batch, *posts: int) -> Batch:
    return {key: tensor[list(posts)] for key, tensor in batch.items()}


def real_logits(output: SMNEROutput, row: int) -> Tensor:
    assert output.logits is not None
    assert output.spans is not None
    return output.logits[row, output.spans.mask[row]]


def inputs_of(module: nn.Module | None, model: SMNER, batch: Batch) -> tuple[Tensor, ...]:
    """``module``'s inputs when ``model`` reads ``batch``."""
    assert module is not None
    seen: list[tuple[Tensor, ...]] = []
    handle = module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments))
    model(**batch)
    handle.remove()
    return seen[0]


def image_states(model: SMNER, batch: Batch) -> Tensor:
    """H_v = V W_v."""
    states: Tensor = model.image_projection(batch["image_features"])
    return states


def span_states(model: SMNER, batch: Batch) -> Tensor:
    """s_t, the classifier's first half."""
    (spans,) = inputs_of(model.classifier, model, batch)
    return spans[..., :WIDTH]


def test_attention_keys_are_z_v_and_regions(smner: SMNER, batch: Batch) -> None:
    """m_v = [z_v ; h_v^o], and z_v is the posterior's mean in evaluation."""
    _, keys, mask, _ = inputs_of(smner.cross_modal_attention, smner, batch)
    states = image_states(smner, batch)
    assert smner.bottleneck is not None
    torch.testing.assert_close(keys[0, 0], smner.bottleneck.image_posterior(states[:, 0]).mean[0])
    torch.testing.assert_close(keys[[0, 2], 1:], states[[0, 2], 1:])
    assert mask.tolist() == [[True] * 5, [True, False, False, False, False], [True] * 5]


def test_posteriors_read_cls_and_the_whole_image(smner: SMNER, batch: Batch) -> None:
    """Not the pooler and not the regions; in evaluation the samples are the means."""
    states = smner.text_encoder(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    assert smner.bottleneck is not None
    output, mask = smner(**batch), batch["image_mask"]
    torch.testing.assert_close(output.text_posterior, smner.bottleneck.text_posterior(states[:, 0]))
    expected = smner.bottleneck.image_posterior(image_states(smner, batch)[:, 0])
    torch.testing.assert_close(output.image_posterior.select(mask), expected.select(mask))
    assert torch.equal(output.text_sample, output.text_posterior.mean)
    assert torch.equal(output.image_sample, output.image_posterior.mean)
    assert torch.equal(output.image_mask, mask)


def test_the_classifier_reads_spans_beside_what_they_saw(smner: SMNER, batch: Batch) -> None:
    (spans,) = inputs_of(smner.classifier, smner, batch)
    assert smner.cross_modal_attention is not None
    attended = smner.cross_modal_attention(*inputs_of(smner.cross_modal_attention, smner, batch)).states
    torch.testing.assert_close(spans[..., WIDTH:], attended)


def test_without_cmib_h_v_g_replaces_z_v(ablated: Callable[..., SMNER], batch: Batch) -> None:
    model = ablated(use_cmib=False)
    _, keys, _, _ = inputs_of(model.cross_modal_attention, model, batch)
    torch.testing.assert_close(keys[[0, 2]], image_states(model, batch)[[0, 2]])
    output = model(**batch)
    assert (model.bottleneck, output.text_posterior, output.image_posterior) == (None,) * 3
    assert (output.text_sample, output.image_sample) == (None,) * 2
    assert torch.equal(output.image_mask, batch["image_mask"])


def test_without_cma_every_span_gets_z_v(ablated: Callable[..., SMNER], batch: Batch) -> None:
    """s_u = [s_t ; z_v]."""
    model = ablated(use_cma=False)
    (spans,) = inputs_of(model.classifier, model, batch)
    assert model.bottleneck is not None
    z_v = model.bottleneck.image_posterior(image_states(model, batch)[:, 0]).mean
    posts = model(**batch).spans.posts
    torch.testing.assert_close(spans[posts == 0, WIDTH:], z_v[:1].expand(int((posts == 0).sum()), -1))
    assert model.cross_modal_attention is None
    assert model(**batch, output_attentions=True).attentions is None


def test_without_both_every_span_gets_h_v_g(ablated: Callable[..., SMNER], batch: Batch) -> None:
    """s_u = [s_t ; h_v^g]."""
    model = ablated(use_cmib=False, use_cma=False)
    (spans,) = inputs_of(model.classifier, model, batch)
    seen = torch.stack([image_states(model, batch)[0, 0], model.no_image])
    posts = model(**batch).spans.posts
    torch.testing.assert_close(spans[posts < 2, WIDTH:], seen[posts[posts < 2]])


@pytest.mark.parametrize("use_cmib", [True, False])
@pytest.mark.parametrize("use_cma", [True, False])
def test_post_without_image_sees_no_image_state(
    ablated: Callable[..., SMNER], texts: Batch, use_cmib: bool, use_cma: bool
) -> None:
    model = ablated(use_cmib=use_cmib, use_cma=use_cma)
    (gradient,) = torch.autograd.grad(model(**texts).logits.sum(), model.no_image)
    assert gradient.ne(0).any()


def test_no_image_state_is_the_only_key(ablated: Callable[..., SMNER], batch: Batch) -> None:
    model = ablated()
    _, keys, _, _ = inputs_of(model.cross_modal_attention, model, batch)
    assert torch.equal(keys[1, 0], model.no_image)
    weights = model(**batch, output_attentions=True).attentions[1]
    assert weights[..., 0].eq(1).all()
    assert weights[..., 1:].eq(0).all()


def test_an_image_changes_the_logits(smner: SMNER, texts: Batch, batch: Batch) -> None:
    without, with_image = smner(**texts), smner(**batch)
    assert (real_logits(with_image, 0) - real_logits(without, 0)).abs().max() > 1e-3


def test_features_of_posts_without_image_are_ignored(smner: SMNER, batch: Batch) -> None:
    before = smner(**batch).logits
    batch["image_features"][1] = float("nan")
    torch.testing.assert_close(smner(**batch).logits, before)


@pytest.mark.parametrize("key", ["image_features", "pixel_values"])
def test_all_false_image_mask_equals_no_images(smner: SMNER, texts: Batch, key: str) -> None:
    size = (3, 1 + REGIONS, CHANNELS) if key == "image_features" else (3, 3, 64, 64)
    output = smner(**texts, image_mask=torch.zeros(3, dtype=torch.bool), **{key: torch.randn(size)})
    assert torch.equal(output.logits, smner(**texts).logits)
    assert (output.image_posterior, output.image_sample, output.image_mask) == (None,) * 3
    assert torch.equal(output.text_sample, output.text_posterior.mean)


def test_pixels_and_ready_features_give_equal_logits(
    smner: SMNER, processor: SMNERProcessor, image: Image.Image
) -> None:
    batch = processor(TEXTS, [image, None, image.rotate(90)])
    pixels = batch.pop("pixel_values")
    features = smner.encode_images(pixels)
    assert features.shape == (3, 1 + REGIONS, CHANNELS)
    from_images = smner(**batch, pixel_values=pixels).logits
    torch.testing.assert_close(smner(**batch, image_features=features).logits, from_images, atol=1e-5, rtol=1e-4)


def test_half_precision_features_are_taken(smner: SMNER, batch: Batch) -> None:
    whole = smner(**batch).logits
    half = smner(**batch | {"image_features": batch["image_features"].half()}).logits
    torch.testing.assert_close(half, whole, atol=0.05, rtol=0.05)


def test_nothing_waits_for_the_device(smner: SMNER, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors on the device "meta" have no values to ask for; transformers asks once, before the first layer."""
    monkeypatch.setattr(masking_utils, "_ignore_bidirectional_mask_sdpa", lambda *_, **__: False)
    expected = smner(**batch).logits
    on_device = {key: batch[key] if key in ("segments", "image_mask") else batch[key].to("meta") for key in batch}
    assert smner.to("meta")(**on_device).logits.shape == expected.shape


def test_without_image_mask_every_post_has_one(smner: SMNER, batch: Batch) -> None:
    batch["image_mask"][:] = True
    expected = smner(**batch).logits
    del batch["image_mask"]
    assert torch.equal(smner(**batch).logits, expected)


def test_masked_regions_are_not_looked_at(smner: SMNER, batch: Batch) -> None:
    batch["image_feature_mask"] = torch.tensor([[True, True, False, True, False]]).expand(3, -1)
    before = smner(**batch, output_attentions=True)
    batch["image_features"][:, [2, 4]] += 10
    torch.testing.assert_close(smner(**batch).logits, before.logits)
    assert before.attentions[0][..., [2, 4]].eq(0).all()
    assert before.attentions[0][..., [0, 1, 3]].gt(0).all()


def test_attentions_have_post_head_span_and_key(smner: SMNER, texts: Batch, batch: Batch) -> None:
    """7 words and spans of up to 4: 7 + 6 + 5 + 4 = 22."""
    assert smner(**batch, output_attentions=True).attentions.shape == (3, 2, 22, 1 + REGIONS)
    assert smner(**texts, output_attentions=True).attentions.shape == (3, 2, 22, 1)
    assert smner(**batch).attentions is None


def test_asking_for_attentions_does_not_change_the_logits(smner: SMNER, batch: Batch) -> None:
    torch.testing.assert_close(smner(**batch, output_attentions=True).logits, smner(**batch).logits)


def test_evaluation_is_deterministic(smner: SMNER, batch: Batch) -> None:
    assert torch.equal(smner(**batch).logits, smner(**batch).logits)


def without_dropout(model: SMNER) -> SMNER:
    """Training mode, with no randomness but the noise of eq. 5."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return model


def test_training_draws_z_v_each_time(smner: SMNER, batch: Batch) -> None:
    """The same sample that spans attend to is in the output, for the critic to contrast."""
    model = without_dropout(smner)
    _, first, _, _ = inputs_of(model.cross_modal_attention, model, batch)
    torch.manual_seed(0)
    _, second, _, _ = inputs_of(model.cross_modal_attention, model, batch)
    assert not torch.equal(first[0, 0], second[0, 0])
    assert torch.equal(first[:, 1:], second[:, 1:])
    torch.manual_seed(0)
    output = model(**batch)
    assert torch.equal(output.image_sample[[0, 2]], second[[0, 2], 0])
    assert not torch.equal(output.text_sample, output.text_posterior.mean)


def test_path_to_bottleneck_has_glorot_weights(config: SMNERConfig) -> None:
    """Glorot's bound √(6 / (in + out)), uniform, has a deviation of √(2 / (in + out))."""
    model = SMNER(config)
    assert model.bottleneck is not None
    layers = [model.image_projection, *model.bottleneck.modules()]
    for layer in layers:
        if isinstance(layer, nn.Linear) and layer.weight.numel() > 100:
            expected = math.sqrt(2 / sum(layer.weight.shape))
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.2)
    assert model.span_encoder.project.weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_morphs_at_the_input_start_without_a_say(config: SMNERConfig, texts: Batch) -> None:
    torch.manual_seed(0)
    plain = SMNER(config).eval()
    config.morph_inputs = True
    told: SMNER = SMNER(config).eval()
    missing, unexpected = told.load_state_dict(plain.state_dict(), strict=False)
    assert (missing, unexpected) == (["morph_inputs.embedding.weight"], [])
    assert torch.equal(told(**texts).logits, plain(**texts).logits)


def test_morphs_at_the_input_reach_the_text_encoder(config: SMNERConfig, processor: SMNERProcessor) -> None:
    """The first word's span: how the second word is written reaches it only through the text encoder."""
    config.morph_inputs = True
    model: SMNER = SMNER(config).eval()
    assert model.morph_inputs is not None
    lower, title = (real_logits(model(**processor([text])), 0)[0] for text in ("paris today", "paris Today"))
    assert torch.equal(lower, title)
    nn.init.normal_(model.morph_inputs.embedding.weight)
    lower, title = (real_logits(model(**processor([text])), 0)[0] for text in ("paris today", "paris Today"))
    assert not torch.allclose(lower, title)


def test_inner_words_reach_a_span_by_pooling_only(config: SMNERConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the text encoder's state of the middle word changes."""
    for pooling in (False, True):
        config.max_pooling = pooling
        model: SMNER = SMNER(config).eval()
        words = torch.tensor([[1, 2, 3]])
        states = torch.randn(1, 4, config.hidden_size)
        changed = states.index_fill(1, torch.tensor([2]), 9.0)
        answers = []
        for given in (states, changed):
            monkeypatch.setattr(model, "encode_text", lambda *_, given=given: given)
            answers.append(real_logits(model(torch.ones(1, 4).long(), torch.ones(1, 4), words, words, words), 0)[-1])
        assert torch.equal(*answers) != pooling


def test_a_model_on_ready_features_refuses_images(config: SMNERConfig, texts: Batch, batch: Batch) -> None:
    config.image_encoder, config.image_feature_size = None, CHANNELS
    model = SMNER(config).eval()
    assert model(**batch).logits.shape == (3, 22, 5)
    with pytest.raises(ValueError, match="no image encoder"):
        model(**texts, pixel_values=torch.randn(3, 3, 64, 64))


def test_span_states_do_not_depend_on_the_image(smner: SMNER, texts: Batch, batch: Batch) -> None:
    torch.testing.assert_close(span_states(smner, texts), span_states(smner, batch))
