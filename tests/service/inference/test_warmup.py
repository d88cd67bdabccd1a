import pytest

from model import Post
from service.inference.batching import Budget
from service.inference.warmup import warm_up, warm_up_batches
from tests.service.conftest import ScriptedRecognizer


def test_warm_up_runs_several_lengths_and_full_batches(scripted: ScriptedRecognizer) -> None:
    seen: list[list[Post]] = []
    scripted.before_run = lambda posts: seen.append(list(posts))
    budget = Budget(tokens=1024, images=8)
    assert warm_up(scripted, budget, stopped=lambda: False, on_device_error=print) == budget
    assert {post.has_image for posts in seen for post in posts} == {True, False}
    assert len({posts[0].tokens for posts in seen}) >= 3
    assert max(map(len, seen)) == 8


@pytest.mark.parametrize("images", [1, 2, 3, 5, 8, 16])
def test_warm_up_covers_every_image_batch_size(
    scripted: ScriptedRecognizer, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    def power_of_two(count: int) -> int:
        return 1 << (count - 1).bit_length()

    monkeypatch.setattr(scripted, "image_batch_size", power_of_two)  # as on CUDA
    batches = warm_up_batches(scripted, Budget(tokens=1024, images=images))
    covered = {power_of_two(len(posts)) for posts in batches if posts[0].pixels is not None}
    assert covered == {power_of_two(count) for count in range(1, images + 1)}
