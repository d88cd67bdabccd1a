"""Two real processes against one on the same batch: losses and gradients must be the same."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from model.modeling.bottleneck import CrossModalBottleneck, Gaussian
from training.learning.distributed import gather_rows, process_count, share_of_mean
from training.learning.objective import bottleneck_terms

POSTS, WIDTH = 5, 4
SPLITS = {"uneven": 3, "all in the first": 5, "all in the second": 0}  # rows of the first process
Together = Callable[[Callable[[int], object]], None]


def bottleneck_and_batch(critic: str) -> tuple[CrossModalBottleneck, Gaussian, Gaussian]:
    torch.manual_seed(0)
    bottleneck = CrossModalBottleneck(WIDTH, initial_deviation=0.5, critic=critic)
    hidden = torch.randn(2, POSTS, WIDTH)
    return bottleneck, bottleneck.text_posterior(hidden[0]), bottleneck.image_posterior(hidden[1])


def outcome(critic: str, rows: slice) -> dict[str, Tensor]:
    """The terms over some rows and the gradient of each weight."""
    bottleneck, text, image = bottleneck_and_batch(critic)
    text, image = (Gaussian(one.mean[rows], one.deviation[rows]) for one in (text, image))
    terms = bottleneck_terms(bottleneck.critic, text, image, text.mean, image.mean)
    assert terms is not None
    torch.autograd.backward(terms[0] + terms[1])
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in bottleneck.named_parameters()}
    return {**dict(zip(("info_nce", "kl", "rank"), (term.detach() for term in terms), strict=True)), **gradients}


@pytest.mark.parametrize("critic", ["mlp", "cosine"])
def test_bottleneck_terms_of_two_processes_equal_one(together: Together, tmp_path: Path, critic: str) -> None:
    def work(rank: int) -> None:
        dist.init_process_group("gloo")
        for name, first in SPLITS.items():
            rows = (slice(first), slice(first, None))[rank]
            torch.save(outcome(critic, rows), tmp_path / f"{name}-{rank}")

    together(work)
    whole = outcome(critic, slice(None))
    assert whole["info_nce"] > 1  # near ln 5, so there is something to compare
    for name in SPLITS:
        first, second = (torch.load(tmp_path / f"{name}-{rank}") for rank in (0, 1))
        mean = {key: (first[key] + second[key]) / 2 for key in whole}
        torch.testing.assert_close(mean, whole, msg=functools.partial("{}: {}".format, name))


def test_processes_without_images_do_not_hang(together: Together, tmp_path: Path) -> None:
    def work(rank: int) -> None:
        dist.init_process_group("gloo")
        bottleneck, text, _ = bottleneck_and_batch("mlp")
        none, one = (Gaussian(text.mean[:n], text.deviation[:n]) for n in (0, 1))
        assert bottleneck_terms(bottleneck.critic, none, none, none.mean, none.mean) is None
        own = one if rank else none
        alone = bottleneck_terms(bottleneck.critic, own, own, own.mean, own.mean)
        assert alone is not None
        assert (alone[0].item(), alone[2].item()) == (0, 1)

    together(work)


def test_means_are_over_what_counts_in_all_processes(together: Together, tmp_path: Path) -> None:
    """(1 + 2 + 6) / 3 = 3; the mean of the two means would be (1.5 + 6) / 2 = 3.75; 0 where nothing counts."""
    values = [torch.tensor([1.0, 2.0, 0.0]), torch.tensor([6.0, 0.0, 0.0])]

    def work(rank: int) -> None:
        dist.init_process_group("gloo")
        share = share_of_mean(values[rank], torch.tensor([2, 1][rank]))
        nothing = share_of_mean(torch.zeros(3), torch.tensor(0))
        torch.save((process_count(), share, nothing), tmp_path / str(rank))

    together(work)
    (count, first, nothing), (_, second, _) = (torch.load(tmp_path / str(rank)) for rank in (0, 1))
    assert count == 2
    assert (first + second) / 2 == 3
    assert nothing == 0


def test_one_process_gathers_its_own_rows() -> None:
    rows = torch.randn(3, 2)
    assert gather_rows(rows) is rows
    assert process_count() == 1
