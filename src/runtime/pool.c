/* The pool of threads. One job at a time, whose parts the caller and the workers claim.
 *
 * A worker that has run out of parts spins for SPIN_SECONDS and then sleeps. It joins a job by
 * counting itself into `inside` and then looking whether the job is open; the caller closes it when all parts are
 * claimed and waits until nobody is inside. So a worker that comes late finds a closed job and touches nothing of it.
 *
 * A second caller doesn't wait for the first: it runs its parts itself. Workers are started on first use, block all
 * signals, and never touch Python. After a fork the child, which has none of them, starts anew.
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include "runtime/pool.h"
#include "runtime/system.h"
#ifdef _WIN32
#include <malloc.h>
#include <windows.h>
#else
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>
#endif

#define MOST_WORKERS 255
#define SPIN_SECONDS 100e-6
#define WORKER_STACK ((size_t)1 << 20)

/* ---- threads, mutex, condition and aligned memory of this system ---- */
#ifdef _WIN32
static SRWLOCK mutex = SRWLOCK_INIT;
static CONDITION_VARIABLE changed = CONDITION_VARIABLE_INIT;
static void lock(void) { AcquireSRWLockExclusive(&mutex); }
static void unlock(void) { ReleaseSRWLockExclusive(&mutex); }
static void wait_for_change(void) { SleepConditionVariableSRW(&changed, &mutex, INFINITE, 0); }
static void tell_all(void) { WakeAllConditionVariable(&changed); }
static void yield_processor(void) { SwitchToThread(); }
static void *aligned_memory(size_t bytes) { return _aligned_malloc(bytes, 64); }
static void free_aligned(void *memory) { _aligned_free(memory); }
#else
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static void lock(void) { pthread_mutex_lock(&mutex); }
static void unlock(void) { pthread_mutex_unlock(&mutex); }
static void wait_for_change(void) { pthread_cond_wait(&changed, &mutex); }
static void tell_all(void) { pthread_cond_broadcast(&changed); }
static void yield_processor(void) { sched_yield(); }
static void *aligned_memory(size_t bytes)
{
    void *memory;
    return posix_memalign(&memory, 64, bytes) == 0 ? memory : NULL;
}
static void free_aligned(void *memory) { free(memory); }
#endif

/* Some 50 ns. A hypervisor takes pauses that follow each other within 128 cycles for a sign to run another guest, which
 * makes the wait a hundred times longer: a chain of multiplications keeps them apart. */
static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
    size_t x = 1;
    for (int i = 0; i < 48; i++)
        __asm__ __volatile__("imul %0, %0" : "+r"(x));
#elif defined(__aarch64__)
    __asm__ __volatile__("isb");
#endif
}

#define GET(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define SET(x, value) __atomic_store_n(&(x), value, __ATOMIC_SEQ_CST)
#define ADD(x, value) __atomic_add_fetch(&(x), value, __ATOMIC_SEQ_CST)

/* ---- scratch memory: a few blocks are kept for the next caller ---- */
#define KEPT 16
static void *kept[KEPT];

void *nnk_take_scratch(void)
{
    for (int i = 0; i < KEPT; i++) {
        void *scratch = GET(kept[i]) ? __atomic_exchange_n(&kept[i], NULL, __ATOMIC_SEQ_CST) : NULL;
        if (scratch)
            return scratch;
    }
    return aligned_memory(NNK_SCRATCH_BYTES);
}

