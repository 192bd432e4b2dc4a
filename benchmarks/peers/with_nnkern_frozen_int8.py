"""nnkern's frozen predictor with int8 weights, in every case of `inference` and `serving`."""

from __future__ import annotations

from peers import with_nnkern_frozen_bfloat16


class Side(with_nnkern_frozen_bfloat16.Side):
    weights = "int8"
