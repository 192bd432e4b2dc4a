#!/usr/bin/env bash
# Lines that the suite runs: of Python by coverage, of C and Cython by gcov. `make coverage` gives the python of an
# environment whose nnkern was built here with NNKERN_COVERAGE=1, and leaves build/coverage/.
#
#   tools/coverage.sh PYTHON [pytest's arguments]
#
# The kernels' tests run once more for each instruction set and on tiles alone, since every one has its lines. A test
# that fails doesn't keep the report back, but the status.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
out=build/coverage
rm -rf "$out"
mkdir -p "$out"
find build -name '*.gcda' -delete
isas=$("$python" -P -c "import nnkern as nk; print(nk.show_config().to_dict()['usable_isas'].replace(',', ''))")

status=0
"$python" -P -m pytest --cov --cov-report= -m "not no_sanitizer and not slow" "$@" || status=$?
for isa in $isas; do
    NNKERN_ISA=$isa NNKERN_GEMM=tiles "$python" -P -m pytest -q tests/test_kernels_*.py || status=$?
done
{
    "$python" -m coverage report
    "$python" tools/coverage_lines.py build "$out"
} | tee "$out/lines.txt"
exit "$status"
