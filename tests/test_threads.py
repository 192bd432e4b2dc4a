"""The pool of threads as its users meet it: how many there are, when they start, what they leave alone, what ends them.

That results don't depend on them is in test_same_bits.py. Each test has a process of its own, because a pool that was
started stays; what hangs there ends by a time limit.
"""

import json
import os
import textwrap

import numpy as np
import pytest
from conftest import BF16_ISAS, VECTOR_BYTES, clean_environment, interrupt, run

import nnkern as nk

linux = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are looked at in Linux' /proc")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
each_gemm = pytest.mark.parametrize(
    "gemm", [pytest.param(gemm, marks=pytest.mark.own_kernels) for gemm in ("auto", "blas")]
)

# In each process: a product that is worth several threads (0.3 GFlop, some milliseconds), and what is told of threads.
PRELUDE = """
    import hashlib, os, signal, sys, threading, time, warnings
    import numpy as np

    def tasks():
        return set(os.listdir("/proc/self/task"))

    at_start = tasks()
    import nnkern as nk

    def workers():
        return tasks() - at_start

    def seconds_of(task):
        with open(f"/proc/self/task/{task}/stat") as stat:
            return sum(map(int, stat.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")

    rng = np.random.default_rng(0)
    W, X = (np.asfortranarray(rng.standard_normal(shape), "float32") for shape in ((512, 512), (512, 600)))

    def product(threads=None):
        return nk.kernels.dense_forward(W, X, None, "tanh", threads=threads).tobytes()

    def layers(*units):
        return [nk.Dense(n, "tanh") for n in units]

    def until_others_compute():
        # this thread sleeps: the processor's time is that of others
        before = time.process_time()
        while time.process_time() < before + 0.1:
            time.sleep(0.002)

    def children_may_be_forked():
        # of a process with threads: Python 3.12 warns
        warnings.simplefilter("ignore", DeprecationWarning)

    def child(work, limit=120):
        # what `work` says in a child: True, False, or None where it hung or died
        pid = os.fork()
        if pid == 0:
            signal.alarm(limit)
            status = 2
            try:
                status = 0 if work() else 1
            finally:
                os._exit(status)
        status = os.waitpid(pid, 0)[1]
        return {0: True, 1: False}.get(os.WEXITSTATUS(status)) if os.WIFEXITED(status) else None
"""


def run_with(code, **options):
    return run(textwrap.dedent(PRELUDE) + textwrap.dedent(code), **options)


# ---- how many ----


@linux
@pytest.mark.parametrize("number", [1, 3])
def test_NNKERN_NUM_THREADS_is_what_a_call_uses(number):
    code = """
        print(nk.get_num_threads(), nk.show_config().to_dict()["threads"])
        product()
        print(len(workers()))
    """
    printed = run_with(code, environment={"NNKERN_NUM_THREADS": f" {number} "}).split()
    assert printed == [str(number), str(number), str(number - 1)]


