"""OpenVINO in bfloat16: weights and activations, between which it converts where the processor has no such products."""

from __future__ import annotations

from peers import with_openvino


class Side(with_openvino.Side):
    precision = "bf16"
