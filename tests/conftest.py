"""What the test modules share: hypothesis profiles, memory layouts, the comparison with a bound.

Nothing here knows the library or the equations; those are in reference.py.
"""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# The oracle is imported as `reference` under every import mode of pytest; nnkern is the installed package, never the
# uncompiled folder beside this one, which `python -m pytest` puts on the path.
HERE = Path(__file__).resolve().parent
sys.path[:] = [str(HERE), *(place for place in sys.path if Path(place).resolve() not in (HERE, HERE.parent))]

# Fixtures of some modules only, which name them in pytest_plugins.
pytest.register_assert_rewrite("commands", "tables")

# A shell has the jobs in its background ignore Ctrl-C, which their children inherit; some tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("quick", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("full", deadline=None, max_examples=1000)
settings.register_profile("emulated", deadline=None, derandomize=True, max_examples=10)
settings.load_profile(os.environ.get("NNKERN_TEST_PROFILE", "quick"))

# files changed at random are read in no time
fuzzing = settings(
    max_examples=max(400, settings().max_examples), suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# The instruction sets, by the names that NNKERN_ISA takes.
VECTOR_BYTES = {"baseline": 16, "avx2": 32, "avx512": 64, "avx512_vnni": 64, "avx512_bf16": 64, "amx": 64}
# Those that are AVX-512 but for products of bfloat16 and int8: for float32 and float64 they have its kernels.
BF16_ISAS = ("avx512_vnni", "avx512_bf16", "amx")

# One below, at and one above the widths of vectors and tiles.
SIZES = (0, 1, 2, 3, 5, 7, 8, 9, 13, 14, 15, 16, 17, 31, 32, 33, 63, 64, 65)

DTYPES = (np.dtype("float32"), np.dtype("float64"))


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request):
    return request.param


# ---- other processes ----


def clean_environment():
    """This process's, without the variables that choose nnkern's kernels and threads.

    OPENBLAS_CORETYPE stays: a run of the suite with other kernels of BLAS has them in every process.
    """
    dropped = ("NNKERN_", "OMP_", "OPENBLAS_NUM_THREADS")
    return {key: value for key, value in os.environ.items() if not key.startswith(dropped)}


def run(code, *, environment=(), check=True, timeout=300):
    """Runs it in a process of its own, in the clean environment; gives what it printed."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**clean_environment(), **dict(environment)},
    )
    if check:
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout
    return done


# ru_maxrss won't do: a process inherits it over fork and exec, from a pytest that holds more than what is measured
MEMORY = """
import resource

def _status(key):
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(key + ":"))

def peak_bytes():
    return _status("VmHWM")

def limit_memory(more):
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + more, hard))

"""


def measured(code):
    """Code for a process of its own, on Linux, that has two functions more.

    peak_bytes() is the most memory that the process has held at once; limit_memory(more) leaves it its present address
    space, and so many bytes.
    """
    return MEMORY + textwrap.dedent(code)


def run_tests(module, names, *, timeout=600, **environment):
    """Runs the tests of a module that `names` selects (pytest -k) in a process with other kernels; all must pass."""
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "-k", names, str(HERE / module)]
    done = subprocess.run(
        [sys.executable, "-P", *command],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**clean_environment(), **environment},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout


# Work to be interrupted says how much it is by the processor time it takes: that is the same on a busy machine, and
# what is asked in shares of it is the same on a slow one and on a fast one.
WORK = """
import time

def processor_time(work):
    # what a call of it takes, of all threads together, at the least of three
    taken = []
    for _ in range(3):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)

def interruptible(work, whole):
    # runs what takes about `whole` seconds of the processor, and is interrupted there
    print("go", whole, flush=True)
    try:
        work()
    except KeyboardInterrupt:
        print("interrupted", time.process_time(), flush=True)

"""


def processor_time_of(process):
    """Seconds that a process has used by now, of all its threads, on Linux."""
    return time.clock_gettime((~process.pid << 3) | 2)  # clock_getcpuclockid(3)


def interrupt(code, after, *, environment=None):
    """Sends Ctrl-C to work of another process, when a share `after` of it is done: (further share, what it printed).

    The code calls interruptible(work, whole) of WORK, and then may print. The share is what was done of the work until
    the signal was noticed.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", WORK + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        go, _, whole = process.stdout.readline().partition(" ")
        assert go == "go", process.communicate()[1]
        until = processor_time_of(process) + after * float(whole)
        while processor_time_of(process) < until:
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        start = processor_time_of(process)
        process.send_signal(signal.SIGINT)
        interrupted, _, end = process.stdout.readline().partition(" ")
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, "")
    assert interrupted == "interrupted", "the work was done before the signal came"
    return (float(end) - start) / float(whole), out


# ---- leaks ----