@pytest.mark.parametrize("bad", ["0", "-1", "two", "1.5", "2 3", "²"])
def test_NNKERN_NUM_THREADS_that_is_no_number_is_refused(bad):
    done = run("import nnkern", environment={"NNKERN_NUM_THREADS": bad}, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: NNKERN_NUM_THREADS")
    assert repr(bad) in last


@pytest.mark.parametrize("given", ["100000", "99999999999999999999"])
def test_NNKERN_NUM_THREADS_beyond_reason_is_bounded(given):
    """As `set_num_threads` bounds it."""
    code = """
        import nnkern as nk
        by_environment = nk.get_num_threads()
        nk.set_num_threads(int({given}))
        print(by_environment == nk.get_num_threads() < int({given}))
    """
    assert run(code.format(given=given), environment={"NNKERN_NUM_THREADS": given}) == "True\n"


def quota():
    """Processors' worth of time that the control group grants, or infinity."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            granted, period = file.read().split()
    except (OSError, ValueError):
        return float("inf")
    return float("inf") if granted == "max" else -(-int(granted) // int(period))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
@pytest.mark.parametrize("environment", [{}, {"NNKERN_NUM_THREADS": ""}, {"NNKERN_NUM_THREADS": " "}], ids=str)
def test_default_is_the_processors_this_process_may_use(environment):
    code = """
        import os
        allowed = sorted(os.sched_getaffinity(0))
        if {one}:
            os.sched_setaffinity(0, allowed[:1])
        import nnkern
        print(nnkern.get_num_threads())
    """
    assert int(run(code.format(one=True), environment=environment)) == 1
    assert int(run(code.format(one=False), environment=environment)) == min(len(os.sched_getaffinity(0)), quota())


@linux
def test_set_num_threads_is_what_a_call_uses_and_the_argument_goes_before():
    code = """
        nk.set_num_threads(3)
        product(1)
        print(len(workers()))
        product(2)
        print(len(workers()))
        product()
        print(len(workers()), nk.get_num_threads())
        nk.set_num_threads(np.int64(4))
        net = nk.Network(layers(512), "squared_error", n_x=512, seed=0)
        net.predict(X)
        print(len(workers()), nk.get_num_threads())
        # threads that are there already are not used by calls that want fewer
        nk.set_num_threads(1)
        before = sum(map(seconds_of, workers()))
        for _ in range(50):
            product()
        print(sum(map(seconds_of, workers())) - before < 0.03)
    """
    assert run_with(code).split() == ["0", "1", "2", "3", "3", "4", "True"]


CALLS = {
    "dense_forward": lambda net, X, Y, threads: nk.kernels.dense_forward(Y, X.T, None, "tanh", threads=threads),
    "dense_backward": lambda net, X, Y, threads: nk.kernels.dense_backward(Y, Y[:, :2], X, Y, "tanh", threads=threads),
    "predict": lambda net, X, Y, threads: net.predict(X, threads=threads),
    "predict_labels": lambda net, X, Y, threads: net.predict_labels(X, threads=threads),
    "evaluate": lambda net, X, Y, threads: net.evaluate(X, Y, threads=threads),
    "fit": lambda net, X, Y, threads: net.fit(X, Y, epochs=1, threads=threads),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
@pytest.mark.parametrize("threads", [0, -1, -(2**70), True, np.True_, 1.0, 1.5, np.nan, "2", [2]], ids=repr)
def test_bad_numbers_of_threads(call, threads):
    net = nk.Network([nk.Dense(1, "sigmoid")], "binary_cross_entropy", n_x=2, dtype="float64", seed=0)
    before = [a.copy() for a in net.parameters.values()]
    with pytest.raises((TypeError, ValueError), match=r"\bthreads\b") as caught:
        call(net, np.ones((2, 2)), np.ones((1, 2)), threads)
    assert str(threads) in str(caught.value)
    assert all(np.array_equal(a, b) for a, b in zip(net.parameters.values(), before, strict=True))


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
@pytest.mark.parametrize("threads", [1, 2, np.int64(3), np.uint8(255), 10**6, 2**31, 2**64, None], ids=repr)
def test_numbers_of_threads_without_bound(call, threads):
    """At most so many: more than there could ever be is no error."""
    net = nk.Network([nk.Dense(1, "sigmoid")], "binary_cross_entropy", n_x=2, dtype="float64", seed=0)
    call(net, np.ones((2, 2)), np.ones((1, 2)), threads)


@pytest.mark.parametrize("number", [10**6, 2**31 - 1, 2**31, 2**64])
def test_set_num_threads_without_bound(number):
    before = nk.get_num_threads()
    try:
        nk.set_num_threads(number)
        assert 1 <= nk.get_num_threads() <= number
    finally:
        nk.set_num_threads(before)


# ---- when they start, and what they do meanwhile ----


@linux
def test_threads_start_with_the_first_large_work():
    code = """
        print(len(workers()))
        small = nk.Network(layers(16, 1), "squared_error", n_x=8, seed=0)
        small.fit(np.ones((8, 100)), np.ones((1, 100)), epochs=3, threads=2)
        small.predict(np.ones((8, 100)), threads=2)
        nk.kernels.dense_forward(W[:8, :8], X[:8], None, "tanh", threads=2)
        print(len(workers()))
        product(1)
        print(len(workers()))
        product(2)
        print(len(workers()))
        for threads in (2, 1, 2):
            product(threads)
        print(len(workers()))
    """
    assert run_with(code).split() == ["0", "0", "0", "1", "1"]


@linux
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one processor")
@pytest.mark.parametrize("gemm", ["blas", "tiles"])
def test_work_is_shared_out_and_gives_the_same_bits(gemm):
    """The comparisons of test_same_bits.py are worth something: threads other than the caller's compute."""
    code = """
        from test_same_bits import NETWORKS, train

        def at_work(threads, work):
            # what it gives, and how many of the pool's threads used processor time, at least two ticks of the clock
            before, until, results = {}, time.monotonic() + 20, set()
            while time.monotonic() < until:
                results.add(work(threads))
                gained = [seconds_of(task) - before.setdefault(task, 0) for task in workers()]
                if len(results) > 1 or sum(gain >= 0.02 for gain in gained) >= min(threads, 2) - 1:
                    break
            assert len(results) == 1
            return results.pop(), sum(gain >= 0.02 for gain in gained)

        for work in (product, lambda threads: train(NETWORKS["wide"], "float32", threads)):
            alone = work(1)
            for threads in (2, 3):
                result, others = at_work(threads, work)
                print(result == alone, others > 0)
    """
    here = os.path.dirname(__file__)
    printed = run_with(code, environment={"NNKERN_GEMM": gemm, "PYTHONPATH": here})
    assert printed.split() == ["True"] * 8


@linux
def test_workers_block_signals_and_the_caller_does_not():
    code = """
        def blocked(task):
            with open(f"/proc/self/task/{task}/status") as status:
                mask = next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk"))
            return {s for s in signal.valid_signals() if mask >> s - 1 & 1}

        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        product(4)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before == set()
        can_be = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
        assert len(workers()) == 3
        for task in workers():
            # 32 and 33 are the C library's own
            assert {s for s in can_be if s < 32} <= blocked(task)
    """
    run_with(code)


@linux
@pytest.mark.no_sanitizer
@each_gemm
def test_ctrl_c_during_a_large_fit_with_two_threads(gemm):
    """In the midst of the 20 epochs it is measured by; the network is left at one that ended."""
    code = (
        PRELUDE
        + """
    def make():
        return nk.Network(layers(700, 700, 512), "squared_error", n_x=512, seed=0)

    def fit(net, epochs, **options):
        net.fit(X, X, epochs=epochs, batch_size=200, optimizer=nk.Adam(1e-4), threads=2, **options)

    net, whole = make(), []
    interruptible(lambda: fit(net, 10**6, callbacks={callbacks}), 20 * processor_time(lambda: fit(make(), 1)))
    again = make()

    def look(other, epoch, history):
        if other == net:
            whole.append(epoch + 1)
        return bool(whole)

    fit(again, 100, callbacks=look)
    print(*whole)
    """
    )
    environment = {**clean_environment(), "NNKERN_GEMM": gemm}
    for callbacks in ("()", "lambda *_: None"):
        further, out = interrupt(code.replace("{callbacks}", callbacks), after=0.3, environment=environment)
        assert further < 0.2
        assert len(out.split()) == 1, "the network is at no epoch's end"


@linux
@pytest.mark.no_sanitizer
@each_gemm
def test_an_idle_pool_uses_no_processor_time(gemm):
    """2 % of a second, all threads together, once what they did before has ended."""
    code = """
        assert time.process_time() > 0  # the import shows that the clock goes

        def used_in(seconds):
            before = time.process_time()
            time.sleep(seconds)
            return time.process_time() - before

        net = nk.Network(layers(512), "squared_error", n_x=512, seed=0)
        for work in (lambda: product(2), lambda: net.fit(X, X, epochs=2, batch_size=300, threads=8)):
            work()
            # a short spin is fine, and takes longer where eight threads have one processor
            for _ in range(100):
                if used_in(0.05) < 0.001:
                    break
            print(used_in(1))
        assert len(workers()) == 7
    """
    used = [float(figure) for figure in run_with(code, environment={"NNKERN_GEMM": gemm}).split()]
    assert len(used) == 2
    assert max(used) < 0.02


# ---- several callers ----


@each_gemm
def test_eight_python_threads_at_a_barrier(gemm):
    code = """
        nets = [nk.Network(layers(512, 256), "squared_error", n_x=512, seed=seed) for seed in range(8)]
        inputs = [X + np.float32(number) / 8 for number in range(8)]
        order = (0, *range(8))
        expected = [[nets[net].predict(inputs[number], threads=1).tobytes() for number in range(8)] for net in order]
        barrier, right = threading.Barrier(8), []

        def work(number):
            barrier.wait(300)
            for _ in range(4):
                right.append(nets[0].predict(inputs[number], threads=2).tobytes() == expected[0][number])
                right.append(nets[number].predict(inputs[number], threads=2).tobytes() == expected[number + 1][number])
                right.append(nets[number].predict(inputs[number][:, :1], threads=2).shape == (256, 1))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(len(right), all(right))
    """
    assert run_with(code, environment={"NNKERN_GEMM": gemm}).split() == ["96", "True"]


def test_eight_python_threads_fit_networks_of_their_own():
    code = """
        def fit(seed, threads):
            net = nk.Network(layers(256, 512), "squared_error", n_x=512, seed=seed)
            net.fit(X, X, epochs=2, batch_size=256, optimizer=nk.Adam(), threads=threads)
            return b"".join(a.tobytes() for a in net.parameters.values())

        expected = [fit(seed, 1) for seed in range(8)]
        barrier, found = threading.Barrier(8), {}

        def work(seed):
            barrier.wait(300)
            found[seed] = fit(seed, 2)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print([found[seed] for seed in range(8)] == expected)
    """
    assert run_with(code).split() == ["True"]


def test_more_callers_at_once_than_blocks_of_memory_are_kept():
    """Each call packs into a block of its own; some 16 of them wait for the next caller."""
    code = """
        net = nk.Network(layers(512, 256), "squared_error", n_x=512, seed=0)
        many = np.tile(X, (1, 2))
        expected, barrier, right = net.predict(many, threads=1).tobytes(), threading.Barrier(24), []

        def work():
            barrier.wait(300)
            right.append(net.predict(many, threads=2).tobytes() == expected)

        threads = [threading.Thread(target=work) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(len(right), all(right))
    """
    assert run_with(code).split() == ["24", "True"]


def test_blas_has_one_thread_whatever_others_set():
    """threadpoolctl, which sets every OpenBLAS there is, doesn't change a bit, nor what a call uses."""
    pytest.importorskip("threadpoolctl")
    code = """
        import threadpoolctl

        def ours():
            return [lib["num_threads"] for lib in threadpoolctl.threadpool_info() if "nnkern" in lib["filepath"]]

        expected, at_first = product(1), ours()
        with threadpoolctl.threadpool_limits(2):
            raised = ours()
            same = product(1) == expected
            print(at_first, raised, ours(), same)
    """
    if nk.show_config().to_dict()["blas"] != "OpenBLAS":
        pytest.skip("another BLAS")
    assert run_with(code, environment={"NNKERN_GEMM": "blas"}) == "[1] [2] [1] True\n"


# Of another thread, 1.5 s of the processor long on any machine, when it has begun to compute.
LONG_CALL = """
    net = nk.Network(layers(*[1500] * 10), "squared_error", n_x=1500, seed=0)
    many = np.ones((1500, 300), "float32")
    net.predict(many, threads=2)
    before = time.process_time()
    net.predict(many, threads=2)
    many = np.tile(many, max(1, int(1.5 / (time.process_time() - before))))
    expected, done = product(2), []
    long_call = threading.Thread(target=lambda: (net.predict(many, threads=2), done.append(True)), daemon=True)
    long_call.start()
    until_others_compute()
"""


@pytest.mark.no_sanitizer
def test_a_second_caller_does_not_wait_for_the_first():
    """The first takes some hundred times as long as the second."""
    code = (
        LONG_CALL
        + """
    same = product(2) == expected
    assert not done, "the second caller waited"
    long_call.join()
    print(same, *done)
    """
    )
    assert run_with(code).split() == ["True", "True"]


# ---- fork ----


@linux
@forks
@each_gemm
def test_children_of_a_process_that_has_used_the_pool(gemm):
    code = """
        children_may_be_forked()
        expected = product(2)

        def in_child():
            global at_start
            at_start = tasks()
            return len(at_start) == 1 and product(2) == expected and len(workers()) == 1

        print(child(in_child), product(2) == expected, child(in_child))
        print(child(lambda: in_child() and child(in_child)))  # a child's child
        net = nk.Network(layers(256, 512), "squared_error", n_x=512, seed=0)

        def fit():
            net.fit(X, X, epochs=1, threads=3)
            return b"".join(a.tobytes() for a in net.parameters.values())

        def digest():
            return hashlib.sha256(fit()).digest()

        theirs, mine = os.pipe()
        print(child(lambda: os.write(mine, digest()) == 32))
        print(os.read(theirs, 32) == digest(), product(2) == expected)
    """
    printed = run_with(code, environment={"NNKERN_GEMM": gemm})
    assert printed.split() == ["True"] * 7


@linux
@forks
def test_a_child_of_a_process_that_has_not_used_the_pool():
    code = """
        children_may_be_forked()
        print(child(lambda: len(workers()) >= 0 and product(2) == product(1)), len(workers()))
        print(product(2) == product(1), len(workers()))
    """
    assert run_with(code).split() == ["True", "0", "True", "1"]


@forks
def test_multiprocessing_by_fork():
    code = """
        import multiprocessing
        children_may_be_forked()
        expected = product(2)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            results = pool.map_async(product, [1, 2, 3, 8], chunksize=1).get(300)
        print(all(result == expected for result in results), product(2) == expected)
    """
    assert run_with(code).split() == ["True", "True"]


@linux
@forks
@each_gemm
def test_children_forked_while_another_thread_computes(gemm):
    """The parent's pool, its mutex and scratch memory are in use at the moment of the fork."""
    code = """
        children_may_be_forked()
        expected = product(2)
        stop, right = threading.Event(), []

        def work():
            while not stop.is_set():
                right.append(product(2) == expected)

        others = [threading.Thread(target=work) for _ in range(2)]
        for other in others:
            other.start()

        def in_child():
            global at_start
            at_start = tasks()
            # the second product is by threads of its own, whatever state the parent's were in
            return product(2) == expected and product(2) == expected and len(workers()) == 1

        said = []
        for _ in range(20):
            said.append(child(in_child))
            time.sleep(0.003)
        stop.set()
        for other in others:
            other.join()
        print(said.count(True), all(right), len(right) > 0, product(2) == expected)
    """
    printed = run_with(code, environment={"NNKERN_GEMM": gemm})
    assert printed.split() == ["20", "True", "True", "True"]


@linux
@forks
@pytest.mark.parametrize("call", ["training", "predicting", "backward"])
def test_networks_of_a_child_whose_parent_used_them_in_another_thread(call):
    """The other thread is gone in the child: the network works, and stands at a whole epoch of that training."""
    code = f"""
        children_may_be_forked()
        call = {call!r}
        net = nk.Network(layers(64, 512), "squared_error", n_x=512, seed=0)
        Y, stop, begun = np.zeros((512, 600), np.float32), threading.Event(), threading.Event()
        net.fit(X, Y, epochs=1)
        def work():
            while not stop.is_set():
                begun.set()
                if call == "training":
                    net.fit(X, Y, epochs=1000, batch_size=64, callbacks=lambda *_: stop.is_set(), resume=True)
                elif call == "predicting":
                    net.predict(X)
                else:
                    net.forward(X)
                    net.backward(Y)

        def in_child():
            net.predict(X)
            net.evaluate(X, Y)
            if call == "training" and not all(np.isfinite(a).all() for a in net.parameters.values()):
                return False
            return len(net.fit(X, Y, epochs=2, threads=2)["cost"]) == 2

        other = threading.Thread(target=work)
        other.start()
        begun.wait()
        said = []
        for _ in range(20):
            said.append(child(in_child))
            time.sleep(0.003)
        stop.set()
        other.join()
        print(said.count(True), len(net.fit(X, Y, epochs=1)["cost"]))
    """
    assert run_with(code, timeout=240).split() == ["20", "1"]


@linux
@forks
def test_a_child_stands_at_a_whole_epoch_of_a_training_in_another_thread():
    """One call of many epochs, without Python between them: the parameters are those after one of the epochs."""
    code = """
        children_may_be_forked()
        Y, kept, began = np.zeros((512, 600), np.float32), [], threading.Event()

        def digest(net):
            return hashlib.sha256(b"".join(a.tobytes() for a in net.parameters.values())).hexdigest()

        def fresh():
            return nk.Network(layers(8, 512), "squared_error", n_x=512, seed=0)

        net, same = fresh(), fresh()
        whole = {digest(same)}
        for _ in range(60):
            same.fit(X, Y, epochs=1, batch_size=100, resume=True)
            whole.add(digest(same))

        def work():
            began.set()
            net.fit(X, Y, epochs=60, batch_size=100)

        other = threading.Thread(target=work)
        other.start()
        began.wait()
        said = []
        while other.is_alive() and len(said) < 200:
            said.append(child(lambda: (net.predict(X), digest(net) in whole)[1]))
        other.join()
        print(len(said) > 0, said.count(True) == len(said), digest(net) in whole)
    """
    assert run_with(code, timeout=240).split() == ["True", "True", "True"]


# ---- little stack, and the end ----


@each_gemm
@pytest.mark.parametrize("before", [True, False], ids=["pool started before", "pool started there"])
def test_a_thread_with_256_KiB_of_stack(gemm, before):
    code = f"""
        def work(threads):
            net = nk.Network(layers(600, 512), "squared_error", n_x=512, seed=0)
            net.fit(X, X, epochs=1, batch_size=None, threads=threads)
            results = [net.predict(X, threads=threads)]
            for n, n_prev, m in ((5, 500, 512), (500, 5, 512), (1, 500, 512), (100, 400, 1), (24, 512, 500)):
                A = nk.kernels.dense_forward(W[:n, :n_prev], X[:n_prev, :m], None, "tanh", threads=threads)
                gradients = nk.kernels.dense_backward(A, W[:n, :n_prev], X[:n_prev, :m], A, "tanh", threads=threads)
                results += [A, *gradients]
            return b"".join(a.tobytes() for a in results)

        results = [work(2)] if {before} else []
        threading.stack_size(256 * 1024)
        thread = threading.Thread(target=lambda: results.append(work(2)))
        thread.start()
        thread.join()
        print(set(results) == {{work(1)}})
    """
    assert run_with(code, environment={"NNKERN_GEMM": gemm}) == "True\n"


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "time.sleep(0.05)"], ids=["end", "exit", "asleep"])
def test_exit_after_use(end):
    assert run_with(f"product(2); product(8)\n{end}\n") == ""