void nnk_give_scratch(void *scratch)
{
    for (int i = 0; i < KEPT && scratch; i++) {
        void *none = NULL;
        if (__atomic_compare_exchange_n(&kept[i], &none, scratch, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return;
    }
    free_aligned(scratch);
}

/* ---- the job ---- */
/* Parts are claimed in lots of neighbours, each lot a bit of a word. A thread begins with its own share of the lots: where
 * jobs follow each other on the same data, it finds in its caches what it left there. */
#define MOST_LOTS 64
static struct {
    nnk_task task;
    void *context;
    ptrdiff_t parts;
    int lots, threads;
} job;
/* each of these on a cache line of its own: all threads write to the first two */
static struct {
    _Alignas(64) uint64_t claimed; /* lots that have been claimed */
    _Alignas(64) int inside;       /* workers that may touch the job */
    _Alignas(64) int open;         /* whether there are lots to claim */
    _Alignas(64) unsigned jobs;    /* counts jobs: a change calls the workers */
    _Alignas(64) int taken;        /* whether a caller has the pool */
    int sleeping, workers;         /* workers asleep (written under the mutex); workers started (by who has the pool) */
} pool;

static void do_lot(int lot, void *scratch)
{
    const ptrdiff_t end = (lot + 1) * job.parts / job.lots;
    for (ptrdiff_t part = lot * job.parts / job.lots; part < end; part++)
        job.task(job.context, part, scratch);
}

static int claim(int lot)
{
    const uint64_t bit = (uint64_t)1 << lot;
    return !(GET(pool.claimed) & bit) && !(__atomic_fetch_or(&pool.claimed, bit, __ATOMIC_SEQ_CST) & bit);
}

/* The thread's own share upwards, then what is left of the others' from the top down. */
static void claim_lots(int thread, void *scratch)
{
    const int first = thread * job.lots / job.threads, end = (thread + 1) * job.lots / job.threads;
    for (int lot = first; lot < end; lot++)
        if (claim(lot))
            do_lot(lot, scratch);
    for (int step = 1; step <= job.lots; step++) {
        const int lot = (first - step + job.lots) % job.lots;
        if (claim(lot))
            do_lot(lot, scratch);
    }
}

static void work(int thread, void *scratch)
{
    unsigned seen = GET(pool.jobs);
    for (;;) {
        ADD(pool.inside, 1);
        if (GET(pool.open) && thread < job.threads)
            claim_lots(thread, scratch);
        ADD(pool.inside, -1);
        const double begun = nnk_seconds();
        for (int spin = 1; GET(pool.jobs) == seen; spin++) {
            pause_briefly();
            if (spin % 32 == 0 && nnk_seconds() - begun > SPIN_SECONDS) {
                lock();
                ADD(pool.sleeping, 1);
                while (GET(pool.jobs) == seen)
                    wait_for_change();
                ADD(pool.sleeping, -1);
                unlock();
            }
        }
        seen = GET(pool.jobs);
    }
}

int (*nnk_prepare_worker)(void) = NULL;
enum { PREPARING, READY, UNFIT };

/* What each worker is given, by its number from 1, and how far it is. A worker itself takes and frees no memory: its first
 * allocation would reserve a heap of its own. */
static struct {
    int thread, state;
    void *scratch;
} given[MOST_WORKERS + 1];

#ifdef _WIN32
static DWORD WINAPI worker(void *mine)
#else
static void *worker(void *mine)
#endif
{
    const int thread = *(int *)mine, prepared = GET(given[thread].state) == READY || nnk_prepare_worker();
    SET(given[thread].state, prepared ? READY : UNFIT);
    if (prepared)
        work(thread, given[thread].scratch);
    return 0;
}

static int start_worker(int thread)
{
    int started = 0;
    if (!given[thread].scratch)
        given[thread].scratch = nnk_take_scratch();
    if (!given[thread].scratch)
        return 0;
    given[thread].thread = thread;
    SET(given[thread].state, nnk_prepare_worker && nnk_memory_is_limited() ? PREPARING : READY);
#ifdef _WIN32
    HANDLE handle = CreateThread(NULL, WORKER_STACK, worker, &given[thread].thread, 0, NULL);
    started = handle != NULL;
    if (started)
        CloseHandle(handle);
#else
    pthread_attr_t attributes;
    pthread_t handle;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, WORKER_STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    started = pthread_create(&handle, &attributes, worker, &given[thread].thread) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
#endif
    while (started && GET(given[thread].state) == PREPARING)
        yield_processor();
    return started && GET(given[thread].state) == READY;
}

#ifndef _WIN32
/* The child of a fork has none of the workers, and whatever they held. */
static void forget_workers(void)
{
    static const pthread_mutex_t fresh_mutex = PTHREAD_MUTEX_INITIALIZER;
    static const pthread_cond_t fresh_condition = PTHREAD_COND_INITIALIZER;
    mutex = fresh_mutex;
    changed = fresh_condition;
    pool.inside = pool.open = pool.taken = pool.sleeping = pool.workers = 0;
}
#endif

/* called by who has the pool */
static void start_workers(int wanted)
{
#ifndef _WIN32
    static int registered = 0;
    if (!registered)
        registered = pthread_atfork(NULL, NULL, forget_workers) == 0;
#endif
    if (wanted > MOST_WORKERS)
        wanted = MOST_WORKERS;
    while (pool.workers < wanted && start_worker(pool.workers + 1))
        pool.workers++;
}

static void call_workers(int wake)
{
    ADD(pool.jobs, 1);
    if (wake && GET(pool.sleeping)) {
        lock();
        tell_all();
        unlock();
    }
}

static int take_pool(void) { return !GET(pool.taken) && !__atomic_exchange_n(&pool.taken, 1, __ATOMIC_SEQ_CST); }

void nnk_run(nnk_task task, void *context, ptrdiff_t parts, int threads, int wake, void *scratch)
{
    assert(task && parts >= 0 && threads >= 1);
    if (parts < 2 || threads < 2 || !take_pool()) {
        for (ptrdiff_t part = 0; part < parts; part++)
            task(context, part, scratch);
        return;
    }
    if (wake)
        start_workers(threads - 1);
    job.task = task;
    job.context = context;
    job.parts = parts;
    job.lots = parts < MOST_LOTS ? (int)parts : MOST_LOTS;
    job.threads = threads < job.lots ? threads : job.lots;
    SET(pool.claimed, 0);
    SET(pool.open, 1);
    call_workers(wake);
    claim_lots(0, scratch);
    SET(pool.open, 0);
    for (int spin = 1; GET(pool.inside); spin++) {
        pause_briefly();
        if (spin % 512 == 0)
            yield_processor();
    }
    SET(pool.taken, 0);
}

void nnk_wake(int threads)
{
    if (threads < 2 || !take_pool())
        return;
    start_workers(threads - 1);
    call_workers(1);
    SET(pool.taken, 0);
}
