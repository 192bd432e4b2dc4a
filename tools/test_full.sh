#!/usr/bin/env bash
# What `make test` leaves out, `make test-full`: the suite for every instruction set that this processor runs and both
# sides of a product (once what shows the same with any kernels), the kernels' properties on 1000 examples for each of
# these, other properties on as many, and a minute of soaking.
#
#   tools/test_full.sh PYTHON [pytest's arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
isas=$("$python" -P -c "import nnkern as nk; print(nk.show_config().to_dict()['usable_isas'].replace(',', ''))")
kernels=(tests/test_kernels_*.py tests/test_predictor.py)
properties=(env NNKERN_TEST_PROFILE=full "$python" -P -m pytest -m "hypothesis and not slow")

tests="not slow"
for isa in $isas; do
    for gemm in blas tiles; do
        echo "NNKERN_ISA=$isa NNKERN_GEMM=$gemm"
        export NNKERN_ISA=$isa NNKERN_GEMM=$gemm
        "$python" -P -m pytest -m "$tests" "$@"
        tests="not slow and not own_kernels"
        "${properties[@]}" "${kernels[@]}"
    done
done
unset NNKERN_ISA NNKERN_GEMM
echo "other properties"
"${properties[@]}" "${kernels[@]/#/--ignore=}"
"$python" -P tools/soak.py --minutes 1
