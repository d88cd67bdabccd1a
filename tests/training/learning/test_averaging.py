import copy

import pytest
import torch
from torch import Tensor

from training.learning.averaging import AveragedAdamW


def optimizer(parameter: Tensor, decay: float) -> AveragedAdamW:
    return AveragedAdamW([{"params": [parameter]}], decay=decay, lr=0.1, weight_decay=0.0)


def descend(optimizer: AveragedAdamW, parameter: Tensor, steps: int) -> list[float]:
    """The trained weight after each step down x² / 2."""
    trained = []
    optimizer.train()
    for _ in range(steps):
        parameter.grad = parameter.detach().clone()
        optimizer.step()
        trained.append(parameter.item())
    return trained


def test_in_evaluation_the_model_has_the_moving_average() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    averaged = optimizer(parameter, decay=0.25)
    first, second, third = descend(averaged, parameter, 3)
    # the decay is 2/11 at step 1 and 3/12 = 0.25 from step 2 on
    expected = 2 / 11 * 1.0 + 9 / 11 * first
    for weight in (second, third):
        expected = 0.25 * expected + 0.75 * weight
    averaged.eval()
    assert parameter.item() == pytest.approx(expected)
    averaged.eval()  # a second call changes nothing
    assert parameter.item() == pytest.approx(expected)
    averaged.train()
    assert parameter.item() == third


def test_training_goes_on_from_the_trained_weights_whoever_evaluated_in_between() -> None:
    plain, evaluated = (torch.nn.Parameter(torch.tensor([1.0])) for _ in range(2))
    expected = descend(optimizer(plain, 0.9), plain, 6)
    averaged = optimizer(evaluated, 0.9)
    found = descend(averaged, evaluated, 3)
    averaged.eval()
    assert found + descend(averaged, evaluated, 3) == expected


def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits() -> None:
    straight = torch.nn.Parameter(torch.tensor([1.0]))
    whole = optimizer(straight, 0.9)
    descend(whole, straight, 4)
    whole.eval()

    begun = torch.nn.Parameter(torch.tensor([1.0]))
    first = optimizer(begun, 0.9)
    descend(first, begun, 2)
    first.eval()  # a checkpoint is written after an evaluation: its weights are the average
    stored = copy.deepcopy(first.state_dict())
    resumed = torch.nn.Parameter(begun.detach().clone())
    second = optimizer(resumed, 0.9)
    second.load_state_dict(stored)
    descend(second, resumed, 2)
    second.eval()
    assert torch.equal(resumed, straight)
