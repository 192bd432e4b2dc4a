/* Drives the pool of src/runtime/pool.c by itself, and the arena, so that a thread sanitizer sees nothing but it: `make sanitize`.
 *
 * Several callers run tasks at the same time, some longer than the workers spin and some shorter, with pauses in which the
 * workers fall asleep. Parts write plain memory, without atomics: a part that runs twice, a return before the last part
 * is done, or scratch that two parts share is a race that the sanitizer reports, and a wrong count that this reports.
 * Knows nothing of what the library computes.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "runtime/arena.h"
#include "runtime/pool.h"
#include "runtime/system.h"

#define MOST_PARTS 300
#define CALLERS 4

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#define UNDER_TSAN __has_feature(thread_sanitizer)
#else
#define UNDER_TSAN 0
#endif

typedef struct {
    int count[MOST_PARTS];
    int work; /* turns of a loop, so that some tasks outlive the workers' spin */
    unsigned result[MOST_PARTS];
} task_state;

static void fail(const char *what, long found, long expected)
{
    fprintf(stderr, "pool_driver: %s: %ld, not %ld\n", what, found, expected);
    exit(1);
}

static unsigned churn(unsigned x, int turns)
{
    for (int i = 0; i < turns; i++)
        x = x * 1664525u + 1013904223u;
    return x;
}

static void part_of_task(void *context, ptrdiff_t part, void *scratch)
{
    task_state *state = context;
    unsigned *mine = scratch;
    mine[0] = (unsigned)part;
    mine[NNK_SCRATCH_BYTES / sizeof *mine - 1] = (unsigned)part;
    state->result[part] = churn((unsigned)part, state->work);
    state->count[part]++;
    if (mine[0] != (unsigned)part || mine[NNK_SCRATCH_BYTES / sizeof *mine - 1] != (unsigned)part)
        fail("scratch that another part wrote to", mine[0], (long)part);
}

static void run_and_check(ptrdiff_t parts, int threads, int wake, int work, void *scratch)
{
    static _Thread_local task_state state;
    memset(&state, 0, sizeof state);
    state.work = work;
    nnk_run(part_of_task, &state, parts, threads, wake, scratch);
    for (ptrdiff_t part = 0; part < MOST_PARTS; part++) {
        if (state.count[part] != (part < parts))
            fail("runs of a part", state.count[part], part < parts);
        if (part < parts && state.result[part] != churn((unsigned)part, work))
            fail("result of a part", state.result[part], churn((unsigned)part, work));
    }
}

static void rest(long microseconds)
{
    const struct timespec time = {0, microseconds * 1000};
    nanosleep(&time, NULL);
}

static void *caller(void *number)
{
    unsigned x = *(int *)number + 1u;
    void *scratch = nnk_take_scratch();
    if (!scratch)
        fail("scratch", 0, 1);
    for (int round = 0; round < 400; round++) {
        static const int parts[] = {0, 1, 2, 3, 5, 63, 64, 65, 127, MOST_PARTS};
        x = churn(x, 3);
        const int most = parts[x / 16 % (sizeof parts / sizeof parts[0])];
        run_and_check(most, 1 + (int)(x / 4096 % 6), x / 512 % 4 != 0, x / 1024 % 4 ? 20 : 5000, scratch);
        if (round % 50 == 0)
            rest(500); /* longer than the workers watch for work */
        if (round % 64 == 1)
            nnk_wake(1 + (int)(x / 2048 % 5));
    }
    nnk_give_scratch(scratch);
    return NULL;
}

static void run_callers(void)
{
    pthread_t threads[CALLERS];
    int numbers[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        numbers[i] = i;
        if (pthread_create(&threads[i], NULL, caller, &numbers[i]))
            fail("threads that could be started", i, CALLERS);
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
}

/* A child of a process whose pool is in use has a pool of its own. (The thread sanitizer doesn't follow threads that are
 * started after such a fork.) */
static void run_after_fork(void)
{
    for (int round = 0; round < 20; round++) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(30);
            run_callers();
            _exit(0);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || status)
            fail("status of a child", status, 0);
    }
}

/* Pieces that are counted are those that are then handed out: aligned, apart, and in all as many bytes. */
static void lay_out(nnk_arena *arena)
{
    static const size_t sizes[] = {1, 63, 64, 65, 0, 128};
    const char *end = arena->base;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *piece = nnk_arena_take(arena, sizes[i]);
        if ((piece == NULL) != (arena->base == NULL) || (uintptr_t)piece % NNK_ALIGNMENT || (piece && piece < end))
            fail("a piece of the arena", (long)i, -1);
        if (piece)
            end = memset(piece, 1, sizes[i]) + sizes[i];
    }
}

static void check_arena(void)
{
    static _Alignas(NNK_ALIGNMENT) char memory[1024];
    nnk_arena counted = {0}, arena = {memory, 0, sizeof memory}, huge = {0};
    lay_out(&counted);
    lay_out(&arena);
    if (counted.used != 448 || arena.used != counted.used)
        fail("bytes of the arena", (long)arena.used, 448);
    for (int i = 0; i < 3; i++)
        nnk_arena_take(&huge, SIZE_MAX / 2 + 1);
    nnk_arena_take(&huge, 1);
    if (huge.used != SIZE_MAX)
        fail("a count that overflows", (long)huge.used, -1);
}

int main(void)
{
    check_arena();
    alarm(300);
    run_callers();
    if (!UNDER_TSAN)
        run_after_fork();
    if (nnk_processors() < 1)
        fail("processors", nnk_processors(), 1);
    puts("pool_driver: every part ran once");
    return 0;
}
