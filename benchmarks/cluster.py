"""Several processes and machines: what a sum costs, what a step together takes, what rounds lose, and a model of both.

    mpiexec -n 2 python benchmarks/cluster.py measure        # sums of 10^4 to 10^7 numbers; steps, beside the model's
    python benchmarks/cluster.py rounds --tables FOLDER      # rounds on 4 shards beside every step, digits and tables
    python benchmarks/cluster.py picture --svg cluster.svg   # the model to 64 machines

The model of a step of P machines that share a batch: compute / P, and the sum of a gradient of n bytes by all,
2 ⌈log₂ P⌉ latencies and 2 (P - 1)/P n bytes over each one's link (Thakur, Rabenseifner and Gropp, Optimization of
Collective Communication Operations in MPICH, 2005, section 4.5). A round is an epoch's steps without sums, after which
parameters and both vectors of Adam go from every machine to the one that calls fit_shards, and back, over its link.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cases
import numpy as np
import tabular_sets
from picture import COLOURS, STYLE, element, text

import nnkern as nk

COUNTS = (10**4, 10**5, 10**6, 10**7)
CASES = ("mnist512", "wide")
# name: (seconds of latency, bytes a second)
LINKS = {"1 GbE": (50e-6, 0.117e9), "100 Gb/s": (2e-6, 12e9)}
# seconds of a step on one thread and steps of an epoch, of the README's tables and 60,000 examples
STEPS = {"mnist512": (7.5e-3, 234), "wide": (1.41, 59)}
MACHINES = 64
SHARDS = 4
TABLES = ("letter", "diamonds", "adult")


# ---- the model ----


def parameters_of(shape: tuple[int, ...]) -> int:
    return sum((n_prev + 1) * n for n_prev, n in itertools.pairwise(shape))


def sum_seconds(machines: int, size: int, latency: float, bandwidth: float) -> float:
    """A sum of `size` bytes over all machines."""
    if machines == 1:
        return 0.0
    return 2 * math.ceil(math.log2(machines)) * latency + 2 * (machines - 1) / machines * size / bandwidth


def speed_up(case: str, link: str, machines: int, in_rounds: bool) -> float:
    """How many times faster than one machine an epoch is."""
    shape = next(one for one in cases.TRAINING if one.name == case).n
    (compute, steps), (latency, bandwidth) = STEPS[case], LINKS[link]
    size = 4 * parameters_of(shape)
    if in_rounds:
        together = 2 * 3 * machines * size / bandwidth + 2 * latency if machines > 1 else 0.0
    else:
        together = steps * sum_seconds(machines, size, latency, bandwidth)
    return steps * compute / (steps * compute / machines + together)


def picture() -> str:
    """Speed-ups over the number of machines, one panel a case."""
    width, height, left, top, panel = 920, 430, 60, 74, 380
    title = "Speed-up of an epoch by the model: every step together, and rounds of one epoch"
    parts = [text(16, 26, title, class_="bold")]
    lines = [(link, in_rounds) for link in LINKS for in_rounds in (False, True)]
    for k, (link, in_rounds) in enumerate(lines):
        at = 16 + 215 * k
        parts.append(_line([(at, 50), (at + 26, 50)], k, in_rounds))
        parts.append(text(at + 32, 54, f"{link}, {'rounds' if in_rounds else 'every step'}"))
    for number, case in enumerate(CASES):
        x0, size = left + number * (panel + 60), panel - 40

        def place(machines, factor, x0=x0, size=size):
            return x0 + size * math.log2(machines) / 6, top + 300 - 280 * math.log2(max(factor, 0.25) / 0.25) / 8

        for tick in (1, 2, 4, 8, 16, 32, 64):
            x, y = place(tick, tick)
            parts.append(element("line", x1=x, x2=x, y1=top + 20, y2=top + 300, class_="grid"))
            parts.append(element("line", x1=x0, x2=x0 + size, y1=y, y2=y, class_="one" if tick == 1 else "grid"))
            parts.append(text(x, top + 318, str(tick), class_="faint", text_anchor="middle"))
            parts.append(text(x0 - 8, y + 4, f"{tick}×", class_="faint", text_anchor="end"))
        for k, (link, in_rounds) in enumerate(lines):
            points = [place(machines, speed_up(case, link, machines, in_rounds)) for machines in range(1, MACHINES + 1)]
            parts.append(_line(points, k, in_rounds))
        parts.append(text(x0 + size / 2, top + 12, case, class_="bold", text_anchor="middle"))
        parts.append(text(x0 + size / 2, top + 338, "machines", class_="faint", text_anchor="middle"))
    page = element("rect", width=width, height=height, rx=6, class_="page")
    body = "\n".join([element("title", title), element("style", STYLE), page, *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n{body}\n</svg>\n'


def _line(points, number, dashed):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    more = {"stroke_dasharray": "6 4"} if dashed else {}
    return element("polyline", points=path, fill="none", stroke=COLOURS[number // 2], stroke_width=2.5, **more)


# ---- under mpiexec ----


def measure(options) -> dict:
    """Sums and steps of the ranks that there are; what rank 0 prints."""
    from mpi4py import MPI

    from nnkern.ranks import Ranks

    comm = MPI.COMM_WORLD
    ranks, found = Ranks(comm, 60.0), {"ranks": comm.size, "sums": {}, "steps": {}}
    say = print if comm.rank == 0 else lambda *_: None
    say(f"{comm.size} ranks, {MPI.Get_library_version().splitlines()[0]}")
    for count in COUNTS:
        seconds = time_of_sum(ranks, count, options.seconds)
        found["sums"][count] = seconds
        say(f"sum of {count:>8} float32  {1e6 * seconds:9.1f} µs  {4 * count / seconds / 1e9:6.2f} GB/s")
    for name in options.case or CASES:
        case = next(one for one in cases.TRAINING if one.name == name)
        alone, together = time_of_steps(case, comm, ranks)
        summed = time_of_sum(ranks, parameters_of(case.n), options.seconds)
        found["steps"][name] = {"alone": alone, "together": together, "sum": summed}
        say(
            f"{name}: a step of {case.batch} examples {1e6 * together:.0f} µs; its part alone {1e6 * alone:.0f} + "
            f"sum {1e6 * summed:.0f} = {1e6 * (alone + summed):.0f} µs by the model"
        )
    return found if comm.rank == 0 else {}


def time_of_sum(ranks, count, seconds):
    """The best of many sums of so many float32, after one that is verified."""
    vector = np.full(count, ranks.rank + 1, np.float32)
    ranks.sum_into(vector)
    if (vector != ranks.size * (ranks.size + 1) / 2).any():
        raise SystemExit(f"WRONG: a sum of {count} numbers")
    vector[:] = 0
    begun = time.perf_counter()
    ranks.sum_into(vector)
    rounds = max(5, int(ranks.sum([seconds / (time.perf_counter() - begun)])[0] / ranks.size))
    best = math.inf
    for _ in range(rounds):
        begun = time.perf_counter()
        ranks.sum_into(vector)
        best = min(best, time.perf_counter() - begun)
    return float(ranks.sum([best])[0] / ranks.size)


def time_of_steps(case, comm, ranks):
    """Seconds of a step: of this rank's part of a batch without the others, and of the whole with them."""
    rng = np.random.default_rng(comm.rank)
    m = case.examples // comm.size
    X = rng.standard_normal((case.n[0], m), dtype=np.float32)
    Y = rng.integers(case.n[-1], size=m)
    times = []
    for batch_size, comm_of in ((case.batch // comm.size, None), (case.batch, comm)):
        hidden = [nk.Dense(n, case.activation) for n in case.n[1:-1]]
        net = nk.Network([*hidden, nk.Dense(case.n[-1], "softmax")], "cross_entropy", seed=0)
        history = net.fit(
            X, Y, epochs=6, batch_size=batch_size, shuffle=False, optimizer=nk.SGD(1e-3), threads=1, comm=comm_of
        )
        times.append(min(history["seconds"]) / -(-m // (case.batch // comm.size)))
    theta = np.concatenate([array.ravel() for array in net.parameters.values()]).astype(np.float64)
    if not np.allclose(ranks.sum_into(theta.copy()) / comm.size, theta):
        raise SystemExit(f"WRONG: the ranks' parameters of {case.name} differ")
    alone, together = ranks.sum(times) / comm.size
    return float(alone), float(together)


# ---- rounds beside every step ----


def examples_of(name, folder):
    """(X, Y) that train, (X, Y) that are held out, (outputs, activation, loss)."""
    table = tabular_sets.load(name, None if name == "digits" else folder)
    trains = table.part == 0
    X = np.hstack([_numbers(column, trains) for _, column in table.X.items()])
    y = table.y
    if table.task == "regression":
        y = ((y - y[trains].mean()) / y[trains].std()).astype(np.float32)[None]
        output = 1, "linear", "squared_error"
    else:
        classes = int(y.max()) + 1
        output = (1, "sigmoid", "binary_cross_entropy") if classes == 2 else (classes, "softmax", "cross_entropy")
    order = np.random.default_rng(0).permutation(np.flatnonzero(trains))
    held = np.flatnonzero(table.part == 1)
    X = np.asfortranarray(X.T, np.float32)
    return (X[:, order], y[..., order]), (X[:, held], y[..., held]), output


def _numbers(column, trains):
    """A column standardised by the rows that train, or one-hot."""
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return pd.get_dummies(column.astype(str)).to_numpy(np.float64)
    values = column.to_numpy(np.float64)
    values = np.where(np.isnan(values), np.nanmedian(values[trains]), values)
    spread = values[trains].std()
    return np.clip((values - values[trains].mean()) / (spread or 1.0), -4, 4)[:, None]


def rounds(options) -> dict:
    """Losses after the same number of examples: every step in one process, and rounds on shards.

    The rule: 1/S of the batch size and √S times the rate, which falls by a cosine in both.
    """
    found = {}
    for name in ("digits", *(options.case or TABLES)):
        train, held, (units, output, loss) = examples_of(name, options.tables)
        m, losses = train[0].shape[1], {}
        epochs = 100 if m < 5000 else 40
        ends = [m * k // SHARDS for k in range(SHARDS + 1)]
        shards = [tuple(a[..., at:end] for a in train) for at, end in itertools.pairwise(ends)]
        for seed in range(options.seeds):
            for way in ("every step", "rounds"):
                net = nk.Network([nk.Dense(64, "relu"), nk.Dense(units, output)], loss, seed=seed, l2=1e-4)
                factor = SHARDS**0.5 if way == "rounds" else 1.0

                def rate(epoch, factor=factor, epochs=epochs):
                    return 1e-3 * factor * (1 + math.cos(math.pi * epoch / epochs)) / 2

                how = {"optimizer": nk.Adam(rate), "batch_size": 32 // (SHARDS if way == "rounds" else 1)}
                if way == "rounds":
                    with ThreadPoolExecutor(1) as executor:
                        nk.fit_shards(net, shards, executor=executor, rounds=epochs, **how)
                else:
                    net.fit(*train, epochs=epochs, threads=1, **how)
                losses.setdefault(way, []).append([net.evaluate(*part).cost for part in (train, held)])
        means = {way: np.mean(values, axis=0) for way, values in losses.items()}
        spread = np.std(losses["every step"], axis=0) / means["every step"]
        change = means["rounds"] / means["every step"] - 1
        found[name] = {way: values.tolist() for way, values in means.items()}
        print(f"{name}: {m} examples, {epochs} epochs, {options.seeds} seeds")
        for k, part in enumerate(("training", "held-out")):
            both = f"every step {means['every step'][k]:.5f} ± {spread[k]:.1%}, rounds {means['rounds'][k]:.5f}"
            print(f"  {part} loss: {both} ({change[k]:+.1%})", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "rounds", "picture"))
    parser.add_argument("--case", action="append", help="cases of `measure`, tables of `rounds`; may be repeated")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each sum that is timed")
    parser.add_argument("--seeds", type=int, default=3, help="of each training of `rounds`")
    parser.add_argument(
        "--tables", type=Path, help="folder of Parquet files for `rounds`, as `nnkern bench tabular` has"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path, default=Path("cluster.svg"))
    options = parser.parse_args()
    if options.what == "picture":
        options.svg.write_text(picture(), encoding="utf-8")
        return
    found = {"measure": measure, "rounds": rounds}[options.what](options)
    if options.json is not None and found:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
