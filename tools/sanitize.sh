#!/usr/bin/env bash
# The suite on a build with the address and undefined-behaviour sanitizers, and the pool under the thread sanitizer: `make
# sanitize` gives the python of an environment that holds such a build. For Linux with gcc.
#
#   tools/sanitize.sh PYTHON [pytest's arguments]
#
# Not instrumented, so not looked into: Python, numpy, OpenBLAS. No suppressions: none has been needed. Leaks are left out,
# since the interpreter itself ends with blocks in hand; tests of memory over many calls look for the library's own. The
# loss of Python's allocator (PYTHONMALLOC) is meant: blocks of its arenas have no red zones.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

for sanitizer in thread address,undefined; do
    echo "pool, -fsanitize=$sanitizer"
    gcc -std=c11 -O1 -g -Wall -Wextra -fsanitize=$sanitizer -fno-sanitize-recover=all -Isrc \
        tests/c/pool_driver.c src/pool.c src/common.c -o "$build/pool_driver" -lpthread
    TSAN_OPTIONS=halt_on_error=1 "$build/pool_driver"
done

echo "suite, -fsanitize=address,undefined"
# libstdc++ too: the sanitizer looks up its exceptions when it starts
env LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" \
    PYTHONMALLOC=malloc \
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1 \
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
    "$python" -P -m pytest -m "not no_sanitizer" "$@"
