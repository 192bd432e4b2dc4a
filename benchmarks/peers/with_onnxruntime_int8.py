"""ONNX Runtime with quantize_dynamic: int8 weights, one scale a matrix; activations as bytes, one scale a call."""

from __future__ import annotations

import tempfile
from pathlib import Path

import machine
from onnxruntime.quantization import quantize_dynamic

from peers import with_onnxruntime


class Side(with_onnxruntime.Side):
    def model(self, case, dtype, parameters, batch):
        source = with_onnxruntime.model(case, dtype, parameters, batch)
        # Without VNNI, x86 adds pairs of products in 16 bits, in which 8 bits of weights saturate.
        vectors = " ".join(machine.vectors())
        narrow = "avx" in vectors and "vnni" not in vectors
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "dense.onnx"
            quantize_dynamic(source, file, reduce_range=narrow)
            return file.read_bytes()
