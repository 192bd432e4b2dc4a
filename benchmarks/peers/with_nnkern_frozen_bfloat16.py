"""nnkern's frozen predictor with bfloat16 weights, in every case of `inference` and `serving`."""

from __future__ import annotations

from peers import Unsupported, with_nnkern


class Side(with_nnkern.Side):
    weights = "bfloat16"

    def prepare_training(self, case, dtype, threads, X, labels):
        raise Unsupported("inference only")

    def frozen(self, case):
        return True

    def predictor(self, case, dtype, *given):
        if dtype != "float32":
            raise Unsupported("reduced weights are for float32")
        return super().predictor(case, dtype, *given)
