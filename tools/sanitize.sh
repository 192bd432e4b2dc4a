#!/usr/bin/env bash
# The suite on a build with the address and undefined-behaviour sanitizers; the pool and what Python's threads do under
# the thread sanitizer: `make sanitize` gives the pythons of two environments that hold such builds. For Linux with gcc.
#
#   tools/sanitize.sh PYTHON_ADDRESS PYTHON_THREAD [pytest's arguments]
#
# Not instrumented, so not looked into: Python, numpy, OpenBLAS. No suppressions: none has been needed. Leaks are left out,
# since the interpreter itself ends with blocks in hand; tests of memory over many calls look for the library's own. The
# loss of Python's allocator (PYTHONMALLOC) is meant: blocks of its arenas have no red zones. Children after `fork` are
# left out under the thread sanitizer, which ends a child that starts threads.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
python_thread=$2
shift 2

# an extension without a sanitizer would pass every test
must_hold() {
    local folder library
    folder=$("$1" -P -c 'import importlib.util as u; print(*u.find_spec("nnkern").submodule_search_locations)')
    for library in "$folder"/_*.so; do
        nm -D "$library" | grep "$2" > /dev/null || { echo "sanitize: $library lacks $2" >&2; exit 1; }
    done
}
must_hold "$python" __asan_init
must_hold "$python" __ubsan_handle
must_hold "$python_thread" __tsan_init

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

for sanitizer in thread address,undefined; do
    echo "pool, -fsanitize=$sanitizer"
    gcc -std=c11 -O1 -g -Wall -Wextra -fsanitize=$sanitizer -fno-sanitize-recover=all -Isrc \
        tests/c/pool_driver.c src/runtime/pool.c src/runtime/system.c -o "$build/pool_driver" -lpthread
    TSAN_OPTIONS=halt_on_error=1 "$build/pool_driver"
done

echo "kernels in C, -fsanitize=address,undefined"
gcc -std=c11 -O1 -g -Wall -Wextra -Wno-psabi -fsanitize=address,undefined -fno-sanitize-recover=all -Isrc \
    tests/c/kernels_driver.c src/kernels/{isa_baseline,dispatch,facts,sums}.c -o "$build/kernels_driver" -lm
"$build/kernels_driver"

echo "threads of Python, -fsanitize=thread"
under_tsan=(env LD_PRELOAD="$(gcc -print-file-name=libtsan.so)" TSAN_OPTIONS=halt_on_error=1 "$python_thread" -P)
"${under_tsan[@]}" -m pytest -m "not no_sanitizer and not slow" -k "not child and not fork" tests/test_threads.py
"${under_tsan[@]}" tools/soak.py --minutes 0.5 --most-growth 1000

echo "suite, -fsanitize=address,undefined"
# libstdc++ too: the sanitizer looks up its exceptions when it starts
under_asan=(
    env LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)"
    PYTHONMALLOC=malloc
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
)
"${under_asan[@]}" "$python" -P -m pytest -m "not no_sanitizer and not slow" "$@"
isas=$("${under_asan[@]}" "$python" -P -c "import nnkern as nk; print(nk.show_config().to_dict()['usable_isas'].replace(',', ''))")
for isa in $isas; do
    echo "kernels, NNKERN_ISA=$isa NNKERN_GEMM=tiles"
    "${under_asan[@]}" NNKERN_ISA=$isa NNKERN_GEMM=tiles "$python" -P -m pytest -q -m "not no_sanitizer and not slow" tests/test_kernels_*.py
done
