"""The activations and their derivatives: g(z) and g'(z), from the kernels and by nudging z.

The list is the library's own, so an activation that is added there appears here.
"""

import numpy as np
from _shared import figure, parser, run, save

import nnkern as nk

# softmax isn't here: it takes all units of an example together
ELEMENTWISE = [name for name in nk.kernels.ACTIVATIONS if name != "softmax"]


def g(name, Z):
    """A = g(Z)"""
    return nk.kernels.activation_forward(Z, name)


def dg(name, Z):
    """g'(Z), which is dZ where dA is 1."""
    return nk.kernels.activation_backward(np.ones_like(Z), g(name, Z), name, Z=Z)


def nudged(name, Z, step=1e-6):
    """(g(z + ε) - g(z - ε)) / 2ε"""
    return (g(name, Z + step) - g(name, Z - step)) / (2 * step)


def grid():
    """Z (1, 400) from -4 to 4; 0, where relu has a kink, lies between two of its entries."""
    return np.linspace(-4, 4, 400).reshape(1, 400)


def draw(path):
    Z = grid()
    drawing, panels = figure(columns=2, height=3.6)
    for axes, title, f in zip(panels, ("a = g(z)", "g'(z)"), (g, dg), strict=True):
        for i, name in enumerate(ELEMENTWISE):
            axes.plot(Z[0], f(name, Z)[0], label=name, linestyle=("-", "--")[i // 10])
        axes.set(xlabel="z", title=title, ylim=(-1.5, 4))
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    save(drawing, path)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    at = np.array([[-2.0, 0.0, 2.0]])
    print("                 g(-2)    g(0)    g(2)   g'(-2)   g'(0)   g'(2)   off the nudged by")
    for name in ELEMENTWISE:
        shown = "".join(f"{value:8.3f}" for f in (g, dg) for value in f(name, at)[0])
        off = np.abs(dg(name, grid()) - nudged(name, grid())).max()
        print(f"{name:14}{shown} {off:19.1e}")
    if options.plot:
        draw(options.plot)


if __name__ == "__main__":
    run(main)
