/* The machine: the clock, limits of memory, how many processors this process may use. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#ifdef _WIN32
#include <windows.h>
#else
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include "runtime/system.h"

double nnk_seconds(void)
{
#ifdef _WIN32
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    return (double)now.QuadPart / (double)frequency.QuadPart;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
}

void nnk_yield(void)
{
#ifdef _WIN32
    SwitchToThread();
#else
    sched_yield();
#endif
}

void nnk_release_memory(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

int nnk_memory_is_limited(void)
{
#ifdef _WIN32
    return 0;
#else
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        return 1;
#ifdef __linux__
    static int strict = -1; /* whether Linux promises no more than it has */
    if (__atomic_load_n(&strict, __ATOMIC_RELAXED) < 0) {
        FILE *const file = fopen("/proc/sys/vm/overcommit_memory", "r");
        __atomic_store_n(&strict, file && fgetc(file) == '2', __ATOMIC_RELAXED);
        if (file)
            fclose(file);
    }
    return __atomic_load_n(&strict, __ATOMIC_RELAXED);
#else
    return 0;
#endif
#endif
}

/* The share of processors that a control group grants, rounded up, or 0 where it sets no bound */
static int granted(void)
{
    double quota = 0, period = 0;
#ifdef __linux__
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (file) {
        if (fscanf(file, "%lf %lf", &quota, &period) != 2)
            quota = 0;
        fclose(file);
    }
    else if ((file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r"))) {
        if (fscanf(file, "%lf", &quota) != 1)
            quota = 0;
        fclose(file);
        if ((file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r"))) {
            if (fscanf(file, "%lf", &period) != 1)
                period = 0;
            fclose(file);
        }
    }
#endif
    if (quota <= 0 || period <= 0)
        return 0;
    return quota < period ? 1 : (int)((quota + period - 1) / period);
}

int nnk_processors(void)
{
    int count = 0;
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        count = CPU_COUNT(&set);
#endif
#ifdef _WIN32
    DWORD_PTR process, system;
    if (GetProcessAffinityMask(GetCurrentProcess(), &process, &system))
        count = __builtin_popcountll(process);
#else
    if (count < 1)
        count = (int)sysconf(_SC_NPROCESSORS_ONLN);
#endif
    const int share = granted();
    if (share && share < count)
        count = share;
    return count < 1 ? 1 : count;
}
