"""Little memory: what can't be had is a MemoryError, and never the process' end, whichever side computes products.

OpenBLAS ends a process that it can't have a buffer in. RLIMIT_AS stands for a machine that has no more.
"""

import platform
import sys

import pytest
from conftest import measured, run

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux'"),
    # a sanitizer's shadow takes terabytes of address space
    pytest.mark.no_sanitizer,
    pytest.mark.own_kernels,
]

FIT = """
    import os, signal
    from concurrent.futures import ThreadPoolExecutor
    import numpy as np
    import nnkern as nk

    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((256, 3000)).astype("float32"), rng.integers(0, 10, 3000)
    layers = nk.Dense(256, "relu"), nk.Dense(256, "tanh"), nk.Dense(10, "softmax")

    def network():
        return nk.Network(layers, "cross_entropy", n_x=256, seed=0)

    def bits(net):
        return b"".join(a.tobytes() for a in net.parameters.values())

    def trained(net, epochs, threads):
        net.fit(X, Y, epochs=epochs, batch_size=1500, shuffle=False, threads=threads)
        return net

    after = [bits(trained(network(), epochs, 1)) for epochs in range(3)]

    def outcome(more, threads, executor):
        net = network()
        executor.submit(int).result()
        limit_memory(more)
        try:
            executor.submit(trained, net, 2, threads).result()
            status = "trained"
        except MemoryError:
            status = "refused"
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return status if bits(net) in (after[2:] if status == "trained" else after[:2]) else "wrong"

    class Here:
        def submit(self, call, *arguments):
            self.result = lambda: call(*arguments)
            return self

    for threads, executor in (1, Here), (2, Here), (8, Here), (1, ThreadPoolExecutor), (8, ThreadPoolExecutor):
        for more in [*range(0, 48, 5), 64, 200]:
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                signal.alarm(300)
                os.write(writing, outcome(more << 20, threads, executor()).encode())
                os._exit(0)
            os.close(writing)
            print(os.read(reading, 100).decode() or "ended", os.waitpid(child, 0)[1])
            os.close(reading)
"""


@pytest.mark.parametrize("kernels", [{}, {"NNKERN_GEMM": "blas"}, {"NNKERN_ISA": "baseline"}], ids=str)
def test_fit_trains_or_raises_MemoryError(kernels):
    """And the network has the parameters of the last whole epoch, by bits, for any number of threads and any caller."""
    outcomes = run(measured(FIT), environment=kernels, timeout=300).splitlines()
    # whether any is refused depends on what the allocator kept of the fits before
    assert "trained 0" in outcomes
    assert set(outcomes) <= {"trained 0", "refused 0"}


def test_import_raises_MemoryError():
    code = """
        import os
        import numpy
        for more in [*range(0, 120, 8), 500]:
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                limit_memory(more << 20)
                try:
                    import nnkern
                    os.write(writing, b"imported")
                except MemoryError:
                    os.write(writing, b"refused")
                os._exit(0)
            os.close(writing)
            print(os.read(reading, 100).decode() or "ended", os.waitpid(child, 0)[1])
            os.close(reading)
    """
    outcomes = run(measured(code)).splitlines()
    assert set(outcomes) == {"imported 0", "refused 0"}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries can't be told")
def test_freed_memory_goes_back_to_the_system():
    code = measured("""
from nnkern import _kernels
blocks = [bytes(2000) for _ in range(50_000)]
full = _status("VmRSS")
# what is left keeps the heap from shrinking by itself
blocks = blocks[::1000]
freed = _status("VmRSS")
_kernels.release_memory()
print(full, freed, _status("VmRSS"), sum(map(len, blocks)))
""")
    full, freed, released, _ = map(int, run(code).split())
    assert freed > full - 20e6
    assert released < full - 80e6
