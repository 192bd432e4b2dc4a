/* The pool of threads: runs the parts of one task on several threads. Knows nothing of what a part computes. */
#ifndef NNK_POOL_H
#define NNK_POOL_H

#include <stddef.h>

/* What each thread has for itself while it runs a part */
enum { NNK_SCRATCH_BYTES = 440 << 10 };

/* Part `part` of a task; `scratch` is NNK_SCRATCH_BYTES of memory that no other part uses meanwhile. */
typedef void (*nnk_task)(void *context, ptrdiff_t part, void *scratch);

/* Runs parts 0 … parts-1, each once, in no order, and returns when all are done. At most `threads` threads take part, the
 * caller (with its own scratch) among them. Where another caller has the pool, or threads can't be had, fewer do; the
 * caller never waits for a thread that hasn't begun a part. `wake`: whether the task is worth waking sleeping threads. */
void nnk_run(nnk_task task, void *context, ptrdiff_t parts, int threads, int wake, void *scratch);

/* Wakes the threads before a series of tasks that aren't worth it one by one. */
void nnk_wake(int threads);

/* What a worker calls before its first part where memory is limited; 0 from it, and the worker ends. NULL at first. */
extern int (*nnk_prepare_worker)(void);

/* NNK_SCRATCH_BYTES aligned to 64, or NULL where there is no memory; give it back with nnk_give_scratch. */
void *nnk_take_scratch(void);
void nnk_give_scratch(void *scratch);

#endif
