"""How other formats write an activation: one row for each, which export and import of every format are made from.

Knows no other library and no network, only the activations' names and numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

SLOPE = "negative_slope"
"""Stands in the table for the layer's own slope."""

_ROOT_HALF = 0.7071067811865476  # √½
_ROOT_2_BY_PI, _GELU_CUBIC = 0.7978845608028654, 0.044715
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


@dataclass(frozen=True)
class Forms:
    """One activation in each format.

    Attributes
    ----------
    onnx : callable (f, z, slope)
        Its graph: each method of f, called as the operator, adds a node of ONNX' opset 17; numbers become constants.
    torch : (str, dict) or None
        The class in torch.nn, and its arguments, which are its attributes too. None: torch has no module for it.
    c : str
        An expression of C99 in z; {f} is the suffix of the precision, "f" or nothing. For softmax, statements that
        work on the column a of n numbers.
    sklearn : str or None
        Its name in scikit-learn's MLPs, where it is one of theirs.
    """

    onnx: Callable
    torch: tuple | None
    c: str
    sklearn: str | None = None


_C_SOFTPLUS = "(z > 0 ? z : 0) + log1p{f}(exp{f}(-fabs{f}(z)))"

FORMS = {
    "linear": Forms(
        onnx=lambda f, z, _: z,
        torch=("Identity", {}),
        c="z",
        sklearn="identity",
    ),
    "sigmoid": Forms(
        onnx=lambda f, z, _: f.Sigmoid(z),
        torch=("Sigmoid", {}),
        c="1 / (1 + exp{f}(-z))",
        sklearn="logistic",
    ),
    "tanh": Forms(
        onnx=lambda f, z, _: f.Tanh(z),
        torch=("Tanh", {}),
        c="tanh{f}(z)",
        sklearn="tanh",
    ),
    "relu": Forms(
        onnx=lambda f, z, _: f.Relu(z),
        torch=("ReLU", {}),
        c="z < 0 ? 0 : z",
        sklearn="relu",
    ),
    "leaky_relu": Forms(
        onnx=lambda f, z, slope: f.LeakyRelu(z, alpha=slope),
        torch=("LeakyReLU", {"negative_slope": SLOPE}),
        c="z < 0 ? {slope}{f} * z : z",
    ),
    "elu": Forms(
        onnx=lambda f, z, _: f.Elu(z, alpha=1.0),
        torch=("ELU", {"alpha": 1.0}),
        c="z < 0 ? expm1{f}(z) : z",
    ),
    "selu": Forms(
        onnx=lambda f, z, _: f.Selu(z, alpha=_SELU_ALPHA, gamma=_SELU_SCALE),
        torch=("SELU", {}),
        c=f"{_SELU_SCALE}{{f}} * (z < 0 ? {_SELU_ALPHA}{{f}} * expm1{{f}}(z) : z)",
    ),
    "gelu": Forms(
        onnx=lambda f, z, _: f.Mul(f.Mul(z, 0.5), f.Add(f.Erf(f.Mul(z, _ROOT_HALF)), 1.0)),
        torch=("GELU", {"approximate": "none"}),
        # 1 + erf(x) = erfc(-x), which doesn't cancel for negative x
        c=f"z / 2 * erfc{{f}}(-{_ROOT_HALF}{{f}} * z)",
    ),
    "gelu_tanh": Forms(
        onnx=lambda f, z, _: f.Mul(
            f.Mul(z, 0.5),
            f.Add(f.Tanh(f.Mul(f.Add(z, f.Mul(f.Mul(f.Mul(z, z), z), _GELU_CUBIC)), _ROOT_2_BY_PI)), 1.0),
        ),
        torch=("GELU", {"approximate": "tanh"}),
        # (1 + tanh(x)) / 2 = 1 / (1 + exp(-2x)), which doesn't cancel for negative x
        c=f"z / (1 + exp{{f}}(-{2 * _ROOT_2_BY_PI}{{f}} * (z + {_GELU_CUBIC}{{f}} * z * z * z)))",
    ),
    "silu": Forms(
        onnx=lambda f, z, _: f.Mul(z, f.Sigmoid(z)),
        torch=("SiLU", {}),
        c="z / (1 + exp{f}(-z))",
    ),
    "softplus": Forms(
        onnx=lambda f, z, _: f.Softplus(z),
        # above its threshold torch's is z itself: there the rest is less than half a unit in float64's last place
        torch=("Softplus", {"beta": 1.0, "threshold": 40.0}),
        c=_C_SOFTPLUS,
    ),
    "mish": Forms(
        onnx=lambda f, z, _: f.Mul(z, f.Tanh(f.Softplus(z))),
        torch=("Mish", {}),
        c=f"z * tanh{{f}}({_C_SOFTPLUS})",
    ),
    "hard_swish": Forms(
        onnx=lambda f, z, _: f.HardSwish(z),
        torch=("Hardswish", {}),
        c="z < -3 ? 0 : z > 3 ? z : z * (z + 3) / 6",
    ),
    "exp": Forms(
        onnx=lambda f, z, _: f.Exp(z),
        torch=None,
        c="exp{f}(z)",
        sklearn="exp",
    ),
    "softmax": Forms(
        onnx=lambda f, z, _: f.Softmax(z, axis=-1),
        torch=("Softmax", {"dim": -1}),
        c="""\
    {real} largest = a[0], sum = 0;
    int i;
    for (i = 1; i < n; i++)
        largest = a[i] > largest ? a[i] : largest;
    for (i = 0; i < n; i++)
        sum += a[i] = exp{f}(a[i] - largest);
    for (i = 0; i < n; i++)
        a[i] /= sum;""",
        sklearn="softmax",
    ),
}
