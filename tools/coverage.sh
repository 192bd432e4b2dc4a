#!/usr/bin/env bash
# Lines that the suite runs: of Python by coverage, of C and Cython by gcov. `make coverage` gives the python of an
# environment whose nnkern was built here with NNKERN_COVERAGE=1, and leaves build/coverage/.
#
#   tools/coverage.sh PYTHON [pytest's arguments]
#
# The kernels' tests run once more for each instruction set and on tiles alone, since every one has its lines.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
out=build/coverage
mkdir -p "$out"
find build -name '*.gcda' -delete
isas=$("$python" -P -c "import nnkern as nk; print(nk.show_config().to_dict()['usable_isas'].replace(',', ''))")

"$python" -P -m pytest --cov --cov-report= -m "not no_sanitizer and not slow" "$@"
for isa in $isas; do
    NNKERN_ISA=$isa NNKERN_GEMM=tiles "$python" -P -m pytest -q tests/test_kernels_*.py
done
"$python" -m coverage report | tee "$out/python.txt"
# branches of always_inline code and of what Cython writes around a line aren't ours to count: lines only
"$python" -m gcovr --root . --filter 'src/' --exclude-unreachable-branches --gcov-ignore-errors=all \
    --gcov-ignore-parse-errors=all --merge-mode-functions=separate --txt "$out/compiled.txt" --html-details "$out/index.html" build
cat "$out/compiled.txt"
