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
    # onnx, torch, c, sklearn
    "linear": Forms(lambda f, z, _: z, ("Identity", {}), "z", "identity"),
    "sigmoid": Forms(lambda f, z, _: f.Sigmoid(z), ("Sigmoid", {}), "1 / (1 + exp{f}(-z))", "logistic"),
    "tanh": Forms(lambda f, z, _: f.Tanh(z), ("Tanh", {}), "tanh{f}(z)", "tanh"),
    "relu": Forms(lambda f, z, _: f.Relu(z), ("ReLU", {}), "z < 0 ? 0 : z", "relu"),
    "leaky_relu": Forms(
        lambda f, z, slope: f.LeakyRelu(z, alpha=slope),
        ("LeakyReLU", {"negative_slope": SLOPE}),
        "z < 0 ? {slope}{f} * z : z",
    ),
    "elu": Forms(lambda f, z, _: f.Elu(z, alpha=1.0), ("ELU", {"alpha": 1.0}), "z < 0 ? expm1{f}(z) : z"),
    "selu": Forms(
        lambda f, z, _: f.Selu(z, alpha=_SELU_ALPHA, gamma=_SELU_SCALE),
        ("SELU", {}),
        f"{_SELU_SCALE}{{f}} * (z < 0 ? {_SELU_ALPHA}{{f}} * expm1{{f}}(z) : z)",
    ),
    "gelu": Forms(
        lambda f, z, _: f.Mul(f.Mul(z, 0.5), f.Add(f.Erf(f.Mul(z, _ROOT_HALF)), 1.0)),
        ("GELU", {"approximate": "none"}),
        # 1 + erf(x) = erfc(-x), which doesn't cancel for negative x
        f"z / 2 * erfc{{f}}(-{_ROOT_HALF}{{f}} * z)",
    ),
    "gelu_tanh": Forms(
        lambda f, z, _: f.Mul(
            f.Mul(z, 0.5),
            f.Add(f.Tanh(f.Mul(f.Add(z, f.Mul(f.Mul(f.Mul(z, z), z), _GELU_CUBIC)), _ROOT_2_BY_PI)), 1.0),
        ),
        ("GELU", {"approximate": "tanh"}),
        # (1 + tanh(x)) / 2 = 1 / (1 + exp(-2x)), which doesn't cancel for negative x
        f"z / (1 + exp{{f}}(-{2 * _ROOT_2_BY_PI}{{f}} * (z + {_GELU_CUBIC}{{f}} * z * z * z)))",
    ),
    "silu": Forms(lambda f, z, _: f.Mul(z, f.Sigmoid(z)), ("SiLU", {}), "z / (1 + exp{f}(-z))"),
    # above its threshold torch's is z itself: there the rest is less than half a unit in float64's last place
    "softplus": Forms(lambda f, z, _: f.Softplus(z), ("Softplus", {"beta": 1.0, "threshold": 40.0}), _C_SOFTPLUS),
    "mish": Forms(lambda f, z, _: f.Mul(z, f.Tanh(f.Softplus(z))), ("Mish", {}), f"z * tanh{{f}}({_C_SOFTPLUS})"),
    "hard_swish": Forms(lambda f, z, _: f.HardSwish(z), ("Hardswish", {}), "z < -3 ? 0 : z > 3 ? z : z * (z + 3) / 6"),
    "exp": Forms(lambda f, z, _: f.Exp(z), None, "exp{f}(z)", "exp"),
    "softmax": Forms(
        lambda f, z, _: f.Softmax(z, axis=-1),
        ("Softmax", {"dim": -1}),
        """\
    {real} largest = a[0], sum = 0;
    int i;
    for (i = 1; i < n; i++)
        largest = a[i] > largest ? a[i] : largest;
    for (i = 0; i < n; i++)
        sum += a[i] = exp{f}(a[i] - largest);
    for (i = 0; i < n; i++)
        a[i] /= sum;""",
        "softmax",
    ),
}
