"""The processes that train one network together: sums over all of them, and errors that reach all of them.

A communicator is mpi4py's, or anything with its Get_rank, Get_size and Allreduce(sendbuf, recvbuf) of numpy arrays. Of
mpi4py's, a duplicate is used, whose messages don't meet the user's own, and MPI's functions are called by native code
where they are found in the library that is loaded: a step has no Python then.

All processes go through the same meetings. What fails in between is told at the next one; what fails outside of them,
or during one, by a message to each of the others, who look for it while they wait. A signal's handler that raises, as
Ctrl-C's does, does so at the next meeting, or at once where the code of others runs.
"""

import atexit
import contextlib
import ctypes
import functools
import json
import signal
import sys
import threading
import time

import numpy as np

from nnkern import _engine, validation
from nnkern.exceptions import DivergenceError, RankError

DEADLINE = 300.0
"""Seconds that a process waits for the others unless it is told."""
# of messages, on the duplicate of the communicator
_TAG = 1
# a process that waits says so every half a second, or eight times before the deadline, lest the others take it for the
# missing one; who hasn't been heard for three times as long is missing
_SAYS_SO, _TIMES_BEFORE_DEADLINE, _SILENCE = 0.5, 8, 3
# pairs of bytes that are sent at a time
_PIECE = 1 << 20
# seconds between two looks at whether all have made the duplicate
_LOOK = 1e-3

# the key of the duplicate among the attributes of a communicator, and what a sum that was given up may still write to
_keys: dict[str, int] = {}
_given_up: list[tuple] = []


