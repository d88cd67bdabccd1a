"""The entity classifier (section 3.5, eq. 14)."""

import torch
from torch import Tensor, nn


class SpanClassifier(nn.Module):
    """Classifies the multimodal span representation s_u by an MLP: 2d → 2d → 1 + types."""

    def __init__(self, width: int, *, labels: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, labels)
        )

    def shift_no_entity(self, logit: float) -> None:
        """Add ``logit`` to that of "no entity" for every span.

        A class that weighs w in the cross-entropy is given log-odds that are ln w too low (Elkan 2001).
        """
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias[0] += logit

    def forward(self, spans: Tensor) -> Tensor:
        """s_u (R, 2d) float → logits (R, 1 + types)."""
        logits: Tensor = self.layers(spans)
        return logits
