"""Eight Python threads that train, predict, save, load and pickle, their own networks and shared ones: `make soak`.

    python -P tools/soak.py [--minutes 10] [--threads 8] [--most-growth 8]

Each thread does one of its tasks after the other, in an order drawn anew, and compares what it gets with what one
thread alone got before: to the bit. Calls on a network that another thread trains have to raise, and nothing else may.
Resident memory is looked at each second (Linux); its median in the last quarter of the time mustn't be more than
`--most-growth` MB above that in the second. Fails with status 1 and says what went wrong. Uses the
installed nnkern.
"""

import argparse
import os
import pickle
import random
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

import nnkern as nk

M, N_X, CLASSES = 600, 40, 5
SEEDS = range(4)
REFUSED = "of them refused, as another thread was at the network"


def data(seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((M, N_X), dtype=np.float32).T
    return X, np.argmax(X[:CLASSES] + 0.1 * X[CLASSES : 2 * CLASSES], axis=0)


def make(seed, hidden=60):
    layers = [nk.Dense(hidden, "relu", dropout=0.1), nk.Dense(hidden, "gelu"), nk.Dense(CLASSES, "softmax")]
    return nk.Network(layers, "cross_entropy", n_x=N_X, l2=1e-4, seed=seed)


def train(net, seed, threads):
    net.fit(*data(seed), epochs=3, batch_size=64, optimizer=nk.Adam(1e-3), threads=threads)
    return net


class Wrong(Exception):
    """A result isn't the one that was expected."""


def expect(condition, what):
    if not condition:
        raise Wrong(what)


class Soak:
    def __init__(self, folder):
        self.folder = folder
        self.trained = [train(make(seed), seed, threads=1) for seed in SEEDS]
        # large enough for a prediction to be shared out among the pool's threads
        self.shared = train(make(0, hidden=300), 0, threads=1)
        self.X = np.asfortranarray(np.tile(data(0)[0], 4))
        self.A = self.shared.predict(self.X, threads=1)
        self.shared.save(folder / "shared.npz")
        self.contended = make(1, hidden=100)
        self.counts = Counter()
        self.faults = []
        self.end = threading.Event()
        self.lock = threading.Lock()

    # ---- tasks: each gets the thread's number and its random generator ----

    def fit_own(self, number, draw):
        seed = draw.choice(SEEDS)
        net = train(make(seed), seed, threads=draw.choice((1, 2, 3)))
        expect(net == self.trained[seed], "a training gave other bits")
        return net

    def file_own(self, number, draw):
        net = self.fit_own(number, draw)
        path = self.folder / f"own{number}.npz"
        net.save(path, training_state=True)
        expect(nk.load(path) == net, "a network came back from its file as another")

    def pickle_own(self, number, draw):
        net = self.fit_own(number, draw)
        expect(pickle.loads(pickle.dumps(net)) == net, "a network came back from pickle as another")

    def predict_shared(self, number, draw):
        expect(
            np.array_equal(self.shared.predict(self.X, threads=draw.choice((1, 2, 8))), self.A), "a prediction differs"
        )
        m = draw.randrange(1, 9)
        expect(self.shared.predict(self.X[:, :m]).shape == (CLASSES, m), "a prediction has another shape")

    def file_shared(self, number, draw):
        path = self.folder / "shared.npz"
        self.shared.save(path)
        expect(nk.load(path) == self.shared, "the shared network came back from its file as another")

    def pickle_shared(self, number, draw):
        expect(pickle.loads(pickle.dumps(self.shared)) == self.shared, "the shared network was pickled as another")

    def contend(self, number, draw):
        """On a network that several threads train: each call is done whole, or refused."""
        try:
            if draw.random() < 0.5:
                self.contended.fit(*data(1), epochs=2, batch_size=50, optimizer=nk.SGD(0.01))
            else:
                expect(np.isfinite(self.contended.predict(data(1)[0])).all(), "a prediction isn't finite")
        except RuntimeError as error:
            expect("train" in str(error) or "predict" in str(error), f"refused for another reason: {error}")
            with self.lock:
                self.counts[REFUSED] += 1

    def wrong_input(self, number, draw):
        X = data(0)[0].copy()
        X[draw.randrange(N_X), draw.randrange(M)] = np.nan
        try:
            self.trained[0].evaluate(X, data(0)[1])
        except ValueError:
            return
        raise Wrong("NaN was let through")

    TASKS = (fit_own, file_own, pickle_own, predict_shared, file_shared, pickle_shared, contend, wrong_input)

    def work(self, number):
        draw = random.Random(number)
        own = Counter()
        while not self.end.is_set():
            for task in draw.sample(self.TASKS, len(self.TASKS)):
                try:
                    task(self, number, draw)
                except Exception:
                    self.faults.append(f"thread {number}, {task.__name__}:\n{traceback.format_exc()}")
                    self.end.set()
                    return
                own[task.__name__] += 1
        with self.lock:
            self.counts.update(own)


def resident():
    """Bytes, or None where /proc doesn't say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--most-growth", type=float, default=8, help="MB")
    options = parser.parse_args()
    seconds = 60 * options.minutes

    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder))
        threads = [threading.Thread(target=soak.work, args=(number,)) for number in range(options.threads)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        seen = []
        while (passed := time.monotonic() - start) < seconds and not soak.end.is_set():
            seen.append(resident())
            soak.end.wait(min(1, seconds / 20))
        soak.end.set()
        for thread in threads:
            thread.join(120)
            if thread.is_alive():
                soak.faults.append(f"{thread.name} hangs")

    for task, count in sorted(soak.counts.items()):
        print(f"{count:9} {task}")
    tasks = sum(soak.counts.values()) - soak.counts[REFUSED]
    print(f"{tasks:9} tasks in all, by {options.threads} threads in {passed / 60:.1f} minutes")
    quarter = len(seen) // 4
    if quarter and seen[0] is not None and not soak.faults:
        # medians: the arrays of a task come and go
        before, after = (statistics.median(part) / 1e6 for part in (seen[quarter : 2 * quarter], seen[-quarter:]))
        growth = after - before
        print(f"resident: {before:.1f} MB in the second quarter, {after:.1f} MB in the last")
        if growth > options.most_growth:
            soak.faults.append(f"memory grew by {growth:.1f} MB")
    if soak.faults:
        print(*soak.faults, sep="\n", file=sys.stderr)
        # a thread that hangs would keep the process
        sys.stdout.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
