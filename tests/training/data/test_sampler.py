import random

import pytest

from training.data.sampler import GroupedSampler

SIZE = 8
POSTS = 300
RANDOM = random.Random(0)
LENGTHS = [RANDOM.randint(3, 60) for _ in range(POSTS)]
IMAGES = [RANDOM.random() < 0.3 for _ in range(POSTS)]


def order(epoch: int = 0, *, seed: int = 0, size: int = SIZE) -> list[int]:
    sampler = GroupedSampler(LENGTHS, IMAGES, batch_size=size, seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def batches(indices: list[int]) -> list[list[int]]:
    return [indices[first : first + SIZE] for first in range(0, len(indices), SIZE)]


def padding(indices: list[int]) -> int:
    """Positions that are filled up when batches are padded to their longest."""
    return sum(max(LENGTHS[i] for i in batch) - LENGTHS[j] for batch in batches(indices) for j in batch)


@pytest.mark.parametrize("size", [1, 7, 8, POSTS, 1000])
def test_every_post_comes_once_in_an_epoch(size: int) -> None:
    assert sorted(order(size=size)) == list(range(POSTS))


def test_its_length_is_the_number_of_posts() -> None:
    assert len(GroupedSampler(LENGTHS, IMAGES, batch_size=SIZE, seed=0)) == POSTS


def test_posts_with_a_image_share_batches_but_for_the_remainder_at_the_end() -> None:
    """What does not fill a batch of its kind is at most SIZE − 1 posts of each kind: two batches."""
    kinds = [{IMAGES[i] for i in batch} for batch in batches(order())]
    assert all(len(kind) == 1 for kind in kinds[:-2])
    assert sum(kind == {True} for kind in kinds) >= sum(IMAGES) // SIZE


def test_batches_with_and_without_images_alternate_in_random_order() -> None:
    kinds = [IMAGES[batch[0]] for batch in batches(order())[:-2]]
    assert kinds not in (sorted(kinds), sorted(kinds, reverse=True))


def test_each_epoch_has_its_own_order_and_its_own_batches() -> None:
    first, second = order(0), order(1)
    assert first != second
    assert {frozenset(batch) for batch in batches(first)} != {frozenset(batch) for batch in batches(second)}


def test_seed_and_epoch_alone_decide_the_order() -> None:
    assert order(3, seed=5) == order(3, seed=5)
    assert order(3, seed=5) != order(3, seed=6)


def test_the_next_epoch_is_the_same_whether_or_not_the_one_before_was_read() -> None:
    sampler = GroupedSampler(LENGTHS, IMAGES, batch_size=SIZE, seed=0)
    list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) == order(1)


def test_similar_lengths_go_together_so_that_little_is_padded() -> None:
    shuffled = random.Random(0).sample(range(POSTS), POSTS)
    assert padding(order()) < padding(shuffled) / 3


@pytest.mark.parametrize("kind", [True, False])
def test_posts_of_one_kind_alone_are_sampled_too(kind: bool) -> None:
    sampler = GroupedSampler([3, 1, 2], [kind] * 3, batch_size=2, seed=0)
    assert sorted(sampler) == [0, 1, 2]


def test_no_posts_have_an_empty_order() -> None:
    assert list(GroupedSampler([], [], batch_size=2, seed=0)) == []


@pytest.mark.parametrize(("posts", "processes"), [(POSTS, 2), (POSTS, 4), (295, 4), (16, 2)])
def test_several_processes_together_see_a_single_ones_batches(posts: int, processes: int) -> None:
    """Four processes with two posts each; 295 posts leave seven for the last batch."""
    settings = {"batch_size": SIZE, "seed": 0}
    whole = batches(list(GroupedSampler(LENGTHS[:posts], IMAGES[:posts], **settings)))
    samplers = [
        GroupedSampler(LENGTHS[:posts], IMAGES[:posts], **settings, process=process, processes=processes)
        for process in range(processes)
    ]
    own = SIZE // processes
    for sampler in samplers:
        assert len(list(sampler)) == len(sampler)
    parts = [[indices[i : i + own] for i in range(0, len(indices), own)] for indices in map(list, samplers)]
    assert [[i for part in step for i in part] for step in zip(*parts, strict=True)] == whole


def test_no_process_stays_without_a_post_in_the_last_batch() -> None:
    """Nine posts in batches of eight: the ninth is seen by both."""
    samplers = [
        GroupedSampler([1] * 9, [False] * 9, batch_size=8, seed=0, process=process, processes=2) for process in (0, 1)
    ]
    first, second = map(list, samplers)
    assert len(first) == len(second) == len(samplers[0]) == 5
    assert first[4] == second[4]
    assert sorted({*first, *second}) == list(range(9))
