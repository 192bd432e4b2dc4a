# Who may be in a network's native code, from which thread, and what they raised there.

# Forks of this process so far, and the thread that made the last: the others are gone in the child.
cdef uint64_t forks = 0
cdef object forking_thread = None


def _note_fork():
    global forks, forking_thread
    forks += 1
    forking_thread = get_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


cdef class Entrance:
    """Predictions from any number of threads, or one training; the errors of each wait for the end of its call.

    The sections guard what the interpreter's lock does where there is one.
    """
    cdef dict pending                       # what a signal's handler, or Python called from here, raised, by thread
    cdef object training_thread
    cdef Py_ssize_t readers
    cdef unsigned long last_reader          # the thread of the one that came last
    cdef uint64_t forks                     # of the process when the two were last right

    def __cinit__(self, *_):
        self.pending, self.forks = {}, forks

    cdef bint signalled(self) noexcept:
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            self.pending[get_ident()] = error
            return True
        return False

    cdef object take_pending(self):
        """What was raised in a call of this thread, which ends with it; or None."""
        return self.pending.pop(get_ident(), None) if self.pending else None

    cdef int raise_pending(self) except -1:
        error = self.take_pending()
        if error is not None:
            raise error
        return 0

    cdef int lose_threads(self, bint training) except -1:
        """What a subclass has to put right where others' calls have ended with a fork."""
        return 0

    cdef int forget_lost_threads(self) except -1:
        """In the child of a fork: whoever was in here has gone, but for the thread that forked."""
        cdef bint training
        if self.forks == forks:
            return 0
        training = self.training_thread is not None and self.training_thread != forking_thread
        self.forks, self.readers = forks, 0
        if training:
            self.training_thread = None
        return self.lose_threads(training)

    def check_idle(self):
        """Refuses what nothing else may go on beside."""
        self.forget_lost_threads()
        if self.training_thread is not None:
            raise RuntimeError("this network is being trained already" + (
                "" if self.training_thread == get_ident() else ", by another thread"))
        if self.readers:
            if self.readers == 1 and self.last_reader == PyThread_get_thread_ident():
                raise RuntimeError("this network is being used by the call that this one is made from: it can't be "
                                   "trained before that one has returned")
            raise RuntimeError("this network is being used by another thread: it can't be trained now")

    def enter_training(self):
        with cython.critical_section(self):
            self.check_idle()
            self.training_thread = get_ident()

    def check_untrained(self):
        """Refuses what can't go on beside a training in another thread."""
        self.forget_lost_threads()
        if self.training_thread is not None and self.training_thread != get_ident():
            raise RuntimeError("this network is being trained by another thread")

    def leave_training(self):
        self.training_thread = None

    cpdef int enter_reading(self) except -1:
        with cython.critical_section(self):
            if self.training_thread is not None or self.forks != forks:
                self.check_untrained()
            self.readers += 1
            self.last_reader = PyThread_get_thread_ident()
        return 0

    cpdef int leave_reading(self) except -1:
        with cython.critical_section(self):
            self.readers = max(self.readers - 1, <Py_ssize_t>0)
        return 0