@each_gemm
@pytest.mark.parametrize(
    "options",
    ["batch_size=200", "batch_size=None", "batch_size=200, callbacks=lambda *_: None"],
    ids=["batches", "full batch", "callback"],
)
def test_exit_while_a_daemon_thread_is_inside_fit(gemm, options):
    """Exit status 0, nothing said, soon: the fit would take hours."""
    code = f"""
        def fit():
            net = nk.Network(layers(1500, 1500, 512), "squared_error", n_x=512, seed=0)
            net.fit(X, X, epochs=10**6, threads=2, {options})

        threading.Thread(target=fit, daemon=True).start()
        until_others_compute()
    """
    assert run_with(code, environment={"NNKERN_GEMM": gemm}) == ""


@each_gemm
def test_exit_while_a_daemon_thread_predicts(gemm):
    assert run_with(LONG_CALL, environment={"NNKERN_GEMM": gemm}) == ""


@linux
def test_a_fit_that_outlives_the_interpreter():
    """A daemon thread that computes on when Python's state is gone, before exit() is done, leaves Python alone.

    For once this is no matter of luck: SIGHUP has the thread sleep (1) while the interpreter ends, and exit() takes
    1.5 s at the least.
    """
    code = """
        import ctypes
        libc = ctypes.CDLL(None)
        libc.signal(signal.SIGHUP, libc.sleep)
        libc.__cxa_atexit(libc.usleep, ctypes.c_void_p(1_500_000), None)

        def fit():
            net = nk.Network(layers(16, 512), "squared_error", n_x=512, seed=0)
            net.fit(X, X, epochs=10**9, batch_size=100, threads=2)

        thread = threading.Thread(target=fit, daemon=True)
        thread.start()
        until_others_compute()
        signal.pthread_kill(thread.ident, signal.SIGHUP)
        print(thread.is_alive())
    """
    assert run_with(code) == "True\n"


