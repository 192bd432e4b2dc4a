"""The same house: hundreds of small trainings give the bits that golden/table.json has recorded.

What the table says, and how to record it again, is told in golden/trainings.py.
"""

import importlib.util
import json

import pytest
from conftest import HERE

import nnkern as nk

_SPEC = importlib.util.spec_from_file_location("golden_trainings", HERE / "golden" / "trainings.py")
trainings = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(trainings)

TABLE = json.loads(trainings.TABLE.read_text(encoding="utf-8"))
RECORD = "python tests/golden/trainings.py --record <commit>"


@pytest.mark.own_kernels
@pytest.mark.parametrize("isa", trainings.ISAS)
def test_every_training_gives_the_recorded_bits(isa):
    if isa not in nk.show_config().to_dict()["usable_isas"].split(", "):
        pytest.skip(f"this processor or this build has no {isa}")
    here, recorded = trainings.conditions(), TABLE["conditions"]
    if others := [f"{what}: {here[what]}, not {recorded[what]}" for what in recorded if here[what] != recorded[what]]:
        pytest.skip(f"the last bits may be others than those recorded ({'; '.join(others)})")
    found = trainings.run(isa)
    assert (found["isa"], found["gemm"]) == (isa, "tiles")
    not_compared = TABLE["through BLAS"] if found["BLAS"] != TABLE["BLAS"] else ()
    different, compared = [], [case for case in found["hashes"] if case not in not_compared]
    for case in compared:
        parts, recorded = found["hashes"][case], dict(part.split("=") for part in TABLE["cases"][case][isa].split(", "))
        if wrong := [part for part in recorded | parts if recorded.get(part) != parts.get(part)]:
            different.append(f"{case}: {', '.join(wrong)}")
    assert len(compared) >= 200
    assert not different, (
        f"{len(different)} of {len(compared)} trainings give other bits than in {TABLE['commit']}:\n  "
        + "\n  ".join(different)
        + f"\nIs that meant? Then `{RECORD}`, in a commit that says why."
    )


def test_the_table_has_every_training_and_no_other():
    missing, unknown = set(trainings.CASES) - set(TABLE["cases"]), set(TABLE["cases"]) - set(trainings.CASES)
    assert not missing, f"not recorded yet: {sorted(missing)}. `{RECORD}`"
    assert not unknown, f"recorded, but trained no more: {sorted(unknown)}. `{RECORD}`"
    assert len(TABLE["cases"]) >= 200


def test_the_hash_sees_one_bit_and_no_order_in_memory():
    a = trainings.fine(1, (3, 4), "float64")
    b = a.copy()
    b[1, 2] = trainings.np.nextafter(b[1, 2], 2)
    assert trainings.digest([a]) == trainings.digest([trainings.np.asfortranarray(a)])
    assert len({trainings.digest([x]) for x in (a, b, a.T, a.astype("float32"))}) == 4
    with pytest.raises(ValueError, match="finite"):
        trainings.digest([a * float("inf")])
