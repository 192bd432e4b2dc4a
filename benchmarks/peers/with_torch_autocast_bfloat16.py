"""torch, eager, with autocast: float32 weights, products in bfloat16."""

from __future__ import annotations

import torch

from peers import with_torch


class Side(with_torch.Side):
    def wrapped(self, function):
        # Entered for each step: within one autocast the rounded weights are kept, and updates would be missed. Backward
        # stays outside, as its documentation says.
        def run(*arguments):
            with torch.autocast("cpu", torch.bfloat16):
                return function(*arguments)

        return run