class Ranks:
    """One process among those of a communicator.

    Attributes
    ----------
    rank, size : int
    reducer : nnkern._engine.Reducer
        What the engine sums with.
    """

    def __init__(self, comm, deadline):
        deadline = validation.number("deadline", deadline, 0, low_open=True)
        for name in ("Get_rank", "Get_size", "Allreduce"):
            if not callable(getattr(comm, name, None)):
                raise TypeError(
                    "comm must be a communicator of mpi4py's, or have its methods Get_rank, Get_size and "
                    f"Allreduce(sendbuf, recvbuf); got {type(comm).__name__}, which lacks {name}"
                )
        self._deadline = deadline
        self._period = min(_SAYS_SO, deadline / _TIMES_BEFORE_DEADLINE)
        mpi = sys.modules.get("mpi4py.MPI")
        self._mail, functions = None, None
        self._told = None  # the error that all know of
        self._raising = False  # whether a signal's handler may raise at once
        if mpi is not None and isinstance(comm, mpi.Comm):
            comm = _duplicate(mpi, comm, deadline)
            self._mail, functions = _Mail(mpi, comm), _functions(mpi, comm)
        self._comm = comm
        self.rank, self.size = int(comm.Get_rank()), int(comm.Get_size())
        self.reducer = _engine.Reducer(self.rank, self.size, functions, self._allreduce, self._wait)

    # What is summed

    def sum(self, values):
        """The sums over all processes of a few numbers, as an array of float64."""
        return self.sum_into(np.array(values, np.float64, ndmin=1))

    def sum_into(self, vector):
        """The same of a contiguous vector of float64 or float32, in place."""
        if not self.reducer.sum(vector):
            raise self.lost(vector)
        return vector

    def of_root(self, vector, root):
        """The vector becomes that of one rank, in place."""
        if self.rank != root:
            vector[:] = 0
        return self.sum_into(vector)

    def gather(self, row):
        """What each process has given: something that JSON can hold, in the order of ranks."""
        text = np.frombuffer(json.dumps(row, default=lambda number: number.item()).encode(), np.uint8)
        lengths = np.zeros(self.size)
        lengths[self.rank] = len(text)
        lengths = self.sum_into(lengths).astype(np.intp)
        letters = np.zeros((self.size, lengths.max()))
        letters[self.rank, : len(text)] = text
        self.sum_into(letters.reshape(-1))
        return [json.loads(bytes(own[:n].astype(np.uint8))) for own, n in zip(letters, lengths, strict=True)]

    def gather_bytes(self, data):
        """The bytes that each process has given, of whatever lengths, in the order of ranks."""
        own = np.zeros(-(-len(data) // 2) * 2, np.uint8)
        own[: len(data)] = np.frombuffer(data, np.uint8)
        halves, lengths = own.view("<u2"), np.zeros(self.size)
        lengths[self.rank] = len(data)
        found = []
        for rank, length in enumerate(self.sum_into(lengths).astype(int).tolist()):
            taken = np.empty(-(-length // 2), "<u2")
            for start in range(0, len(taken), _PIECE):
                # whole numbers, of which float32 holds all
                piece = np.zeros(min(_PIECE, len(taken) - start), np.float32)
                if rank == self.rank:
                    piece[:] = halves[start : start + _PIECE]
                taken[start : start + _PIECE] = self.sum_into(piece)
            found.append(taken.tobytes()[:length])
        return found

    def of_first(self, row=None):
        """What rank 0 gives, something that JSON can hold; what others give isn't looked at."""
        text = json.dumps(row, default=lambda number: number.item()) if self.rank == 0 else ""
        return json.loads(self.gather_bytes(text.encode())[0])

    # What fails

    def meet(self, failure, numbers=(), epoch=0):
        """The sums of the numbers over all processes; raises on all where one comes with a failure.

        `failure`: None; an exception; (batch, last finite cost) of a training that diverged; or another text, of one
        that has ended because another process has failed. `epoch`: the present one.
        """
        late = self.reducer.take_error()  # a signal's, that came while the others were waited for
        failure = late if failure is None else failure
        failed, *sums = self.sum([failure is not None, *numbers])
        if failed:
            raise self._explain(failure, epoch)
        return sums

    @contextlib.contextmanager
    def alone(self):
        """What each process does by itself: where it fails on one, all raise."""
        error = None
        try:
            with self.raising():
                yield
        except BaseException as raised:
            error = raised
        self.meet(error)

    @contextlib.contextmanager
    def raising(self):
        """What may take long, and whose errors are caught: a signal's handler raises at once."""
        before, self._raising = self._raising, True
        try:
            yield
        finally:
            self._raising = before

    @contextlib.contextmanager
    def together(self):
        """All that they do together: who leaves it with an error that the others don't know of tells them."""
        handlers = self._hold_signals()
        try:
            yield
            if (late := self.reducer.take_error()) is not None:
                raise late
        except BaseException as error:
            if self._mail is not None and error is not self._told:
                self._mail.send({"left": _words(error)})
            raise
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _hold_signals(self):
        """Puts `_handle` before each signal's handler; the handlers."""
        if self.size == 1 or threading.current_thread() is not threading.main_thread():
            return {}
        handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
        for number, handler in handlers.items():
            signal.signal(number, functools.partial(self._handle, handler))
        return handlers

    def _handle(self, handler, number, frame):
        """What a handler raises is told at the next meeting; who asks twice has it raised."""
        try:
            handler(number, frame)
        except BaseException as error:
            if self._raising or not self.reducer.interrupt(error):
                raise

    def lost(self, *memory):
        """The error for a meeting that not all have come to; MPI may still write to that memory."""
        error = self.reducer.take_error()
        if self._mail is None:
            return error
        _give_up(self._comm, self.reducer, *memory)
        if error is not None:
            return error
        if self._mail.left:
            rank, what = min(self._mail.left.items())
            return self._known(RankError(rank, f"has left the training: {what}"))
        heard = self._mail.heard(_SILENCE * self._period)
        missing = [rank for rank in range(self.size) if rank != self.rank and rank not in heard]
        return self._known(
            RankError(missing, f"of {self.size} didn't come within the deadline of {self._deadline:g} s")
        )

    def _explain(self, failure, epoch):
        """The error that this process raises, now that one or more have failed: its own, or one about the first."""
        row = None
        if isinstance(failure, tuple):
            row = {"batch": int(failure[0]), "cost": float(failure[1])}
        elif isinstance(failure, BaseException):
            row = {"text": _words(failure)}
        rows = self.gather(row)
        if isinstance(failure, BaseException):
            return self._known(failure)
        told = [(rank, row) for rank, row in enumerate(rows) if row is not None]
        if not told:
            return self._known(RankError(range(self.size), "ended the training, and none says why"))
        rank, first = next(((rank, row) for rank, row in told if "text" in row), told[0])
        if "text" in first:
            return self._known(RankError(rank, f"has failed: {first['text']}"))
        where = rank if len(told) < self.size else None
        return self._known(DivergenceError(epoch, first["batch"], first["cost"], rank=where))

    def _known(self, error):
        self._told = error
        return error

    # Called while others are waited for

    def _allreduce(self, block):
        received = np.empty_like(block)
        self._comm.Allreduce(block.copy(), received)
        block[:] = received

    def _wait(self, seconds):
        """Whether to give up after so many seconds."""
        self._mail.read()
        if seconds > self._period:
            self._mail.say_waiting(self._period)
        return bool(self._mail.left) or seconds > self._deadline


class _Mail:
    """Messages between the processes of one training, on the duplicate of a communicator.

    A message bears the number of its training: what an earlier one has left behind is thrown away.
    """

    def __init__(self, mpi, comm):
        self._mpi, self._comm = mpi, comm
        key = _key(mpi, "trainings")
        self._training = (comm.Get_attr(key) or 0) + 1
        comm.Set_attr(key, self._training)
        self._requests, self._said, self._heard = [], 0.0, {}  # {rank: when it said last that it waits}
        self.left = {}  # {rank: what it says}

    def send(self, message):
        """To all others; nobody waits for whoever doesn't take it."""
        message = {"training": self._training, **message}
        self._requests = [request for request in self._requests if not request.Test()]
        for rank in range(self._comm.Get_size()):
            if rank != self._comm.Get_rank():
                self._requests.append(self._comm.isend(message, rank, _TAG))

    def say_waiting(self, period):
        """That this process waits for others, once in so many seconds."""
        if time.monotonic() - self._said >= period:
            self._said = time.monotonic()
            self.send({})

    def heard(self, seconds):
        """The ranks that have said that they wait, not longer ago than that."""
        return {rank for rank, at in self._heard.items() if time.monotonic() - at <= seconds}

    def read(self):
        """Takes what has arrived."""
        status = self._mpi.Status()
        while self._comm.iprobe(self._mpi.ANY_SOURCE, _TAG, status):
            message = self._comm.recv(source=status.Get_source(), tag=_TAG)
            if message["training"] != self._training:
                continue
            if "left" in message:
                self.left[status.Get_source()] = message["left"]
            else:
                self._heard[status.Get_source()] = time.monotonic()


def _key(mpi, name):
    if name not in _keys:
        _keys[name] = mpi.Comm.Create_keyval(nopython=False)
    return _keys[name]


def _duplicate(mpi, comm, deadline):
    """A communicator of the same processes for us alone, made once."""
    if comm.Is_inter():
        raise TypeError("comm must be an intracommunicator: its processes train with each other")
    key = _key(mpi, "duplicate")
    own = comm.Get_attr(key)
    if own is None:
        own, request = comm.Idup()
        begun = time.monotonic()
        while not request.Test():
            if time.monotonic() - begun > deadline:
                atexit.register(_abort, mpi)
                raise RankError((), f"not all of {comm.Get_size()} ranks have called fit within {deadline:g} s")
            time.sleep(_LOOK)
        comm.Set_attr(key, own)
    return own


def _functions(mpi, comm):
    """Addresses of MPI's functions and its handles, as _engine.Reducer takes them; None where they can't be had."""
    library = ctypes.CDLL(mpi.__file__)
    names = {"iallreduce": "MPI_Iallreduce", "test": "MPI_Test"}
    try:
        found = {
            name: ctypes.cast(getattr(library, function), ctypes.c_void_p).value for name, function in names.items()
        }
    except AttributeError:
        return None
    handles = {"comm": comm, "float": mpi.FLOAT, "double": mpi.DOUBLE, "sum": mpi.SUM}
    word = 1 << 8 * ctypes.sizeof(ctypes.c_void_p)
    found |= {name: mpi._handleof(handle) % word for name, handle in handles.items()}
    found["in_place"] = int(mpi.IN_PLACE) % word
    found["pointers"] = mpi._sizeof(mpi.Comm) > ctypes.sizeof(ctypes.c_int)
    return found


def _words(error):
    """An error in one line, as the others are told of it."""
    return f"{type(error).__name__}{': ' if str(error) else ''}{error}"


def _give_up(comm, *memory):
    """After a meeting that was given up: MPI can't be ended in good order any more, and may write to that memory."""
    if not _given_up:
        atexit.register(_abort, sys.modules["mpi4py.MPI"])
    _given_up.append((comm, *memory))


def _abort(mpi):
    """Instead of MPI's end, which would wait for whoever is missing."""
    sys.stdout.flush()
    sys.stderr.flush()
    mpi.COMM_WORLD.Abort(1)
