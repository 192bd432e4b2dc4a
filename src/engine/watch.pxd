# Whether what goes on shall end: signals are looked for between blocks, by whoever may ask Python for them.

from runtime.system cimport nnk_seconds

cdef enum Status:
    DONE
    DIVERGED
    INTERRUPTED
    ABANDONED                       # another process has failed
    LOST                            # another process hasn't come
    EMPTY                           # no process has an example any more, where each has batches of its own

cdef enum:
    SIGNAL_MILLISECONDS = 50        # between two looks at the signals that arrived

# Whether a signal's handler has raised; it takes the GIL.
ctypedef bint (*Look)(void *owner) noexcept nogil

cdef struct Watch:
    Look look                       # NULL where another one looks …
    void *owner                     # what `look` is called with
    Watch *leader                   # … whose `stop` counts then
    double looked                   # when it last did
    bint stop                       # whether one asked for the end


cdef inline bint must_stop(Watch *watch) noexcept nogil:
    """Whether a signal has asked for the end; looks for one where the last look is a while ago."""
    cdef double now
    if watch.look is NULL:
        watch.stop = watch.leader.stop
        return watch.stop
    if not watch.stop:
        now = nnk_seconds()
        if now - watch.looked > 1e-3 * SIGNAL_MILLISECONDS:
            watch.looked = now
            watch.stop = watch.look(watch.owner)
    return watch.stop


cdef inline Watch follower_of(Watch *leader) noexcept nogil:
    """For a thread that mustn't call Python."""
    cdef Watch watch
    watch.look, watch.owner, watch.leader, watch.looked, watch.stop = NULL, NULL, leader, 0, False
    return watch
