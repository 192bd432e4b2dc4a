#!/usr/bin/env bash
# The suite in its full profile, then for every instruction set that this processor runs and both sides of a product:
# `make test-full`.
#
#   tools/test_full.sh PYTHON [pytest's arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
isas=$("$python" -P -c "import nnkern as nk; print(nk.show_config().to_dict()['usable_isas'].replace(',', ''))")

echo "full profile: 1500 examples of each property"
NNKERN_TEST_PROFILE=full "$python" -P -m pytest "$@"
for isa in $isas; do
    for gemm in blas tiles; do
        echo "NNKERN_ISA=$isa NNKERN_GEMM=$gemm"
        NNKERN_ISA=$isa NNKERN_GEMM=$gemm "$python" -P -m pytest "$@"
    done
done
