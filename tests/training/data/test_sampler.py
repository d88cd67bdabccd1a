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
    """Positions filled when batches are padded to their longest post."""
    return sum(max(LENGTHS[i] for i in batch) - LENGTHS[j] for batch in batches(indices) for j in batch)


@pytest.mark.parametrize("size", [1, 7, 8, POSTS, 1000])
def test_an_epoch_has_every_post_once(size: int) -> None:
    assert sorted(order(size=size)) == list(range(POSTS))


def test_length_is_the_number_of_posts() -> None:
    assert len(GroupedSampler(LENGTHS, IMAGES, batch_size=SIZE, seed=0)) == POSTS


def test_posts_with_images_share_batches() -> None:
    """Except in the last two batches: at most SIZE − 1 posts of each kind are left over."""
    kinds = [{IMAGES[i] for i in batch} for batch in batches(order())]
    assert all(len(kind) == 1 for kind in kinds[:-2])
    assert sum(kind == {True} for kind in kinds) >= sum(IMAGES) // SIZE


def test_batches_of_both_kinds_are_shuffled() -> None:
    kinds = [IMAGES[batch[0]] for batch in batches(order())[:-2]]
    assert kinds not in (sorted(kinds), sorted(kinds, reverse=True))


def test_each_epoch_has_its_own_batches() -> None:
    first, second = order(0), order(1)
    assert first != second
    assert {frozenset(batch) for batch in batches(first)} != {frozenset(batch) for batch in batches(second)}


def test_order_depends_on_seed_and_epoch() -> None:
    assert order(3, seed=5) == order(3, seed=5)
    assert order(3, seed=5) != order(3, seed=6)


def test_order_does_not_depend_on_earlier_epochs() -> None:
    sampler = GroupedSampler(LENGTHS, IMAGES, batch_size=SIZE, seed=0)
    list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) == order(1)


def test_similar_lengths_share_batches() -> None:
    shuffled = random.Random(0).sample(range(POSTS), POSTS)
    assert padding(order()) < padding(shuffled) / 3


@pytest.mark.parametrize("kind", [True, False])
def test_posts_of_one_kind_are_sampled(kind: bool) -> None:
    sampler = GroupedSampler([3, 1, 2], [kind] * 3, batch_size=2, seed=0)
    assert sorted(sampler) == [0, 1, 2]


def test_no_posts_give_an_empty_order() -> None:
    assert list(GroupedSampler([], [], batch_size=2, seed=0)) == []


@pytest.mark.parametrize(("posts", "processes"), [(POSTS, 2), (POSTS, 4), (295, 4), (16, 2)])
def test_distributed_processes_share_each_batch(posts: int, processes: int) -> None:
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


def test_no_process_goes_without_a_post() -> None:
    """Nine posts in batches of eight: both processes see the ninth."""
    samplers = [
        GroupedSampler([1] * 9, [False] * 9, batch_size=8, seed=0, process=process, processes=2) for process in (0, 1)
    ]
    first, second = map(list, samplers)
    assert len(first) == len(second) == len(samplers[0]) == 5
    assert first[4] == second[4]
    assert sorted({*first, *second}) == list(range(9))
