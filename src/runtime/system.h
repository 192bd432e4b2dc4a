/* What the runtime asks of the machine: the time, limits of memory, processors. */
#ifndef NNK_SYSTEM_H
#define NNK_SYSTEM_H

/* Monotonic time in seconds. */
double nnk_seconds(void);
/* Lets another thread of the machine have this one's turn. */
void nnk_yield(void);
/* Gives back to the system what the C library keeps of freed memory, where it can be told to. */
void nnk_release_memory(void);
/* Whether the system may refuse memory that nobody has written to yet. */
int nnk_memory_is_limited(void);
/* Processors that this process may use: by its affinity and its share of them. */
int nnk_processors(void);

#endif
