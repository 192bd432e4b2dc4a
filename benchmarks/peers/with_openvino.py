"""OpenVINO: inference with a static shape and one request, whose tensors are set once."""

from __future__ import annotations

import os

import numpy as np
import openvino as ov
from openvino import opset13 as operators

from peers import Unsupported


def model(case, parameters, batch: int) -> ov.Model:
    """X (batch, n_x) to A (batch, n_y), float32."""
    activations = {
        "relu": operators.relu,
        "tanh": operators.tanh,
        "softmax": lambda Z: operators.softmax(Z, axis=1),
    }
    X = A = operators.parameter([batch, case.n[0]], np.float32)
    for k, name in enumerate(case.activations, 1):
        W, b = parameters[f"W{k}"], parameters[f"b{k}"].T
        Z = operators.matmul(A, operators.constant(W), transpose_a=False, transpose_b=True)
        A = activations[name](operators.add(Z, operators.constant(b)))
    return ov.Model([A], [X])


class Side:
    library = "openvino"
    # Without the hint it takes bfloat16 where the processor has it.
    precision = "f32"

    def __init__(self):
        self.core = ov.Core()
        self.arrays = None

    def describe(self) -> dict:
        kernels = {"device": self.core.get_property("CPU", "FULL_DEVICE_NAME")}
        return {"version": ov.__version__, "kernels": kernels, "threads": f"{os.environ['OMP_NUM_THREADS']} asked for"}

    def prepare_training(self, case, dtype, threads, X, labels):
        raise Unsupported("inference only")

    def predictor(self, case, dtype, threads, parameters, X):
        if dtype != "float32":
            raise Unsupported("its CPU plugin computes float64 in float32")
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        compiled = self.core.compile_model(model(case, parameters, X.shape[1]), "CPU", settings)
        request = compiled.create_infer_request()
        X = np.ascontiguousarray(X.T, dtype)
        A = np.empty((X.shape[0], case.n[-1]), dtype)
        # The tensors don't keep the arrays alive.
        self.arrays = X, A
        request.set_input_tensor(ov.Tensor(X, shared_memory=True))
        request.set_output_tensor(ov.Tensor(A, shared_memory=True))

        def predict():
            request.infer(share_inputs=True, share_outputs=True)
            return A

        return predict, lambda: predict().T.copy()
