"""nnkern with compute="bfloat16": float32 networks, the operands of whose products are rounded."""

from __future__ import annotations

from peers import with_nnkern


class Side(with_nnkern.Side):
    compute = "bfloat16"

    def frozen(self, case):
        # `predict` is compared, in `serving` too: frozen predictors of bfloat16 are a side of their own.
        return False
