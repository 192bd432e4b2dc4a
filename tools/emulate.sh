#!/usr/bin/env bash
# The kernels on processors that this machine hasn't, emulated by qemu (Debian: qemu-user-static): `make emulate`.
#
#   tools/emulate.sh PYTHON [pytest's arguments]
#
# x86-64 without AVX (Nehalem) and without AVX-512 (Haswell): the kernels' tests, on PYTHON's nnkern, with 10 examples of
# each property, as all is an order of magnitude slower. Without the tests of memory over many calls, and without those
# that start a Python with other kernels, which this machine's own processor would run. aarch64: the drivers in C,
# cross-compiled by zig (PyPI: ziglang), since no Python for it is at hand. QEMU_BIN may name the folder of qemu.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
PATH=${QEMU_BIN:+$QEMU_BIN:}$PATH
for need in qemu-x86_64-static qemu-aarch64-static; do
    command -v "$need" > /dev/null || { echo "emulate: $need is missing: install qemu-user-static" >&2; exit 1; }
done
"$python" -c "import ziglang" 2> /dev/null || { echo "emulate: $python lacks the package ziglang" >&2; exit 1; }
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

echo "aarch64"
zig() { "$python" -m ziglang cc -target aarch64-linux-musl -static -std=c11 -O2 -Isrc "$@"; }
zig -fno-math-errno -fno-trapping-math -ffp-contract=fast tests/c/kernels_driver.c \
    src/kernels/{isa_baseline,dispatch,facts,sums}.c -o "$build/kernels_driver"
zig tests/c/pool_driver.c src/runtime/pool.c src/runtime/system.c -o "$build/pool_driver"
qemu-aarch64-static "$build/kernels_driver"
qemu-aarch64-static "$build/pool_driver"

# qemu runs a binary, not a link of a virtual environment; told the link's name, Python finds the environment
binary=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
link=$("$python" -c 'import sys; print(sys.executable)')
for processor in Nehalem:baseline Haswell:avx2; do
    echo "$processor"
    emulated=(qemu-x86_64-static -cpu "${processor%:*}" -0 "$link" "$binary" -P)
    "${emulated[@]}" -c "import nnkern as nk; assert nk.show_config().to_dict()['isa'] == '${processor#*:}'"
    NNKERN_TEST_PROFILE=emulated "${emulated[@]}" -m pytest -q -m "not no_sanitizer and not slow and not own_kernels" \
        tests/test_kernels_*.py "$@"
done
