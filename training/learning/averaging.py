"""AdamW whose weights in evaluation are a moving average of those in training."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class AveragedAdamW(torch.optim.AdamW):
    """AdamW with an exponential moving average of the weights (Polyak and Juditsky, 1992).

    ``eval()`` puts the average into the model, ``train()`` the trained weights back, as optimisers without a schedule
    do (Defazio et al., 2024): Trainer calls the one before it evaluates and the other before it trains on. What is not
    in the model lies in the parameter groups, so a checkpoint has both and a run goes on from it exactly.

    Args:
        parameters: groups with their learning rates and decays.
        decay: of the average, in (0, 1), approached from below as (1 + t) / (10 + t) at step t, so that the weights
            that a run begins with are soon forgotten.
        settings: AdamW's.
    """

    def __init__(self, parameters: Iterable[dict[str, Any]], *, decay: float, **settings: Any) -> None:
        super().__init__(parameters, **settings)
        for group in self.param_groups:
            group["other"] = [parameter.detach().clone() for parameter in group["params"]]
            group["averaged"] = False  # whether the model has the average, and ``other`` the trained weights
            group["average_decay"] = decay
            group["steps"] = 0

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """A step of AdamW, then one of the average."""
        self.train()
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                group["steps"] += 1
                decay = min(group["average_decay"], (1 + group["steps"]) / (10 + group["steps"]))
                torch._foreach_lerp_(group["other"], group["params"], 1 - decay)
        return loss

    def train(self) -> None:
        """Put the trained weights into the model."""
        self._put(averaged=False)

    def eval(self) -> None:
        """Put the average into the model."""
        self._put(averaged=True)

    @torch.no_grad()
    def _put(self, *, averaged: bool) -> None:
        for group in self.param_groups:
            if group["averaged"] != averaged:
                before: list[Tensor] = [parameter.clone() for parameter in group["params"]]
                torch._foreach_copy_(group["params"], group["other"])
                torch._foreach_copy_(group["other"], before)
                group["averaged"] = averaged
