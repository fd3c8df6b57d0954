"""The optimiser of both embedded models: Muon for the layers' matrices, AdamW for embeddings, norms and heads."""

import torch
from torch import nn

MUON_LEARNING_RATE = 5e-3
ADAMW_LEARNING_RATE = 4e-3
WARMUP_FRACTION = 0.05
MAX_GRADIENT_NORM = 1.0


class MuonWithAdamW:
    """Both optimisers behind one `step`, under one warm-up and cosine schedule down to zero."""

    def __init__(self, model: nn.Module, num_steps: int) -> None:
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
        matrix_ids = {id(p) for p in matrices}
        self._parameters = list(model.parameters())
        others = [p for p in self._parameters if id(p) not in matrix_ids]
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=MUON_LEARNING_RATE, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=ADAMW_LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.98)),
        ]
        num_warmup = max(1, int(WARMUP_FRACTION * num_steps))
        self._schedulers = [
            torch.optim.lr_scheduler.SequentialLR(
                optimiser,
                [
                    torch.optim.lr_scheduler.LinearLR(optimiser, 1 / num_warmup, total_iters=num_warmup),
                    torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, num_steps - num_warmup)),
                ],
                [num_warmup],
            )
            for optimiser in self._optimisers
        ]

    def step(self, loss: torch.Tensor) -> None:
        """Backpropagate one loss and move every parameter."""
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, MAX_GRADIENT_NORM)
        for optimiser, scheduler in zip(self._optimisers, self._schedulers, strict=True):
            optimiser.step()
            scheduler.step()
            optimiser.zero_grad()
