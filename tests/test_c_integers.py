"""Networks as C99 in whole numbers alone: no floating point anywhere, to the bit what Python's integers give."""

import os
import platform
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import nnkern as nk
from nnkern.convert import integers
from nnkern.convert.options import ExportOptions

CC = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
needs_cc = pytest.mark.skipif(CC is None or sys.platform == "win32", reason="no C compiler")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow", "-Wmissing-prototypes"]

MAIN = """
#include <stdio.h>
#include "net.c"
int main(void)
{
    int16_t x[NETWORK_N_X], y[NETWORK_N_Y + 1];
    while (fread(x, sizeof x, 1, stdin) == 1) {
        predict(x, y);
        y[NETWORK_N_Y] = (int16_t)CLASS;
        fwrite(y, sizeof y, 1, stdout);
    }
    return 0;
}
"""

RNG = np.random.default_rng(3)
BEYOND = np.array([-32768, -32767, -1, 0, 1, 32767])
ACTIVATIONS = [name for name in nk.kernels.ACTIVATIONS if name != "softmax"]


def compiled(source, folder, *flags):
    """A program that reads examples and writes outputs and classes."""
    (folder / "net.c").write_text(source, encoding="utf-8")
    (folder / "main.c").write_text(MAIN)
    program = folder / "program"
    of_class = "predict_class(x)" if "predict_class" in source else "0"
    command = [CC, *STRICT, "-O2", *flags, f"-DCLASS={of_class}", "-o", str(program), "main.c"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    def call(x):
        """Outputs (n_y, m) and classes (m,) for int16 features (n_x, m)."""
        done = subprocess.run([program], input=x.T.astype("<i2").tobytes(), capture_output=True, timeout=300)
        assert (done.returncode, done.stderr) == (0, b"")
        y = np.frombuffer(done.stdout, "<i2").reshape(x.shape[1], -1)
        return y[:, :-1].T.astype(int), y[:, -1].astype(int)

    return call


@pytest.fixture(scope="module")
def sanitizer(tmp_path_factory):
    """What has the compiler look for undefined behaviour, where it can."""
    folder, flags = tmp_path_factory.mktemp("probe"), ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
    (folder / "probe.c").write_text("int main(void) { return 0; }\n")
    command = [CC, *flags, "-o", "probe", "probe.c"]
    return flags if subprocess.run(command, cwd=folder, capture_output=True).returncode == 0 else []


class Oracle:
    """The file's text read back, and computed in Python's own integers."""

    def __init__(self, source):
        self.arrays = {
            name: [int(number) for number in numbers.replace(",", " ").split()]
            for name, numbers in re.findall(r"static const \w+ (\w+)\[\d+\] = \{([^}]*)\};", source)
        }
        self.bits = {name: int(bits) for name, bits in re.findall(r"NETWORK_(\w)_BITS = (-?\d+)", source)}
        call = r"unit\(W\d+ \+ i \* (\d+), b\d+\[i\], multiplier\d+\[i\], (\d+), \w+, \d+, (-?\d+), (-?\d+)\)"
        self.layers = [tuple(map(int, layer)) for layer in re.findall(call, source)]
        self.drops = {int(l): int(drop) for l, drop in re.findall(r"looked_up\(table(\d+), .*\) / (\d+) - ", source)}
        found = re.search(r"of y in units of 2\^-(\d+) \*/", source)
        self.logit_bits = None if found is None else int(found[1])

    @staticmethod
    def nearest(number, shift):
        """number / 2^shift, halves away from 0."""
        size = (2 * abs(number) + 2**shift) // 2 ** (shift + 1)
        return size if number >= 0 else -size

    def table(self, name, p):
        entries, i = self.arrays[name], p // 256
        return entries[i] * (256 - p % 256) + entries[i + 1] * (p % 256)

    def numbers(self, x):
        """Of one example; before softmax where there is one."""
        of = self.arrays
        products = [(a - c) * m for a, c, m in zip(x, of["x_center"], of["x_multiplier"], strict=True)]
        assert all(abs(product) + 2**29 < 2**31 for product in products)
        steps = zip(products, of["x_shift"], strict=True)
        q = [max(-127, min(127, self.nearest(product, shift))) for product, shift in steps]
        for l, (n_prev, shift, low, high) in enumerate(self.layers, start=1):
            outputs, W = [], of[f"W{l}"]
            for i, (b, multiplier) in enumerate(zip(of[f"b{l}"], of[f"multiplier{l}"], strict=True)):
                row = W[i * n_prev : (i + 1) * n_prev]
                assert len(row) == len(q)
                assert abs(b) + sum(127 * abs(w) for w in row) < 2**31, "the sum overflows for some example"
                total = (b + sum(w * a for w, a in zip(row, q, strict=True))) * multiplier
                p = max(low, min(high, self.nearest(total, shift)))
                if l in self.drops:
                    p = (2 * self.table(f"table{l}", p) + self.drops[l]) // (2 * self.drops[l])
                outputs.append(p)
            q = outputs
        return q

    def predict(self, x):
        y = self.numbers(x)
        if self.logit_bits is None:
            return y
        far, spread = 16 * 2**self.logit_bits, 2 ** (12 - self.logit_bits)
        distances = [max(y) - one for one in y]
        e = [(self.table("exponentials", d * spread) + 128) // 256 if d < far else 0 for d in distances]
        return [(2**14 * one + sum(e) // 2) // sum(e) for one in e]


def whole(net, X, **options):
    """What the package says that the file computes."""
    model = net.to_model()
    return integers.quantised(model, np.asarray(X, float), ExportOptions(model, **options))


def check(net, X, folder, flags, **options):
    """The file agrees with the oracle and with the package to the bit; gives real outputs, and the WholeNetwork."""
    source = net.to_c(weights="int8", calibration=X, **options)
    assert not re.search(r"float|double|math\.h|[0-9]\.[0-9]", source.partition("*/")[2])
    oracle, own = Oracle(source), whole(net, X, **options)
    assert (oracle.bits["X"], oracle.bits["Y"]) == (own.features.bits, own.bits)
    assert len(oracle.layers) == len(own.layers)
    x = own.features.fixed(X)
    assert np.abs(x - np.ldexp(X, own.features.bits)).max() <= 0.5
    far = RNG.choice(BEYOND, (len(x), 40))  # what no calibration has seen
    x = np.concatenate([x, far, BEYOND + np.zeros((len(x), 1), int)], axis=1)
    y, found = compiled(source, folder, *flags)(x)
    assert y.T.tolist() == [oracle.predict(one) for one in x.T.tolist()]
    assert np.array_equal(y, own.predict(x))
    if own.classes(x) is not None:
        assert np.array_equal(found, own.classes(x))
    return np.ldexp(y[:, : X.shape[1]].astype(float), -own.bits), own


def random_net(layers, n_x=5, loss="squared_error", dtype="float32"):
    net = nk.Network(layers, loss, n_x=n_x, dtype=dtype, seed=1)
    for name, array in net.parameters.items():
        if name.startswith("b"):
            array[...] = 0.5 * np.random.default_rng(4).standard_normal(array.shape)
    return net


# ---- agreement, and what it is off by ----


@needs_cc
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_between_layers(tmp_path, sanitizer, activation):
    net = random_net([nk.Dense(24, activation, negative_slope=0.3), nk.Dense(4)])
    X = (0.5 if activation == "exp" else 1.5) * RNG.standard_normal((5, 300))
    y, own = check(net, X, tmp_path, sanitizer)
    expected = net.predict(X.astype(np.float32))
    # some 24 numbers of 7 bits are added, each with errors of half a step
    assert np.abs(y - expected).max() < 0.03 * np.ptp(expected)
    np.testing.assert_allclose(own.largest_error, np.abs(y - expected).max(), rtol=1e-3)
    np.testing.assert_allclose(own.mean_error, np.sqrt(((y - expected) ** 2).mean()), rtol=1e-3)


@needs_cc
@pytest.mark.parametrize("activation", [*ACTIVATIONS, "softmax"])
def test_every_activation_of_the_output(tmp_path, sanitizer, activation):
    net = random_net([nk.Dense(16, "relu"), nk.Dense(3, activation, negative_slope=0.3)])
    X = (0.5 if activation == "exp" else 1.5) * RNG.standard_normal((5, 300))
    y, own = check(net, X, tmp_path, sanitizer)
    expected = net.predict(X.astype(np.float32))
    assert np.abs(y - expected).max() < 0.03 * np.ptp(expected)
    if activation == "softmax":
        assert np.abs(y.sum(axis=0) - 1).max() <= 3 / 2**15
        assert own.agreement > 0.98


SHAPES = {
    "one layer": [nk.Dense(3)],
    "one softmax": [nk.Dense(7, "softmax")],
    "one sigmoid": [nk.Dense(1, "sigmoid")],
    "no bias": [nk.Dense(8, "tanh", use_bias=False), nk.Dense(2, use_bias=False)],
    "deep": [nk.Dense(12, "relu"), nk.Dense(9, "tanh"), nk.Dense(1), nk.Dense(14, "gelu"), nk.Dense(2)],
    "scales": [nk.Scale(), nk.Scale(), nk.Dense(6, "tanh"), nk.Scale(), nk.Dense(2)],
    "several sigmoids": [nk.Dense(6, "tanh"), nk.Dense(3, "sigmoid")],
}  # fmt: skip


@needs_cc
@pytest.mark.parametrize("name", SHAPES)
def test_every_shape(tmp_path, sanitizer, name, dtype):
    net = random_net(SHAPES[name], dtype=dtype)
    for parameter, array in net.parameters.items():
        if parameter.startswith("s"):
            array[...] = np.array([0.5, 2, 1, -3, 0, 1.5])[: len(array), None]
    X = RNG.standard_normal((5, 200))
    y, _ = check(net, X, tmp_path, sanitizer)
    expected = net.predict(X.astype(dtype))
    assert np.abs(y - expected).max() < 0.05 * np.ptp(expected)


@needs_cc
def test_standardisation_goes_into_the_weights(tmp_path, sanitizer):
    X = np.array([[100.0], [-3e3], [0.02], [7]]) + np.array([[5.0], [800], [0.003], [0]]) * RNG.standard_normal(
        (4, 400)
    )
    mean, scale = X.mean(axis=1), np.maximum(X.std(axis=1), 1e-3)
    net = random_net([nk.Dense(16, "tanh"), nk.Dense(2)], n_x=4, dtype="float64")
    options = {"mean": mean, "scale": scale, "target_mean": [1e3, -5.0], "target_scale": [20.0, 0.5]}
    own = whole(net, X, **options)
    # one number of bits for all features: nothing is left of the third
    assert own.features.bits <= 2
    assert own.largest_error > 1
    X[2] = 1000 * X[2]
    options |= {"mean": X.mean(axis=1), "scale": np.maximum(X.std(axis=1), 1e-3)}
    y, _ = check(net, X, tmp_path, sanitizer, **options)
    expected = net.predict((X - options["mean"][:, None]) / options["scale"][:, None])
    expected = np.array([[1e3], [-5.0]]) + np.array([[20.0], [0.5]]) * expected
    assert (np.abs(y - expected).max(axis=1) < 0.05 * np.ptp(expected, axis=1)).all()


@pytest.mark.parametrize(("activation", "far"), [("tanh", 6), ("sigmoid", 11)])
def test_tables_are_of_where_something_happens(activation, far):
    net = random_net([nk.Dense(3, activation), nk.Dense(1)])
    net.parameters["W1"][...] *= 1000
    layer = whole(net, RNG.standard_normal((5, 100))).layers[0]
    assert layer.offset == -far
    assert len(np.unique(layer.table)) > 200
    assert np.abs(layer.table).max() == 127 * 256


def test_the_file_does_not_depend_on_the_threads():
    net = random_net([nk.Dense(70, "gelu"), nk.Dense(60, "relu"), nk.Dense(3, "softmax")], n_x=90)
    X, before, found = RNG.standard_normal((90, 3000)), nk.get_num_threads(), set()
    try:
        for threads in (1, 2, 3):
            nk.set_num_threads(threads)
            found.add(net.to_c(weights="int8", calibration=X))
    finally:
        nk.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize("size", [1e-320, 1e-290, 1e290])
def test_the_smallest_and_the_largest_numbers(size):
    net = nk.Network([nk.Dense(1)], "squared_error", n_x=2, dtype="float64", seed=0)
    net.set_parameters({"W1": [[0.5, -0.25]], "b1": [[0.0]]})
    own = whole(net, size * RNG.standard_normal((2, 50)))
    assert own.largest_error <= 0.02 * size or size == 1e-320


@pytest.mark.parametrize(
    ("X", "bits"),
    [
        ([[0, 16, 3]], 0),
        ([[-32767, 32767, 3]], 0),
        ([[0, 0.5, 1]], 13),
        ([[-1, 0.25, 0.5]], 13),
        ([[1e5, -1e5, 0]], -3),
        ([[0, 0, 0]], 0),
        ([[1e-6, 0, 0]], 33),
        ([[0.6, 0.999, 0]], 14),
    ],
)
def test_features_are_counts_or_have_room_for_twice_the_largest(X, bits):
    found = integers.Features.of(np.array(X, float))
    assert found.bits == bits
    assert bits == 0 or np.abs(np.ldexp(2 * np.array(X), bits)).max() <= 32767


@needs_cc
def test_constant_features_and_units_that_never_change(tmp_path, sanitizer):
    net = random_net([nk.Dense(6, "relu"), nk.Dense(5, "tanh"), nk.Dense(2)])
    net.parameters["b1"][:3] = -100  # never above 0
    net.parameters["W2"][0] = 0
    net.parameters["b3"][1] = 30
    X = np.concatenate([RNG.standard_normal((4, 100)), np.full((1, 100), 2.5)])
    y, _ = check(net, X, tmp_path, sanitizer)
    expected = net.predict(X.astype(np.float32))
    assert np.abs(y[0] - expected[0]).max() < 0.05 * np.ptp(expected[0])
    assert np.abs(y[1] - expected[1]).max() < 0.01
    # and all of it
    net.parameters["W1"][...] = 0
    y, _ = check(net, X, tmp_path, sanitizer)
    np.testing.assert_allclose(y, net.predict(X.astype(np.float32)), atol=0.01)


@needs_cc
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e6, 1e30])
@pytest.mark.parametrize("last", ["linear", "softmax", "sigmoid"])
def test_numbers_of_any_size(tmp_path, sanitizer, size, last):
    net = random_net([nk.Dense(6, "relu"), nk.Dense(3, last)], dtype="float64")
    net.parameters["W2"][...] *= size
    net.parameters["b2"][...] *= size
    X = RNG.standard_normal((5, 100))
    y, _ = check(net, X, tmp_path, sanitizer)
    expected = net.predict(X)
    if last == "linear":
        assert np.abs(y - expected).max() < 0.03 * np.ptp(expected)
    elif size < 1:
        assert np.abs(y - expected).max() < 1e-3


@needs_cc
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the flag is x86's")
def test_no_instruction_of_floating_point(tmp_path):
    """The compiler refuses to make one, for predict and all that it calls."""
    net = random_net([nk.Dense(9, "gelu"), nk.Dense(6, "relu"), nk.Dense(3, "softmax")])
    source = net.to_c(weights="int8", calibration=RNG.standard_normal((5, 100)))
    assert not re.search("float|double|math", source)
    (tmp_path / "net.c").write_text(source)

    def attempt(text):
        (tmp_path / "net.c").write_text(text)
        command = [CC, *STRICT, "-O2", "-mgeneral-regs-only", "-c", "-o", "net.o", "net.c"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    assert attempt(source).returncode == 0
    # so would a file that has some be refused
    assert attempt(source + "double f(double x);\ndouble f(double x) { return x / 3; }\n").returncode != 0


# where int has 16 bits; the smallest of ARM's; RISC-V without any extension
CHIPS = {
    "AVR": ["avr-freestanding", "-mmcu=atmega328p", "-Wno-avr-rtlib-linking-quirks"],
    "Cortex-M0": ["thumb-freestanding-eabi", "-mcpu=cortex_m0"],
    "RISC-V": ["riscv32-freestanding", "-mcpu=generic_rv32"],
}


@pytest.mark.parametrize("chip", CHIPS)
def test_chips_without_floating_point(tmp_path, chip):
    """Where floating point would be calls of the compiler's own functions, such as __addsf3 and __aeabi_fadd."""
    pytest.importorskip("ziglang")
    net = random_net([nk.Dense(9, "gelu"), nk.Dense(6, "relu"), nk.Dense(3, "softmax")])
    source = net.to_c(weights="int8", calibration=RNG.standard_normal((5, 100)))

    def floating_point_of(text):
        (tmp_path / "net.c").write_text(text)
        command = [sys.executable, "-P", "-m", "ziglang", "cc", "-target", *CHIPS[chip], *STRICT]
        command += ["-Os", "-c", "-o", "net.o", "net.c"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        called = set(re.findall(rb"__[a-z0-9_]+", (tmp_path / "net.o").read_bytes()))
        return {name for name in called if re.search(rb"[sdt]f|aeabi_[fd]|aeabi_.*2[fd]", name)}

    assert floating_point_of(source) == set()
    assert floating_point_of(source + "float f(float x);\nfloat f(float x) { return x / 3; }\n") != set()


@needs_cc
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_digits_within_one_percent(tmp_path, activation):
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    X, y = digits.data.T[:, order], digits.target[order]
    net = nk.Network([nk.Dense(32, activation), nk.Dense(10, "softmax")], "cross_entropy", seed=0)
    net.fit(X[:, :1200] / 16, y[:1200], epochs=30, optimizer="adam")
    source = net.to_c(weights="int8", calibration=X[:, :1200], scale=np.full(64, 16.0))
    assert "NETWORK_X_BITS = 0" in source  # grey values as they are
    _, labels = compiled(source, tmp_path)(X[:, 1200:].astype(int))
    accuracy = (net.predict_labels(X[:, 1200:] / 16) == y[1200:]).mean()
    assert accuracy > 0.94
    assert (labels == y[1200:]).mean() > accuracy - 0.01


@needs_cc
def test_two_classes_and_their_names(tmp_path, sanitizer):
    X = RNG.standard_normal((3, 300))
    net = random_net([nk.Dense(8, "tanh"), nk.Dense(1, "sigmoid")], n_x=3, loss="binary_cross_entropy")
    _, own = check(net, X, tmp_path, sanitizer, labels=["no", "yes"])
    assert own.agreement > 0.98
    source = net.to_c(weights="int8", calibration=X, labels=["no", "yes"])
    assert 'const char *const network_labels[2] = {\n    "no",\n    "yes",\n};' in source
    classes = own.classes(own.features.fixed(X))
    assert 0.2 < classes.mean() < 0.8
    assert (classes == net.predict_labels(X.astype(np.float32))).mean() == own.agreement


# ---- what the file says of itself ----


def test_the_file_tells_its_bytes_and_its_error():
    net = random_net([nk.Dense(9, "tanh"), nk.Dense(12, "relu"), nk.Dense(4, "softmax")])
    X = RNG.standard_normal((5, 150))
    source, own = net.to_c(weights="int8", calibration=X), whole(net, X)
    size = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "int32_t": 4}
    arrays = re.findall(r"static const (\w+) \w+\[(\d+)\]", source)
    constants = sum(size[kind] * int(count) for kind, count in arrays)
    assert f"int8 weights, {constants} bytes of constants; the stack holds {5 + 9 + 12 + 8} bytes." in source
    assert [line for line in source.splitlines() if line.startswith("    int8_t")] == [
        "    int8_t q[5];", "    int8_t a0[9];", "    int8_t a1[12];"
    ]  # fmt: skip
    error = f"outputs differ from the network's by {own.largest_error:.3g} at most,"
    assert f"On the 150 examples that its ranges come from, {error}" in source
    agreement = f"classes agree in {100 * own.agreement:.4g} %."
    assert f" * {own.mean_error:.3g} in the root of the mean square; {agreement}\n" in source
    numbers = random_net([nk.Dense(2)]).to_c(weights="int8", calibration=X)
    assert "class" not in numbers


def test_the_correction_of_biases_makes_the_error_smaller(monkeypatch):
    net = random_net([nk.Dense(40, "relu"), nk.Dense(40, "relu"), nk.Dense(3)])
    X = RNG.standard_normal((5, 500))
    error = whole(net, X).mean_error
    monkeypatch.setattr(integers.Units, "corrected", lambda self, q, Z: self)
    assert error < whole(net, X).mean_error


def test_files_are_written_whole_or_not_at_all(tmp_path):
    net, X = random_net([nk.Dense(2)]), RNG.standard_normal((5, 20))
    path = tmp_path / "net.c"
    source = net.to_c(path, weights="int8", calibration=X)
    assert path.read_text() == source == net.to_c(weights="int8", calibration=X)
    with pytest.raises(ValueError, match="labels"):
        net.to_c(path, weights="int8", calibration=X, labels=["a", "b"])
    assert path.read_text() == source
    assert os.listdir(tmp_path) == ["net.c"]


# ---- what is refused ----


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"weights": "int8"}, r"^weights=.* go together; got weights='int8', calibration=None$"),
        ({"calibration": np.ones((5, 2))}, r"go together; got weights=None, calibration=an array"),
        ({"weights": "int4", "calibration": np.ones((5, 2))}, r"go together; got weights='int4'"),
        ({"weights": "int8", "calibration": np.ones((4, 2))}, r"^calibration has 4 features, the network expects 5"),
        ({"weights": "int8", "calibration": np.ones((5, 0))}, r"^calibration has 0 examples"),
        ({"weights": "int8", "calibration": np.full((5, 2), np.nan)}, r"^calibration .*nan"),
    ],
)  # fmt: skip
def test_calibrations_that_cannot_be(how, words):
    with pytest.raises(ValueError, match=words):
        random_net([nk.Dense(2)]).to_c(**how)


