#!/usr/bin/env bash
# What `make test` leaves out, `make test-full`: the suite for every instruction set that this processor runs and both
# sides of a product, the properties of the kernels on many more examples for each of these, and a minute of soaking.
#
#   tools/test_full.sh PYTHON [pytest's arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
isas=$("$python" -P -c "import nnkern as nk; print(nk.show_config().to_dict()['usable_isas'].replace(',', ''))")

for isa in $isas; do
    for gemm in blas tiles; do
        echo "NNKERN_ISA=$isa NNKERN_GEMM=$gemm"
        NNKERN_ISA=$isa NNKERN_GEMM=$gemm "$python" -P -m pytest "$@"
        NNKERN_ISA=$isa NNKERN_GEMM=$gemm NNKERN_TEST_PROFILE=full \
            "$python" -P -m pytest -m "hypothesis and not slow" tests/test_kernels_*.py
    done
done
echo "other properties, 1500 examples each"
NNKERN_TEST_PROFILE=full "$python" -P -m pytest -m "hypothesis and not slow" --ignore-glob='*/test_kernels_*'
"$python" -P tools/soak.py --minutes 1
