#!/usr/bin/env bash
# Lines that the suite runs: of Python by coverage, of C and Cython by gcov. `make coverage` gives the python of an
# environment whose nnkern was built here with NNKERN_COVERAGE=1, and leaves build/coverage/.
#
#   tools/coverage.sh PYTHON [pytest's arguments]
#
# Tests that hold results against the oracle run once more for each instruction set and on tiles alone, since every one
# has its lines. A test that fails doesn't keep the report back; the status tells.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
out=build/coverage
rm -rf "$out"
mkdir -p "$out"
find build -name '*.gcda' -delete
"$python" -m coverage erase
isas=$("$python" -P -c "import nnkern as nk; print(nk.show_config().to_dict()['usable_isas'].replace(',', ''))")

status=0
"$python" -P -m pytest --cov --cov-report= -m "not no_sanitizer and not slow" "$@" || status=$?
for isa in $isas; do
    NNKERN_ISA=$isa NNKERN_GEMM=tiles "$python" -P -m pytest -q -m "not no_sanitizer and not slow" \
        -k "not other_kernels and not other_instruction and not thread and not trains_raises" tests/test_kernels_*.py \
        tests/test_{golden,losses,network,optimizers,predictor}.py || status=$?
done
{
    "$python" -m coverage report
    "$python" tools/coverage_lines.py build "$out"
} | tee "$out/lines.txt"
exit "$status"