# ---- which kernels ran ----

# The last bits tell: of a sum over examples how many lanes it was in; of products whose operands stand as rows whether
# BLAS or tiles computed them. With OpenBLAS the same product is asked of the same library directly, too.
EVIDENCE = """
    import ctypes, glob, hashlib, json, os
    import numpy as np
    import nnkern as nk

    def digest(*arrays):
        return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()

    def blas(W, X):
        # W X by the package's own library, or None
        found = glob.glob(os.path.join(os.path.dirname(nk.__file__), "_libs", "libscipy_openblas*.so"))
        if not found:
            return None
        library = ctypes.CDLL(found[0])
        kind, real = {"float32": ("s", ctypes.c_float), "float64": ("d", ctypes.c_double)}[W.dtype.name]
        A = np.zeros((len(W), X.shape[1]), W.dtype, order="F")
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (W, X, A)]
        # by columns; W stands by rows: transposed
        getattr(library, f"scipy_cblas_{kind}gemm")(
            102, 112, 111, len(W), X.shape[1], len(X), real(1), pointers[0], len(X), pointers[1], len(X), real(0),
            pointers[2], len(W))
        return digest(A)

    found = {"config": nk.show_config().to_dict()}
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        W = np.ascontiguousarray(rng.standard_normal((96, 700)), dtype)
        X = np.asfortranarray(rng.standard_normal((700, 96)), dtype)
        found[f"blas itself {dtype}"] = blas(W, X)
        found[f"product forward {dtype}"] = digest(nk.kernels.dense_forward(W, X, None, "linear"))
        net = nk.Network([nk.Dense(96, "tanh"), nk.Dense(96)], "squared_error", n_x=700, dtype=dtype, seed=0)
        found[f"product predict {dtype}"] = digest(net.predict(X))
        net.fit(X, X[:96], epochs=2, batch_size=32)
        found[f"product fit {dtype}"] = digest(*net.parameters.values())
        found[f"lanes {dtype}"] = repr(nk.kernels.binary_cross_entropy(X, (X[::-1] > 0).astype(dtype))[0])
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def evidence():
    """What each choice of kernels leaves to see."""
    usable = [isa for isa in nk.show_config().to_dict()["usable_isas"].split(", ") if isa not in BF16_ISAS]
    return {
        (isa, gemm): json.loads(run(EVIDENCE, environment={"NNKERN_ISA": isa, "NNKERN_GEMM": gemm}))
        for isa in usable
        for gemm in ("auto", "blas", "tiles")
    }


@pytest.mark.parametrize("gemm", ["auto", "blas", "tiles"])
@pytest.mark.parametrize("isa", [isa for isa in VECTOR_BYTES if isa not in BF16_ISAS])
def test_the_kernels_that_were_asked_for_ran(evidence, isa, gemm):
    if (isa, gemm) not in evidence:
        pytest.skip(f"this processor or this build has no {isa}")
    found = evidence[isa, gemm]
    config = found["config"]
    assert (config["isa"], config["gemm"], config["vector_bytes"]) == (isa, gemm, VECTOR_BYTES[isa])
    # vectors of 16 bytes leave products to BLAS
    by_tiles = gemm == "tiles" or (gemm == "auto" and isa != "baseline")
    alike = evidence[isa, "tiles" if by_tiles else "blas"]
    other = evidence[isa, "blas" if by_tiles else "tiles"]
    for name, seen in found.items():
        if name.startswith("product"):
            assert seen == alike[name] != other[name], name
        if name.startswith("blas itself") and seen is not None:
            assert (seen == found[name.replace("blas itself", "product forward")]) == (not by_tiles), name
        if name.startswith("lanes"):
            others = {evidence[key][name] for key in evidence if key[0] != isa}
            assert {evidence[key][name] for key in evidence if key[0] == isa} == {seen}
            assert seen not in others, name
