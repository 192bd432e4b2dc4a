"""Makes the polynomial coefficients that stand in src/kernels/vmath.h: `python tools/minimax.py` prints them.

Remez' exchange algorithm in 60-digit arithmetic (needs mpmath). The printed error is the largest relative
error of the function with the coefficients rounded as they stand in the C source.
"""

import functools
import struct

import mpmath as mp

mp.mp.dps = 60


def solve(f, weight, nodes, degrees):
    """Coefficients and levelled error E with Σ c_k x^k + (-1)^i E / weight(x) = f(x) at the nodes."""
    n = len(degrees)
    M = mp.matrix(n + 1, n + 1)
    y = mp.matrix(n + 1, 1)
    for i, x in enumerate(nodes):
        for j, k in enumerate(degrees):
            M[i, j] = x**k
        M[i, n] = (-1) ** i / weight(x)
        y[i] = f(x)
    c = mp.lu_solve(M, y)
    return list(c[:n]), c[n]


def remez(f, weight, lo, hi, degrees, rounds=12, grid=1200):
    """Minimax fit of f by Σ c_k x^k, k in degrees, for the error weighted by `weight`."""
    n = len(degrees)
    nodes = [(lo + hi) / 2 + (hi - lo) / 2 * mp.cos(mp.pi * (n - i) / n) for i in range(n + 1)]
    xs = [lo + (hi - lo) * mp.mpf(i) / grid for i in range(grid + 1)]
    for _ in range(rounds):
        c, _level = solve(f, weight, nodes, degrees)

        def error(x, c=c):
            return (sum(ck * x**k for ck, k in zip(c, degrees, strict=True)) - f(x)) * weight(x)

        es = [error(x) for x in xs]
        peaks = [
            i
            for i in range(grid + 1)
            if (i == 0 or abs(es[i]) >= abs(es[i - 1])) and (i == grid or abs(es[i]) >= abs(es[i + 1]))
        ]
        picked = []
        for i in peaks:
            if picked and es[i] * es[picked[-1]] > 0:
                if abs(es[i]) > abs(es[picked[-1]]):
                    picked[-1] = i
            else:
                picked.append(i)
        if len(picked) < n + 1:
            break
        while len(picked) > n + 1:
            picked.pop(0 if abs(es[picked[0]]) < abs(es[picked[-1]]) else -1)
        nodes = [xs[i] for i in picked]
    return c, max(abs(e) for e in es)


def rounded(x, bits):
    """x as the nearest float or double."""
    kind = "f" if bits == 32 else "d"
    return mp.mpf(struct.unpack(kind, struct.pack(kind, float(x)))[0])


def fit(f, weight, lo, hi, degree, bits):
    """Coefficients c_0 … c_degree in the precision of `bits`, and their largest weighted error."""
    exact, _ = remez(f, lambda x: mp.mpf(1), lo, hi, list(range(degree + 1)))
    c = [rounded(ck, bits) for ck in exact]
    xs = [lo + (hi - lo) * mp.mpf(i) / 3000 for i in range(3001)]
    return c, max(abs((mp.polyval(c[::-1], x) - f(x)) * weight(x)) for x in xs)


def limit(f, at_zero):
    """f with its limit at 0, where the formula is 0/0."""
    return lambda x: mp.mpf(at_zero) if abs(x) < mp.mpf(10) ** -25 else f(x)


def show(name, bits, coefficients, error):
    digits = 9 if bits == 32 else 17
    body = ", ".join(f"R({mp.nstr(c, digits)})" for c in coefficients)
    print(f"{name} real{bits}: error 2^{mp.nstr(mp.log(error, 2), 4)}\n    {body}")


def main():
    # exp(r) = 1 + r + r² P(r) for |r| <= ln2/2 (a little more, for the rounding of n)
    half_ln2 = mp.log(2) / 2 * (1 + mp.mpf(2) ** -12)
    P = limit(lambda r: (mp.expm1(r) - r) / r**2, 0.5)
    for bits, degree in ((32, 4), (64, 9)):
        show("EXP", bits, *fit(P, lambda r: r**2 / mp.exp(r), -half_ln2, half_ln2, degree, bits))
    # log(1 + f) = 2 atanh(s), s = f / (2 + f), = 2s + s z L(z), z = s², for 1 + f in [√½, √2]
    z_max = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * (1 + mp.mpf(2) ** -12)
    L = limit(lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z, mp.mpf(2) / 3)
    for bits, degree in ((32, 3), (64, 6)):
        show("LOG", bits, *fit(L, lambda z: z / 2, mp.mpf(0), z_max, degree, bits))

    # sin r = r + r z S(z) and cos r = 1 - z/2 + z² C(z), z = r², for |r| <= π/4
    z_max = (mp.pi / 4) ** 2 * (1 + mp.mpf(2) ** -10)
    S = limit(lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, -mp.mpf(1) / 6)
    C = limit(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, mp.mpf(1) / 24)
    for bits, degree in ((32, 2), (64, 5)):
        show("SIN", bits, *fit(S, lambda z: z, mp.mpf(0), z_max, degree, bits))
        show("COS", bits, *fit(C, lambda z: z**2, mp.mpf(0), z_max, degree, bits))

    # (7/4 + 35/16 t) e^(t²/2) Φ(-t) = 7/8 + h Q(h - 1), h = 2 t / (t + 5), for t up to where z Φ(z) is 0. It lies a
    # little below 1, where the spacing of numbers is smallest beside them, and near t = 0 no rounding of h matters.
    def Q(s):
        t = 5 * (1 + s) / (1 - s)
        if t == 0:
            return mp.mpf(5) / 2 * (mp.mpf(35) / 32 - mp.mpf(7) / 4 / mp.sqrt(2 * mp.pi))
        return ((7 + 35 * t / 4) / 4 * mp.exp(t * t / 2) * mp.erfc(t / mp.sqrt(2)) / 2 - mp.mpf(7) / 8) / (1 + s)

    Q = functools.cache(Q)
    for bits, t_max, degree in ((32, mp.mpf(15), 9), (64, mp.mpf("39.5"), 21)):
        show("MILLS", bits, *fit(Q, lambda s: 1 + s, mp.mpf(-1), (t_max - 5) / (t_max + 5), degree, bits))


if __name__ == "__main__":
    main()
