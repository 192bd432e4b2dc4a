"""torch, eager, with all in bfloat16: weights, activations, gradients and updates."""

from __future__ import annotations

import torch

from peers import with_torch


class Side(with_torch.Side):
    stores_reduced = True

    def kind(self, dtype):
        return torch.bfloat16
