"""The computation graph of J = 3(a + bc): its derivatives, by nudging and exactly.

    forward, left to right      u = bc        v = a + u      J = 3v
    backward, right to left     dv = 3        da = dv,  du = dv        db = c du,  dc = b du

`dvar` is dJ/dvar. The same graph is a network of two linear neurons, with b as its input, c and a
as weight and bias of the first neuron and 3 as the weight of the second: its backward pass gives
the same numbers.
"""

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk


def forward(a, b, c):
    """u, v, J"""
    u = b * c
    v = a + u
    return u, v, 3 * v


def backward(a, b, c):
    """The chain rule from J back to the inputs, each step using the one before."""
    dv = 3
    da = dv
    du = dv
    return {"v": dv, "u": du, "a": da, "b": c * du, "c": b * du}


def nudged(a, b, c, step=1e-3):
    """How much J moves, per unit, when one input moves by `step`."""
    J = forward(a, b, c)[-1]
    moved = {
        "a": forward(a + step, b, c)[-1],
        "b": forward(a, b + step, c)[-1],
        "c": forward(a, b, c + step)[-1],
    }
    return {name: (J_moved - J) / step for name, J_moved in moved.items()}


def through_layers(a, b, c):
    """J and its derivatives from nnkern's kernels; every array is (1, 1)."""
    A0, W1, b1, W2, b2 = (np.full((1, 1), value, dtype=float) for value in (b, c, a, 3, 0))
    V = nk.kernels.dense_forward(W1, A0, b1, "linear")
    J = nk.kernels.dense_forward(W2, V, b2, "linear")
    last = nk.kernels.dense_backward(np.ones((1, 1)), W2, V, J, "linear")
    first = nk.kernels.dense_backward(last.dA_prev, W1, A0, V, "linear")
    derivatives = {"v": last.dA_prev, "a": first.db, "b": first.dA_prev, "c": first.dW}
    return J.item(), {name: dvar.item() for name, dvar in derivatives.items()}


def draw(values, derivatives, path):
    drawing, (axes,) = figure(height=3.4)
    places = {"a": (0, 2), "b": (0, 1), "c": (0, 0), "u": (1, 0.5), "v": (2, 1.25), "J": (3, 1.25)}
    titles = {"u": "u = bc", "v": "v = a + u", "J": "J = 3v"}
    for start, end in ("bu", "cu", "uv", "av", "vJ"):
        arrow = {"arrowstyle": "->", "shrinkA": 34, "shrinkB": 34}
        axes.annotate("", places[end], places[start], arrowprops=arrow)
    for name, place in places.items():
        text = f"{titles.get(name, name)}\n{values[name]:g}"
        axes.text(*place, text, ha="center", va="center", bbox={"boxstyle": "round", "fc": "white"})
        if name in derivatives:
            below = place[0], place[1] - 0.38
            text = f"d{name} = {derivatives[name]:g}"
            axes.text(*below, text, ha="center", va="center", color="C3")
    axes.set(xlim=(-0.5, 3.5), ylim=(-0.6, 2.5))
    axes.axis("off")
    save(drawing, path)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    a, b, c = 5, 3, 2
    u, v, J = forward(a, b, c)
    print(f"a = {a}, b = {b}, c = {c}:  u = bc = {u},  v = a + u = {v},  J = 3v = {J}\n")
    exact, by_nudging = backward(a, b, c), nudged(a, b, c)
    J_layers, by_layers = through_layers(a, b, c)
    print("      exact   nudged by 0.001   two linear neurons")
    for name in "abc":
        print(f"  d{name}  {exact[name]:5}   {by_nudging[name]:15.6f}   {by_layers[name]:18.6f}")
    print(f"\nthe two neurons' output is J = {J_layers:g}")
    if options.plot:
        draw({"a": a, "b": b, "c": c, "u": u, "v": v, "J": J}, exact, options.plot)


if __name__ == "__main__":
    run(main)