@pytest.mark.parametrize(
    ("layers", "options", "words"),
    [
        ([nk.Dense(2, "softmax"), nk.Dense(1)], {}, r"^layer 1, softmax: a softmax between layers can't be written"),
        ([nk.Dense(2, "tanh", mix=True), nk.Dense(1)], {}, r"^layer 1, tanh: such a layer can't be written"),
        ([nk.Encode([nk.Periodic(0, 2)]), nk.Dense(1)], {}, r"^layer 1, .*: such a layer can't be written"),
        ([nk.Dense(2), nk.Scale()], {}, r"^layer 2 is a Scale.* a dense layer must be the last"),
        ([nk.Scale()], {}, r"^layer 1 is a Scale"),
        ([nk.Dense(2, "tanh")], {"target_scale": [2.0, 3.0]}, r"a standardised target needs a linear output; got tanh"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be(layers, options, words):
    net = nk.Network(layers, "squared_error", n_x=1, seed=0)
    with pytest.raises(ValueError, match=words):
        net.to_c(weights="int8", calibration=np.linspace(-1, 1, 9)[None], **options)


def test_numbers_that_are_not_finite():
    net = random_net([nk.Dense(3, "relu"), nk.Dense(2)])
    net.parameters["b2"][0] = np.inf
    with pytest.raises(ValueError, match=r"^layer 2 comes to (nan|inf) for an example of calibration"):
        net.to_c(weights="int8", calibration=RNG.standard_normal((5, 20)))


def test_layers_too_wide_for_sums_of_32_bits():
    n = 2**30 // 127**2
    X = np.ones((n + 1, 2)) * [-1, 1]
    for features, fits in ((n, True), (n + 1, False)):
        net = nk.Network([nk.Dense(1, init=np.ones((1, features)))], "squared_error", n_x=features, seed=0)
        if fits:
            net.to_c(weights="int8", calibration=X[:features])
        else:
            with pytest.raises(ValueError, match=rf"^the sums of layer 1, of {features} inputs, don't fit 32 bits"):
                net.to_c(weights="int8", calibration=X[:features])


def test_a_network_without_parameters():
    with pytest.raises(nk.NotFittedError):
        nk.Network([nk.Dense(2)], "squared_error").to_c(weights="int8", calibration=np.ones((3, 2)))