def resident_bytes():
    """0 where there is no /proc."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def fails(call, *arguments, **options):
    """Makes a call that has to be refused."""
    with pytest.raises((TypeError, ValueError)):
        call(*arguments, **options)


def assert_no_leaks(call, objects, calls=10_000):
    """Asserts that calls change no reference count of `objects`, and leave memory as it was.

    One of Python's small objects in two calls would show, and 50 bytes a call of others beyond 256 kB. Caches fill
    by and by, and the heap gets gaps: that ends, so a leak is what still grows the third time.
    """
    for _ in range(max(100, calls // 10)):
        call()
    gc.collect()
    counts = [sys.getrefcount(one) for one in objects]
    for _ in range(3):
        resident, blocks = resident_bytes(), sys.getallocatedblocks()
        for _ in range(calls):
            call()
        gc.collect()
        assert [sys.getrefcount(one) for one in objects] == counts
        growth = resident_bytes() - resident, sys.getallocatedblocks() - blocks
        most = 50 * calls + 2**18, max(250, calls // 2)
        if growth[0] < most[0] and growth[1] < most[1]:
            return
    raise AssertionError(f"memory grows by {growth[0]} bytes and {growth[1]} of Python's blocks in {calls} calls")


# ---- layouts: the same values in another arrangement of memory ----
# Cells around a view are NaN, so that a kernel that reads or writes beside it shows.


def _strided(a):
    view = np.full((2 * a.shape[0], 3 * a.shape[1]), np.nan, a.dtype)[::2, ::3]
    view[...] = a
    return view


def _padded(a):
    n, m = a.shape
    view = np.full((n + 3, m + 5), np.nan, a.dtype)[2 : 2 + n, 1 : 1 + m]
    view[...] = a
    return view


def _misaligned(a):
    view = np.ndarray(a.shape, a.dtype, np.zeros(a.nbytes + 1, np.uint8), offset=1)
    view[...] = a
    return view


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


WRITABLE_LAYOUTS = {
    "C": lambda a: np.array(a, order="C"),
    "F": lambda a: np.array(a, order="F"),
    "reversed": lambda a: np.array(a[::-1, ::-1], order="C")[::-1, ::-1],
    "rows reversed, F": lambda a: np.array(a[::-1], order="F")[::-1],
    "strided": _strided,
    "strided, transposed": lambda a: _strided(a.T).T,
    "padded": _padded,
    "padded, transposed": lambda a: _padded(a.T).T,
}
UNUSUAL_LAYOUTS = {
    "misaligned": _misaligned,
    "misaligned, transposed": lambda a: _misaligned(a.T).T,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder("S")),
}
LAYOUTS = {
    **WRITABLE_LAYOUTS,
    **UNUSUAL_LAYOUTS,
    "read-only": _read_only,
    "one column broadcast": lambda a: np.broadcast_to(a[:, :1], a.shape) if a.size else a,
    "one row broadcast": lambda a: np.broadcast_to(a[:1], a.shape) if a.size else a,
    "one number broadcast": lambda a: np.broadcast_to(a[:1, :1], a.shape) if a.size else a,
}
"""name -> function of an array; a broadcast layout keeps the first column, row or number only."""


def root(a):
    """The array that owns the memory of `a`."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


@contextmanager
def unmodified(*arrays):
    """Asserts that the whole memory behind each array is the same, bit for bit, afterwards."""
    before = [root(a).tobytes() for a in arrays]
    yield
    for number, (a, bytes_before) in enumerate(zip(arrays, before, strict=True)):
        assert root(a).tobytes() == bytes_before, f"argument {number} was written to"


def prefilled(shape, dtype, layout="F"):
    """An array for `out=` that holds NaN everywhere, around it too."""
    return LAYOUTS[layout](np.full(shape, np.nan, dtype))


def assert_only_inside(view):
    """Asserts that memory around a `prefilled` view is NaN still; fills the view with NaN again."""
    view[...] = np.nan
    assert np.isnan(root(view)).all(), "memory around the view was written to"


def check_in_layouts(layer, layouts, out_layouts, forward, backward):
    """A layer's passes with operands and outputs in these layouts; nothing is written beside the outputs.

    `layer` has W, A_prev, b and dA; forward(W, A_prev, b, out=) checks and gives (A, Z), backward(dA, W, A_prev, A, Z,
    out=) checks.
    """
    dtype = layer["dA"].dtype  # before a layout may turn its bytes round
    W, A_prev, b, dA = (LAYOUTS[layout](array) for layout, array in zip(layouts, layer.values(), strict=False))
    A = prefilled(dA.shape, dtype, out_layouts[4])
    _, Z = forward(W, A_prev, b, out=A)
    A_given, Z_given = (LAYOUTS[layouts[4]](array) for array in (A, Z))
    shapes = (dA.shape, W.shape, b.shape, A_prev.shape)  # of dZ, dW, db, dA_prev
    out = tuple(prefilled(shape, dtype, layout) for shape, layout in zip(shapes, out_layouts, strict=False))
    backward(dA, W, A_prev, A_given, Z_given, out=out)
    for array in (A, *out):
        assert_only_inside(array)


# ---- comparison with a bound ----


class Comparison:
    """compare(actual, expected, bound): |actual - expected| <= bound in each entry, NaN for NaN.

    Counts what it saw: a module whose outputs are mostly zeros compares nothing worth comparing.
    """

    def __init__(self):
        self.entries = self.nonzero = 0

    def __call__(self, actual, expected, bound, what=""):
        actual, expected = np.asarray(actual), np.asarray(expected)
        assert actual.shape == expected.shape, f"{what}: {actual.shape}, not {expected.shape}"
        self.entries += expected.size
        self.nonzero += np.count_nonzero(expected)
        with np.errstate(invalid="ignore"):
            difference = np.abs(actual.astype(np.float64) - expected)
        bound = np.broadcast_to(bound, expected.shape)
        same = (np.isnan(actual) & np.isnan(expected)) | (actual == expected)
        bad = ~(same | (difference <= bound))
        if bad.any():
            first = tuple(int(k) for k in np.argwhere(bad)[0])
            pytest.fail(
                f"{what}: {np.count_nonzero(bad)} of {bad.size} entries out of bounds,"
                f" first at {first}: {actual[first]!r}, expected {expected[first]!r}"
                f" within {bound[first]:.3g}, off by {difference[first]:.3g}"
            )


@pytest.fixture(scope="module")
def compare():
    comparison = Comparison()
    yield comparison
    assert comparison.nonzero >= 0.3 * comparison.entries, "the outputs compared are mostly zeros"
