"""ONNX Runtime: inference of Gemm, Relu, Softmax with a static shape, input and output bound once."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from peers import Unsupported

OPERATORS = {"relu": "Relu", "tanh": "Tanh", "softmax": "Softmax"}


def model(case, dtype: str, parameters, batch: int) -> onnx.ModelProto:
    """X (batch, n_x) to A (batch, n_y)."""
    kind = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[dtype]
    nodes, initializers, last = [], [], "X"
    for k, name in enumerate(case.activations, 1):
        # As (n_prev, n): the runtime packs what it needs.
        arrays = {f"W{k}": parameters[f"W{k}"].T, f"b{k}": parameters[f"b{k}"][:, 0]}
        for key, array in arrays.items():
            initializers.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype), key))
        nodes.append(helper.make_node("Gemm", [last, *arrays], [f"Z{k}"]))
        nodes.append(helper.make_node(OPERATORS[name], [f"Z{k}"], [f"A{k}"]))
        last = f"A{k}"
    ends = [helper.make_tensor_value_info(name, kind, [batch, n]) for name, n in (("X", case.n[0]), (last, case.n[-1]))]
    graph = helper.make_graph(nodes, "dense", ends[:1], ends[1:], initializers)
    # Of the operators used here nothing has changed since 13; IR 8 is what 13's runtimes read.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


class Side:
    library = "onnxruntime"

    def describe(self) -> dict:
        kernels = {"providers": onnxruntime.get_available_providers(), "used": "CPUExecutionProvider"}
        return {
            "version": onnxruntime.__version__,
            "kernels": kernels,
            "threads": f"{os.environ['OMP_NUM_THREADS']} asked for",
        }

    def prepare_training(self, case, dtype, threads, X, labels):
        raise Unsupported("inference only")

    def model(self, case, dtype: str, parameters, batch: int) -> bytes:
        return model(case, dtype, parameters, batch).SerializeToString()

    def predictor(self, case, dtype, threads, parameters, X):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        source = self.model(case, dtype, parameters, X.shape[1])
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        X = np.ascontiguousarray(X.T, dtype)
        A = np.empty((X.shape[0], case.n[-1]), dtype)
        binding = session.io_binding()
        self.bound = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in (X, A)]
        binding.bind_ortvalue_input("X", self.bound[0])
        binding.bind_ortvalue_output(session.get_outputs()[0].name, self.bound[1])

        def predict():
            session.run_with_iobinding(binding)
            return self.bound[1]

        return predict, lambda: predict().numpy().T.copy()
