"""nnkern with compute="bfloat16": float32 networks, the operands of whose products are rounded."""

from __future__ import annotations

from peers import with_nnkern


class Side(with_nnkern.Side):
    compute = "bfloat16"

    def frozen(self, case):
        # A frozen predictor doesn't know what a network computes in: predict is compared, even in `serving`.
        return ""
