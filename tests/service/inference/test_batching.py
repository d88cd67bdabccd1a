from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from service.inference.batching import Budget, choose_batch


class Post(NamedTuple):
    tokens: int
    images: int = 0
    explain: bool = False
    windows: int = 1


BUDGET = Budget(tokens=100, images=2)
posts = st.builds(Post, st.integers(1, 100), st.integers(0, 1), st.booleans(), st.just(1))


def test_lone_post_runs_alone() -> None:
    assert choose_batch([Post(10)], BUDGET) == [Post(10)]


def test_padding_counts_towards_the_budget() -> None:
    # 3 · 30 = 90 ≤ 100, and a fourth would make 120
    assert len(choose_batch([Post(30), Post(29), Post(28), Post(27)], BUDGET)) == 3


def test_similar_lengths_run_together() -> None:
    assert choose_batch([Post(10), Post(50), Post(11), Post(12)], BUDGET) == [Post(10), Post(11), Post(12)]


def test_padding_limit_separates_unlike_lengths() -> None:
    # 10 and 12 make 24 sub-tokens of 22, 0.09 of them padding; with 15 it is 45 of 37, 0.22
    waiting = [Post(10), Post(40), Post(15), Post(12)]
    assert choose_batch(waiting, BUDGET._replace(padding=0.2)) == [Post(10), Post(12)]
    assert choose_batch(waiting, BUDGET._replace(padding=0.22)) == [Post(10), Post(12), Post(15)]


def test_halved_budget_still_fits_any_post() -> None:
    budget = Budget(tokens=600, images=3, padding=0.2)
    assert budget.halved(min_tokens=256) == Budget(tokens=300, images=1, padding=0.2)
    assert budget.halved(min_tokens=512).halved(min_tokens=512) == Budget(tokens=512, images=1, padding=0.2)


def test_posts_without_images_fill_the_batch() -> None:
    waiting = [Post(10, 1), Post(10, 1), Post(10, 1), Post(10, 0)]
    assert choose_batch(waiting, BUDGET) == [Post(10, 1), Post(10, 1), Post(10, 0)]


def test_explained_posts_run_separately() -> None:
    assert choose_batch([Post(10, explain=True), Post(10), Post(10, explain=True)], BUDGET) == [
        Post(10, explain=True),
        Post(10, explain=True),
    ]


@given(st.lists(posts, min_size=1, max_size=30))
def test_oldest_runs_and_the_budget_holds(waiting: list[Post]) -> None:
    chosen = choose_batch(waiting, BUDGET)
    assert chosen[0] is waiting[0]
    assert max(post.tokens for post in chosen) * len(chosen) <= BUDGET.tokens
    assert sum(post.images for post in chosen) <= BUDGET.images


@given(st.lists(posts, min_size=1, max_size=30), st.floats(0, 2))
def test_padding_never_exceeds_its_limit(waiting: list[Post], padding: float) -> None:
    chosen = choose_batch(waiting, BUDGET._replace(padding=padding))
    real = sum(post.tokens for post in chosen)
    assert max(post.tokens for post in chosen) * len(chosen) - real <= padding * real


def test_all_windows_of_a_post_count() -> None:
    # 3 · 30 + 1 · 30 > 100
    assert choose_batch([Post(30, windows=3), Post(30)], BUDGET) == [Post(30, windows=3)]


def test_a_post_beyond_the_budget_runs_alone() -> None:
    assert choose_batch([Post(60, windows=3), Post(10)], BUDGET) == [Post(60, windows=3)]
