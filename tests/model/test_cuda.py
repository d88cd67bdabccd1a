"""The model on a GPU; skipped without one."""

from itertools import chain

import pytest
import torch
from PIL import Image

from model import SMNER, Entity, Recognizer, SMNERProcessor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TEXTS = ["Kawhi Leonard wins the NBA award", "hi", "RT @x: New York, New York"]


def places(answers: list[list[Entity]]) -> list[list[tuple[str, int, int]]]:
    return [[(entity.entity_group, entity.start, entity.end) for entity in entities] for entities in answers]


def test_cuda_gives_the_cpus_entities(smner: SMNER, processor: SMNERProcessor, image: Image.Image) -> None:
    images = [image, None, image]
    on_cpu, on_gpu = (
        Recognizer(smner, processor, device=device, precision="float32").recognize_batch(TEXTS, images)
        for device in ("cpu", "cuda")
    )
    assert places(on_gpu) == places(on_cpu)
    for ours, theirs in zip(chain(*on_gpu), chain(*on_cpu), strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=1e-3)


def test_bfloat16_on_cuda_is_close_to_float32(smner: SMNER, processor: SMNERProcessor, image: Image.Image) -> None:
    exact, coarse = (
        Recognizer(smner, processor, device="cuda", precision=precision) for precision in ("float32", "bfloat16")
    )
    decoded = exact.prepare("hi", image).pixels
    assert decoded is not None
    assert coarse.encode_images([decoded])[0].dtype == coarse.model.text_encoder.dtype == torch.bfloat16
    images = [image, None, image]
    scores = [
        {(i, e.start, e.end): e.score for i, answer in enumerate(it.recognize_batch(TEXTS, images)) for e in answer}
        for it in (exact, coarse)
    ]
    both = scores[0].keys() & scores[1].keys()
    assert len(both) >= 0.8 * len(scores[0])
    assert all(abs(scores[0][key] - scores[1][key]) < 0.05 for key in both)


def test_neighbors_on_cuda_do_not_change_an_answer(smner: SMNER, processor: SMNERProcessor, image: Image.Image) -> None:
    recognizer = Recognizer(smner, processor, device="cuda")
    together = recognizer.recognize_batch(TEXTS, [image, None, image])
    alone = [recognizer.recognize(text, own) for text, own in zip(TEXTS, [image, None, image], strict=True)]
    assert places(together) == places(alone)


def test_batch_size_on_cuda_does_not_change_features(
    smner: SMNER, processor: SMNERProcessor, image: Image.Image
) -> None:
    recognizer = Recognizer(smner, processor, device="cuda")
    decoded = recognizer.prepare("hi", image).pixels
    assert decoded is not None
    (alone,) = recognizer.encode_images([decoded])
    for images, padded in ((1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (9, 16)):
        assert recognizer.image_batch_size(images) == padded
        together = recognizer.encode_images([decoded] * images)
        assert len(together) == images
        for features in together:
            torch.testing.assert_close(features, alone, rtol=0, atol=0.01 * float(alone.abs().max()))  # TF32
