"""Columns of data frames as the rows of X: against the equations in float64, and the same from every library."""

import datetime as dt
import decimal
import json
import math
import warnings
from collections import Counter, OrderedDict
from types import MappingProxyType

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.7")
pytest.importorskip("narwhals")
pytest.importorskip("pyarrow")

import pyarrow as pa
from tables import LIBRARIES, mixed

from nnkern._predictor import RowOfTable, scale_column
from nnkern.tabular import TabularWarning, columns
from nnkern.tabular import preprocessing as preprocessing_
from nnkern.tabular.columns import CLIP, FARTHEST, Category, Date, Number
from nnkern.tabular.frames import columns_of, columns_of_array, is_frame
from nnkern.tabular.preprocessing import Preprocessing

DAY = 86400
YEAR = 365.2425 * DAY
UTC = dt.UTC
ULP = 2.0**-52


@pytest.fixture(params=LIBRARIES.values(), ids=list(LIBRARIES))
def framed(request):
    """A function that makes an Arrow table a frame of one library."""
    return request.param


def learnt(frame, column_types=None):
    """(Preprocessing, X) of a frame about which there is nothing to warn of."""
    arrays = columns_of(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        preprocessing = Preprocessing.fit(arrays, column_types)
    X = preprocessing.transform(arrays)
    assert X.dtype == np.float32
    assert X.shape == (preprocessing.n_x, len(next(iter(arrays.values()))))
    assert X.flags.f_contiguous
    return preprocessing, X


def learnt_of(values, kind=None, type=None):
    """(column, rows of X) of one column "c" of Python values."""
    preprocessing, X = learnt(pa.table({"c": pa.array(values, type)}), None if kind is None else {"c": kind})
    (column,) = preprocessing.columns
    return column, X


def in_float64(column, values, type=None):
    """The rows of X of a column before they are rounded to float32."""
    out = np.full((len(column.rows()), len(values)), np.nan)
    column.fill(pa.chunked_array([pa.array(values, type)]), out, "X")
    return out


def test_large_tables_are_converted_on_several_threads_to_the_same_bits(monkeypatch):
    rng = np.random.default_rng(0)
    numbers = {f"n{i}": pa.array(rng.standard_normal(500), mask=rng.random(500) < 0.1) for i in range(5)}
    table = pa.table(
        numbers | {"c": rng.choice(["a", "b", "c"], 500), "d": rng.integers(0, 10**6, 500) * 1_000_000_000}
    )
    arrays = columns_of(table)
    alone = Preprocessing.fit(arrays, threads=1)
    expected = alone.transform(arrays, threads=1)
    monkeypatch.setattr(preprocessing_, "BLOCK_ROWS", 64)
    used, pool = [], preprocessing_.ThreadPoolExecutor
    monkeypatch.setattr(preprocessing_, "ThreadPoolExecutor", lambda threads: used.append(threads) or pool(threads))
    together = Preprocessing.fit(arrays, threads=3)
    assert together.to_dict() == alone.to_dict()
    assert together.transform(arrays, threads=3).tobytes() == expected.tobytes()
    assert used == [3, 3]
    broken = arrays | {"n1": pa.chunked_array([["a"] * 500]), "n3": pa.chunked_array([["b"] * 500])}
    with pytest.raises(ValueError, match=r"(?s)'n1'.*'n3'"):
        together.transform(broken, threads=3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_column_is_scaled_to_the_bits_of_numpys_operations(dtype):
    """In blocks, into rows with a stride, whichever of the two types the numbers have."""
    values = (np.random.default_rng(0).standard_cauchy(1000) * 1e3).astype(dtype)
    values[::7], values[5], values[6] = math.nan, 3e38, -3e38
    z = np.clip((values.astype(float) - 0.5) / 1.5, -FARTHEST, FARTHEST)
    expected = np.nan_to_num(z / np.sqrt(z / CLIP * (z / CLIP) + 1))
    for type in (np.float32, np.float64):
        X = np.full((1000, 3), -7, type)
        scale_column(values, X[:, 1], 0.5, 1.5, FARTHEST, CLIP)
        np.testing.assert_allclose(X[:, 1], expected.astype(type), rtol=2 * np.finfo(type).eps, atol=0)
        assert (X[:, ::2] == -7).all()
    with pytest.raises(ValueError, match="out has 999 entries, values 1000"):
        scale_column(values, np.empty(999, np.float32), 0.5, 1.5, FARTHEST, CLIP)


def test_one_row_refuses_places_and_values_that_do_not_fit():
    for numbers, codes in ([[(0, 1, 2, -1)], []], [[(0, 1, -1, -1)], []], [[(0, 1, 0, 2)], []], [[], [2]], [[], [-1]]):
        with pytest.raises(ValueError, match="places of a row of 2 entries"):
            RowOfTable(2, numbers, codes, FARTHEST, CLIP)
    row = RowOfTable(4, [(0.0, 2.0, 1, 2), (0.0, 1.0, 0, -1)], [3], FARTHEST, CLIP)
    for numbers, codes in (([], [0.0]), ([1.0, 2.0], [])):
        with pytest.raises(ValueError, match="a row has"):
            row.X(numbers, codes)
    X = row.X([None, np.int8(3)], [5.0])
    assert X.shape == (4, 1)
    assert X.dtype == np.float32
    assert X[:, 0].tolist() == [np.float32(3 / math.sqrt(2)), 0, 1, 5]
    for value in ("1", b"1", np.timedelta64(1, "s"), [1.0], 1j):
        with pytest.raises(TypeError, match="is no plain number"):
            row.X([value, 1.0], [0.0])
    with pytest.raises(ValueError, match="infinite"):
        row.X([1.0, -math.inf], [0.0])


# ---- the equations ----


def quantile(values, q):
    """Linear between the two values that are next to the place q (n − 1)."""
    values = sorted(values)
    place = q * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def scale_of(values):
    known = [v for v in values if not math.isnan(v)]
    return quantile(known, 0.5), quantile(known, 0.75) - quantile(known, 0.25) or (max(known) - min(known)) / 2


def squeezed(values, median, scale):
    """z / √(1 + (z/3)²), z clipped to ±10⁶; 0 where there is none."""
    out = []
    for value in values:
        z = min(max((value - median) / scale, -1e6), 1e6)
        out.append(0.0 if math.isnan(value) else z / math.sqrt(1 + (z / 3) ** 2))
    return np.array(out)


def waves(values, length, start=0.0):
    """sin and cos of the place within a period; 0 where there is none."""
    angles = [math.nan if math.isnan(v) else 2 * math.pi * math.fmod(v + start, length) / length for v in values]
    pairs = [(0.0, 0.0) if math.isnan(a) else (math.sin(a), math.cos(a)) for a in angles]
    return np.array(pairs).T


# ---- numbers ----

RNG = np.random.default_rng(0)
SPREAD = RNG.normal(size=101) * 10 ** RNG.uniform(-1, 3, 101)


@pytest.mark.parametrize(
    "values",
    [
        SPREAD.tolist(),
        SPREAD[:100].tolist(),
        [0.0, 1.0],
        [0.0] * 80 + [-3.0, 5.0] + [0.0] * 20,
        (SPREAD * 1e300 / np.abs(SPREAD).max()).tolist(),
        (SPREAD * 1e-300).tolist(),
        [1e9 + i for i in range(50)],
    ],
    ids=["odd", "even", "two", "half the range", "huge", "tiny", "far from 0"],
)
def test_numbers_by_the_equation(values):
    column, X = learnt_of(values)
    median, scale = scale_of(values)
    assert isinstance(column, Number)
    assert column.median == pytest.approx(median, rel=4 * ULP)
    assert column.scale == pytest.approx(scale, rel=1e-14)
    expected = squeezed(values, column.median, column.scale)
    np.testing.assert_allclose(in_float64(column, values)[0], expected, rtol=8 * ULP, atol=0)
    assert [row.kind for row in column.rows()] == ["number"]
    np.testing.assert_array_equal(X, in_float64(column, values).astype(np.float32))
    assert np.abs(X).max() <= 3


def test_the_quartiles_of_whole_numbers_are_exact():
    column, X = learnt_of([7, 1, 2, 3, 100])
    assert (column.median, column.scale) == (3, 5)
    z = np.array([4, -2, -1, 0, 97]) / 5
    np.testing.assert_allclose(X[0], z / np.sqrt(1 + z * z / 9), rtol=1e-7)


def test_half_the_range_where_the_quartiles_are_equal():
    column, X = learnt_of([0] * 8 + [-2, 6])
    assert (column.median, column.scale) == (0, 4)
    np.testing.assert_allclose(X[0, -2:], [-0.5 / math.sqrt(1 + 1 / 36), 1.5 / math.sqrt(1.25)], rtol=1e-7)
    assert not X[0, :8].any()


@pytest.mark.parametrize("value", [1e300, -1e300, 1e7, -1e12])
def test_numbers_far_outside_end_at_three(value):
    column, _ = learnt_of([float(i) for i in range(11)])
    out = in_float64(column, [value])
    assert out[0, 0] == squeezed([math.copysign(1e9, value)], 0, 1)[0]
    assert 2.99999 < abs(out[0, 0]) < 3


def test_a_number_that_overflows_when_it_is_scaled_ends_there_too():
    column, _ = learnt_of([i * 1e-200 for i in range(11)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = in_float64(column, [1e300, -1e300])
    np.testing.assert_array_equal(out[0], squeezed([1e9, -1e9], 0, 1))


def test_missing_numbers_are_0_and_have_a_row_that_says_so():
    column, X = learnt_of([1.0, None, 3.0, math.nan, 5.0])
    assert (column.median, column.scale, column.flag) == (3, 2, True)
    assert [(row.kind, row.column, row.part) for row in column.rows()] == [
        ("number", "c", ""),
        ("passthrough", "c", "missing"),
    ]
    np.testing.assert_allclose(X[0], squeezed([1, math.nan, 3, math.nan, 5], 3, 2), rtol=1e-7)
    np.testing.assert_array_equal(X[1], [0, 1, 0, 1, 0])


def test_a_hole_at_prediction_where_there_was_none_is_the_median():
    column, _ = learnt_of([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(in_float64(column, [None, 2.0], pa.float64()), [[0, 0]])


def test_quantiles_of_many_rows_are_near_those_of_all():
    """They are those of at most 2¹⁷ of them; the range, and whether there are holes, are those of all rows."""
    values = np.random.default_rng(0).permutation(np.arange(400_000.0))
    column, _ = learnt_of(values)
    median, scale = scale_of(values.tolist())
    assert (column.median, column.scale) != (median, scale)
    np.testing.assert_allclose((column.median, column.scale), (median, scale), rtol=0.01)
    assert learnt_of(values)[0] == column
    values[:], values[17], values[7] = 5, 7, np.nan
    column, _ = learnt_of(values)
    assert (column.median, column.scale, column.flag) == (5, 1, True)


@pytest.mark.parametrize("period", [2, 3, 4, 8])
def test_quantiles_of_many_rows_follow_no_period(period):
    """Such as the months of a year, or rows of which each fourth has been measured."""
    values = np.full(400_000, np.nan)
    values[1::period] = np.random.default_rng(0).normal(size=len(values[1::period]))
    column, _ = learnt_of(values)
    assert column.median == pytest.approx(0, abs=0.02)
    assert column.scale == pytest.approx(1.349, abs=0.02)
    values = 10.0 * (np.arange(400_000) % period) + np.random.default_rng(0).normal(0, 5, 400_000)
    column, _ = learnt_of(values)
    np.testing.assert_allclose((column.median, column.scale), scale_of(values.tolist()), rtol=0.02)


def test_blocks_of_rows_give_what_few_rows_give():
    m = 2**16 + 300
    rng = np.random.default_rng(1)
    table = pa.table(
        {
            "number": pa.array(rng.normal(size=m), mask=rng.random(m) < 0.1),
            "town": pa.array(rng.choice(list("abcdefg"), m), mask=rng.random(m) < 0.1),
            "day": pa.array(rng.integers(0, 10**9, m), mask=rng.random(m) < 0.1).cast(pa.timestamp("s")),
        }
    )
    preprocessing, X = learnt(table)
    for start in (0, 2**16 - 150, m - 100):
        few = preprocessing.transform(columns_of(table.slice(start, 100)))
        assert few.tobytes() == np.ascontiguousarray(X[:, start : start + 100].T).T.tobytes()


def test_the_row_of_what_is_wrong_is_that_of_the_whole_table():
    preprocessing, _ = learnt(pa.table({"c": [1.0, 2.0]}))
    values = [1.0] * (2**16 + 77) + [math.inf]
    with pytest.raises(ValueError, match=rf"'c' of X, row {2**16 + 77} holds inf"):
        preprocessing.transform(columns_of(pa.table({"c": values})))


NUMBERS = {
    "int8": (pa.int8(), [1, 2, None, 7]),
    "uint64": (pa.uint64(), [1, 2**63, None, 7]),
    "int64": (pa.int64(), [-(2**62), 2, None, 7]),
    "float16": (pa.float16(), [np.float16(1.5), np.float16(2), None, np.float16(7)]),
    "float32": (pa.float32(), [1.5, 2, None, 7]),
    "decimal": (pa.decimal128(12, 3), [decimal.Decimal("1.125"), decimal.Decimal(2), None, decimal.Decimal("-7.5")]),
}


@pytest.mark.parametrize(("type", "values"), NUMBERS.values(), ids=list(NUMBERS))
def test_numbers_of_every_type(type, values):
    as_floats = [math.nan if v is None else float(v) for v in values]
    column, X = learnt_of(values, type=type)
    assert (column.median, column.scale, column.flag) == (*scale_of(as_floats), True)
    np.testing.assert_allclose(X[0], squeezed(as_floats, *scale_of(as_floats)), rtol=1.2e-7)
    np.testing.assert_array_equal(X[1], [0, 0, 1, 0])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_are_seconds(unit):
    seconds = [1, 60, None, 7]
    column, _ = learnt_of([None if s is None else dt.timedelta(seconds=s) for s in seconds], type=pa.duration(unit))
    assert (column.kind, column.median, column.scale) == ("number", 7, 29.5)


@pytest.mark.parametrize("type", [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")], ids=str)
def test_times_of_day_are_seconds_since_midnight(type):
    column, _ = learnt_of([dt.time(0, 1), dt.time(12), dt.time(0, 2), None], type=type)
    assert (column.kind, column.median, column.scale) == ("number", 120, (43200 + 120) / 2 - 90)


@pytest.mark.parametrize("type", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_numbers_written_as_texts_where_asked_for(type):
    texts = ["1", " 2.5 ", "-3e2", None, "", "  ", "7"]
    known = [1, 2.5, -300, math.nan, math.nan, math.nan, 7]
    column, X = learnt_of(texts, "number", type)
    assert (column.median, column.scale) == scale_of(known)
    np.testing.assert_allclose(X[0], squeezed(known, *scale_of(known)), rtol=1.2e-7)
    np.testing.assert_array_equal(X[1], [0, 0, 0, 1, 1, 1, 0])


def test_a_text_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="'c' of X, row 3 holds '1,5', and must hold numbers"):
        learnt_of(["1", None, "2", "1,5", "x"], "number")


def test_booleans_as_numbers_where_asked_for():
    column, X = learnt_of([True, False, None, True], "number")
    assert (column.median, column.scale) == (1, 0.5)
    np.testing.assert_allclose(X[0], squeezed([1, 0, math.nan, 1], 1, 0.5), rtol=1e-7)


# ---- categories ----


def codes_of(values, column):
    """{value: what stands for it in X}"""
    return dict(zip(values, in_float64(column, values)[0].tolist(), strict=True))


def test_categories_by_frequency_and_equals_by_text():
    values = ["m"] * 6 + ["z"] * 9 + ["a"] * 6 + ["b"] * 6 + ["rare"] * 4 + [None] * 3
    values = [values[i] for i in np.random.default_rng(0).permutation(len(values))]
    column, X = learnt_of(values)
    assert isinstance(column, Category)
    assert column.levels == ["z", "a", "b", "m"]
    assert [(row.kind, row.size) for row in column.rows()] == [("code", 5)]
    code = {"z": 1, "a": 2, "b": 3, "m": 4, "rare": 0, None: 0}
    np.testing.assert_array_equal(X[0], [code[value] for value in values])
    assert codes_of(["a", "never seen", None, "rare", "m"], column) == {
        "a": 2, "never seen": 0, None: 0, "rare": 0, "m": 4,
    }  # fmt: skip


@pytest.mark.parametrize("type", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_a_missing_text_is_no_empty_one(type):
    column, X = learnt_of(["a", "b", None] * 5, type=type)
    assert column.levels == ["a", "b"]
    np.testing.assert_array_equal(X, [[-1, 1, 0] * 5])


def test_five_make_a_category():
    column, _ = learnt_of(["a"] * 40 + ["five"] * 5 + ["four"] * 4 + ["b"] * 10)
    assert column.levels == ["a", "b", "five"]


def test_texts_of_a_small_table_are_all_known():
    """Where none occurs five times."""
    column, X = learnt_of(["b", "a", "c", "b", None])
    assert column.levels == ["b", "a", "c"]
    np.testing.assert_array_equal(X, [[1, 2, 3, 1, 0]])


def test_two_categories_are_one_sign():
    column, X = learnt_of(["no"] * 6 + ["yes"] * 5 + [None, "rare"])
    assert column.levels == ["no", "yes"]
    assert [(row.kind, row.column) for row in column.rows()] == [("passthrough", "c")]
    np.testing.assert_array_equal(X, [[-1] * 6 + [1] * 5 + [0, 0]])
    assert codes_of(["yes", "no", "maybe"], column) == {"yes": 1, "no": -1, "maybe": 0}


def test_booleans_are_two_categories():
    column, X = learnt_of([True] * 5 + [False] * 9 + [None])
    assert column.levels == ["False", "True"]
    np.testing.assert_array_equal(X, [[1] * 5 + [-1] * 9 + [0]])


def test_one_category_beside_missing_ones_is_kept():
    column, X = learnt_of(["a"] * 9 + [None] * 9)
    assert [(row.kind, row.size) for row in column.rows()] == [("code", 2)]
    np.testing.assert_array_equal(X, [[1] * 9 + [0] * 9])


@pytest.mark.parametrize("values", [[7, 1, 3] * 5, [7.0, 1.0, 3.0] * 5], ids=["int", "float"])
def test_whole_numbers_as_categories_where_asked_for(values):
    column, X = learnt_of([*values, None, 7], "category")
    assert column.levels == ["7", "1", "3"]
    np.testing.assert_array_equal(X, [[1, 2, 3] * 5 + [0, 1]])
    # a hole makes pandas' whole numbers floats, and its absence makes them whole again: the categories are the same
    assert codes_of([3, 8], column) == {3: 3, 8: 0}
    assert in_float64(column, [3.0, 3.5, math.nan]).tolist() == [[3, 0, 0]]


def test_categories_asked_for_in_a_small_table_are_all_known():
    column, X = learnt_of([10, 20, 30, 10, 20, 30, 40], "category")
    assert column.levels == ["10", "20", "30", "40"]
    np.testing.assert_array_equal(X, [[1, 2, 3, 1, 2, 3, 4]])


def test_free_text_is_left_out_and_taken_in_where_asked_for():
    texts = [f"review number {i}" for i in range(150)]
    table = columns_of(pa.table({"text": texts, "n": np.arange(150) % 7}))
    with pytest.warns(TabularWarning, match=r"'text' \(text of 150 different values\)"):
        preprocessing = Preprocessing.fit(table)
    assert preprocessing.names == ["n"]
    assert preprocessing.left_out == {"text": "text of 150 different values"}
    preprocessing, X = learnt(pa.table({"text": texts}), {"text": "category"})
    assert len(preprocessing.columns[0].levels) == 150
    assert sorted(X[0]) == list(range(1, 151))


def test_many_categories_that_are_frequent_are_kept():
    column, X = learnt_of([f"{i % 120}" for i in range(1200)])
    assert len(column.levels) == 120
    assert sorted(Counter(X[0].tolist()).items()) == [(code, 10) for code in range(1, 121)]


@pytest.mark.parametrize("levels", [127, 128, 129, 255, 256])
def test_dictionaries_as_full_as_their_indices(levels):
    """Of int8 and uint8: there is no index left for what is missing."""
    type = pa.int8() if levels <= 128 else pa.uint8()
    codes = pa.array([*range(levels), None] * 5, type)
    chunk = pa.DictionaryArray.from_arrays(codes, [f"{i:03}" for i in range(levels)])
    _, X = learnt(pa.table({"c": pa.chunked_array([chunk])}))
    np.testing.assert_array_equal(X[0], [*range(1, levels + 1), 0] * 5)


def test_a_dictionary_is_looked_at_once(monkeypatch):
    """Not once for every block of rows."""
    m = 2**16 * 3 + 5
    chunk = pa.DictionaryArray.from_arrays(pa.array(np.arange(m, dtype=np.int32) % 700), [f"{i}" for i in range(700)])
    table = pa.table({"c": pa.chunked_array([chunk])})
    preprocessing, X = learnt(table)
    asked = []
    original = columns.level_of
    monkeypatch.setattr(columns, "level_of", lambda *args: [asked.append(args), original(*args)][1])
    assert preprocessing.transform(columns_of(table)).tobytes() == X.tobytes()
    assert len(asked) == 700
    texts = preprocessing.transform(columns_of(pa.table({"c": table["c"].cast(pa.string())})))
    assert texts.tobytes() == X.tobytes()


@pytest.mark.parametrize(
    ("values", "kind", "levels"),
    [
        ([True, False] * 4, None, ["False", "True"]),
        ([True, False, None], None, ["False", "True"]),
        (pa.array([10, 20, 30] * 4).dictionary_encode(), None, ["10", "20", "30"]),
        ([1.5, 2.5] * 2, "category", ["1.5", "2.5"]),
    ],
    ids=["booleans", "booleans and a hole", "categoricals of numbers", "asked for"],
)
def test_categories_of_a_small_table_are_all_known(values, kind, levels):
    column, X = learnt_of(values, kind)
    assert column.levels == levels
    assert len(np.unique(X)) == len(set(values))


def test_not_a_number_is_a_hole_among_categories():
    """polars keeps NaN and null apart."""
    pl = pytest.importorskip("polars")
    values = [1.5, math.nan, 2.5, None, 4.0] * 5
    frame = pl.DataFrame({"c": pl.Series(values, strict=False), "n": range(25)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arrays = columns_of(frame)
        preprocessing = Preprocessing.fit(arrays, {"c": "category"})
        X = preprocessing.transform(arrays)
    assert preprocessing.columns[0].levels == ["1.5", "2.5", "4"]
    np.testing.assert_array_equal(X[0], [1, 0, 2, 0, 3] * 5)
    for kind in ("number", "category"):
        with pytest.warns(TabularWarning, match=r"'c' \(all missing\)"):
            Preprocessing.fit(columns_of(frame.with_columns(c=pl.lit(math.nan))), {"c": kind})


OTHER_TYPES = {
    "booleans": ([True, False, None], [[1, 0, None], [1.0, 0.0, math.nan], ["true", "False", None], ["1", "0", None]]),
    "whole numbers": ([7, 1, None], [[7.0, 1.0, math.nan], ["7", " 1 ", ""], ["7.0", "01", None], ["7", "1", "nan"]]),
    "numbers": ([0.1, 2.5, None], [np.array([0.1, 2.5, math.nan], np.float32), ["0.10", "2.5", None]]),
    "float32": (np.array([0.1, 2.5, math.nan], np.float32), [[0.1, 2.5, None], ["0.1", "2.50", None]]),
    "large": ([2**53 + 1, 2**53, None], [[str(2**53 + 1), str(2**53), None]]),
    "dates": (
        [dt.date(2020, 1, 2), dt.date(2021, 3, 4), None],
        [
            [dt.datetime(2020, 1, 2), dt.datetime(2021, 3, 4), None],
            ["2020-01-02", "2021-03-04 00:00", None],
            np.array(["2020-01-02", "2021-03-04", "NaT"], "datetime64[ns]"),
        ],
    ),
    "texts": (["1.5", "7", None], [[1.5, 7, None], [decimal.Decimal("1.50"), decimal.Decimal(7), None]]),
}


@pytest.mark.parametrize(("values", "others"), OTHER_TYPES.values(), ids=list(OTHER_TYPES))
def test_categories_that_come_as_another_type(values, others):
    """As a hole makes numbers of booleans, a file texts of all of them, and memory float32 of float64."""
    arrays = columns_of({"c": values, "n": [1, 2, 3]})
    preprocessing = Preprocessing.fit(arrays, {"c": "category"})
    X = preprocessing.transform(arrays)
    assert len(np.unique(X[0])) == 3
    again = Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict())))
    for other in others:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            one = columns_of({"c": other, "n": [1, 2, 3]})
        for learnt_before in (preprocessing, again):
            assert learnt_before.transform(dict(one)).tobytes() == X.tobytes(), other


def test_nested_columns_where_categories_were():
    preprocessing, _ = learnt(pa.table({"a": ["x", "y"], "b": [True, False], "n": [1.0, 2.0]}))
    table = pa.table({"a": [["x"], ["y"]], "b": [{"z": 1}, {"z": 2}], "n": [1.0, 2.0]})
    with pytest.raises(
        ValueError, match=r"'a' of X must hold texts .* got list.*'b' of X must hold booleans .* struct"
    ):
        preprocessing.transform(columns_of(table))


# ---- dates ----

MOMENTS = [dt.datetime(2021, 3, 4, 5, 6, 7), dt.datetime(1969, 12, 31, 18), dt.datetime(2030, 7, 15), None]
MOMENTS += [dt.datetime(2024, 2, 29, 23, 59, 59), dt.datetime(1970, 1, 4), dt.datetime(2000, 1, 1, 12)]


def since_1970(moments):
    start = dt.datetime(1970, 1, 1)
    return [math.nan if moment is None else (moment - start).total_seconds() for moment in moments]


def expected_of_times(moments):
    seconds = since_1970(moments)
    median, scale = scale_of(seconds)
    missing = [moment is None for moment in moments]
    parts = waves(seconds, DAY), waves(seconds, 7 * DAY, 4 * DAY), waves(seconds, YEAR)
    return np.vstack([squeezed(seconds, median, scale), *parts, missing])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_by_the_equation(unit):
    column, X = learnt_of(MOMENTS, type=pa.timestamp(unit))
    assert isinstance(column, Date)
    assert (column.median, column.scale) == scale_of(since_1970(MOMENTS))
    first, *others = column.rows()
    assert (first.kind, first.part) == ("number", "")
    assert {row.kind for row in others} == {"passthrough"}
    waves = [f"{wave} of {part}" for part in ("hour", "weekday", "season") for wave in ("sin", "cos")]
    assert [row.part for row in others] == [*waves, "missing"]
    out = in_float64(column, MOMENTS, pa.timestamp(unit))
    np.testing.assert_allclose(out, expected_of_times(MOMENTS), rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(X, out.astype(np.float32))


def test_a_week_begins_with_a_sunday():
    column, X = learnt_of([dt.datetime(2026, 11, 1) + dt.timedelta(days=i) for i in range(60)])
    assert column.parts == ["weekday"]
    days = np.arange(60) % 7  # 2026-11-01 is a Sunday
    np.testing.assert_allclose(X[1], np.sin(2 * np.pi * days / 7), atol=1e-6)
    np.testing.assert_allclose(X[2], np.cos(2 * np.pi * days / 7), atol=1e-6)


def test_parts_are_those_that_vary():
    day = dt.datetime(2026, 5, 5)
    assert learnt_of([day + dt.timedelta(minutes=13 * i) for i in range(50)])[0].parts == ["hour"]
    assert learnt_of([day + dt.timedelta(weeks=i) for i in range(200)])[0].parts == ["season"]
    assert learnt_of([day + dt.timedelta(days=i) for i in range(900)])[0].parts == ["weekday", "season"]


@pytest.mark.parametrize("type", [pa.date32(), pa.date64()], ids=str)
def test_dates_are_times_at_midnight(type):
    moments = [None if moment is None else dt.datetime(*moment.timetuple()[:3]) for moment in MOMENTS]
    column, X = learnt_of([None if moment is None else moment.date() for moment in moments], type=type)
    at_midnight, same = learnt_of(moments)
    assert column.to_dict() == at_midnight.to_dict()
    assert column.parts == ["weekday", "season"]
    assert X.tobytes() == same.tobytes()
    # times come where dates were, and dates where times were
    np.testing.assert_array_equal(in_float64(column, moments), in_float64(at_midnight, moments))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "+05:30"])
def test_times_with_a_zone_count_in_utc(zone):
    aware = [None if moment is None else moment.replace(tzinfo=UTC) for moment in MOMENTS]
    column, X = learnt_of(aware, type=pa.timestamp("us", zone))
    plain, same = learnt_of(MOMENTS)
    assert X.tobytes() == same.tobytes()
    assert (column.zone, plain.zone) == (True, False)


@pytest.mark.parametrize("with_zone", [False, True])
def test_times_with_a_zone_where_there_was_none(with_zone):
    moments = [dt.datetime(2020, 1, day, tzinfo=UTC if with_zone else None) for day in (1, 2, 3)]
    preprocessing, _ = learnt(pa.table({"when": moments}))
    others = [moment.replace(tzinfo=None if with_zone else UTC) for moment in moments]
    said = "have no zone, and had one" if with_zone else "have a zone, and had none"
    with pytest.raises(ValueError, match=f"the times in column 'when' of X {said} in training"):
        preprocessing.transform(columns_of(pa.table({"when": others})))


def test_dates_written_as_texts_where_asked_for():
    texts = ["2021-03-04 05:06:07", "1969-12-31T18:00:00", "2030-07-15", None, "2024-02-29 23:59:59", "1970-01-04"]
    texts.append("2000-01-01 12:00")
    column, X = learnt_of(texts, "date")
    same, expected = learnt_of(MOMENTS)
    assert column.to_dict() == same.to_dict()
    assert X.tobytes() == expected.tobytes()
    with pytest.raises(ValueError, match=r"column 'c' of X must hold dates such as .*'yesterday'"):
        learnt_of(["2020-01-01", "yesterday"], "date")


@pytest.mark.parametrize("texts", [pa.string(), pa.large_string()], ids=str)
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_texts_that_are_all_dates_are_dates(texts, zone):
    """However often each occurs, and with holes; a mistake is named, in a table and in one row."""
    start = dt.datetime(2020, 1, 1, tzinfo=UTC if zone else None)
    times = [start + dt.timedelta(days=i % 9, hours=i % 5) for i in range(99)] + [None]
    written = pa.array([time and time.isoformat(sep=" ") for time in times], texts)
    preprocessing, X = learnt(pa.table({"when": written}))
    expected, X_of_times = learnt(pa.table({"when": pa.array(times, pa.timestamp("us", zone))}))
    assert preprocessing.columns == expected.columns
    assert np.array_equal(X, X_of_times)
    for wrong in ("soon", "2020-13-01"):
        with pytest.raises(ValueError, match="'when' of X must hold dates such as 2026-01-31 12:00"):
            preprocessing.transform(columns_of(pa.table({"when": [wrong]})))


@pytest.mark.parametrize(
    "other", ["soon", "2020-02-30", "2020-01-01 and so on", "2020-01-01T00:00:00Z", "", "20200101", "1"]
)
def test_texts_that_are_not_all_dates_are_categories(other):
    [column] = learnt(pa.table({"when": ["2020-01-01", "2020-01-02", other] * 10}))[0].columns
    assert isinstance(column, Category)
    assert sorted(column.levels) == sorted(["2020-01-01", "2020-01-02", other])


def test_dates_are_categories_where_asked_for_or_where_the_column_is_a_dictionary():
    texts = pa.array(["2020-01-01", "2020-01-02", "2020-01-03"] * 10)
    for table, wanted in ((texts, {"when": "category"}), (texts.dictionary_encode(), None)):
        [column] = learnt(pa.table({"when": table}), wanted)[0].columns
        assert isinstance(column, Category)


def test_numbers_are_no_dates():
    with pytest.raises(ValueError, match="column 'c' of X must hold dates or times; got int64"):
        learnt_of([1, 2, 3], "date")


# ---- every library ----


def test_the_same_rows_from_every_library(framed):
    table = mixed()
    of_arrow, expected = learnt(table)
    preprocessing, X = learnt(framed(table))
    assert preprocessing.to_dict() == of_arrow.to_dict()
    assert X.tobytes() == expected.tobytes()
    assert of_arrow.transform(columns_of(framed(table))).tobytes() == expected.tobytes()
    # the kinds themselves, so that the comparison isn't one of nothing
    kinds = {column.name: column.kind for column in preprocessing.columns}
    assert [name for name, kind in kinds.items() if kind == "category"] == ["bool", "text", "large text", "categorical"]
    assert [name for name, kind in kinds.items() if kind == "date"] == ["time", "zone", "date"]
    assert preprocessing.names == table.column_names


def test_the_same_rows_from_a_dict_of_columns():
    table = mixed().select(["float", "all there", "text", "bool"])
    columns = {name: table[name].to_pylist() for name in table.column_names}
    assert learnt(columns)[1].tobytes() == learnt(table)[1].tobytes()


def of_frames(values, dtype=None):
    pd = pytest.importorskip("pandas")
    return {"frame": pd.DataFrame({"c": pd.Series(values, dtype=dtype)}), "dict": {"c": values}}


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["x", "y", math.nan] * 10, object),
        ([True, False, math.nan] * 10, object),
        ([True, None, False] * 10, object),
        (["a", 1, 2.0, None, True] * 5, object),
        ([1, None, 4], None),
        ((1, 2.5, 7), None),
        (range(9), None),
        ([dt.date(2020, 1, 1), None, dt.date(2021, 1, 1)], object),
        ([np.datetime64("2020-01-01"), None, np.datetime64("2021-01-01")], "datetime64[s]"),
        ([np.timedelta64(5, "s"), None, np.timedelta64(1, "m")], "timedelta64[s]"),
    ],
    ids=[
        "texts",
        "booleans",
        "booleans and None",
        "several kinds",
        "whole numbers",
        "tuple",
        "range",
        "dates",
        "numpy's dates",
        "numpy's durations",
    ],
)
def test_a_list_in_a_dict_means_what_it_means_in_a_frame(values, dtype):
    frames = of_frames(values, dtype)
    of_frame, expected = learnt(frames["frame"])
    of_dict, X = learnt(frames["dict"])
    assert of_dict.to_dict() == of_frame.to_dict()
    assert X.tobytes() == expected.tobytes()


def test_series_and_arrays_in_a_dict_keep_their_types():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    texts = ["10", "20", None, "30"] * 6
    whole = [10, 20, None, 30] * 6
    expected = learnt_of(texts)[1].tobytes()
    given = [
        pd.Series(pd.Categorical(whole)),
        pd.Categorical(texts),
        pd.array(texts, "string"),
        pl.Series(texts, dtype=pl.Categorical),
        pa.array(texts).dictionary_encode(),
        pa.chunked_array([texts[:5], texts[5:]]),
        np.array(texts, object),
    ]
    for values in given:
        preprocessing, X = learnt({"c": values})
        assert preprocessing.columns[0].levels == ["10", "20", "30"], type(values)
        assert X.tobytes() == expected, type(values)


def test_the_mask_of_an_array_in_a_dict_is_what_is_missing():
    masked = np.ma.masked_array([1.0, 2.0, 99.0, 5.0], [0, 0, 1, 0])
    assert learnt({"c": masked})[1].tobytes() == learnt_of([1.0, 2.0, None, 5.0])[1].tobytes()


def test_what_is_no_column_of_a_dict():
    for value, said in (
        (5, "got 5: predict_one takes a dict of one row$"),
        ("ab", "got 'ab'"),
        (np.ones((2, 2)), r"got an array of shape \(2, 2\)"),
    ):
        with pytest.raises(ValueError, match=f"column 'c' of X must have one entry for each row; {said}"):
            columns_of({"a": [1, 2], "c": value})
    with pytest.raises(ValueError, match="different lengths: 'a' 2, 'c' 3; each needs an entry for each row"):
        columns_of({"a": [1, 2], "c": pa.chunked_array([[1, 2], [3]])})
    with pytest.raises(ValueError, match="X has several columns named '1'"):
        columns_of({1: [1, 2], "1": [3, 4]})
    assert list(columns_of({"a": [1, 2], "c": 5}, ["a"])) == ["a"]


def test_dicts_of_every_kind():
    """Of a kind of their own, and of columns that have counts of nulls but aren't checked ones."""
    table = {"a": [1.0, 2.0, 4.0], "b": ["x", "y", "x"]}
    expected = learnt(table)[1].tobytes()
    assert learnt(OrderedDict(table))[1].tobytes() == expected
    assert learnt(MappingProxyType(table))[1].tobytes() == expected
    scipy_sparse = pytest.importorskip("scipy.sparse")
    assert is_frame(OrderedDict(table))
    assert not is_frame(scipy_sparse.dok_matrix((3, 3)))
    assert not is_frame(scipy_sparse.dok_array((3, 3)))


@pytest.mark.parametrize("dtype", ["Int64", "Int8", "Float64", "boolean", "string", "category", "object", "str"])
def test_types_of_pandas(dtype):
    pd = pytest.importorskip("pandas")
    values = {"boolean": [True, False, None], "Int64": [5, 7, None], "Int8": [5, 7, None], "Float64": [0.5, 7.0, None]}
    values = values.get(dtype, ["a", "b", None]) * 7
    frame = pd.DataFrame({"c": pd.Series(values, dtype=dtype)})
    column, X = learnt_of(values)
    (of_pandas,), rows = learnt(frame)[0].columns, learnt(frame)[1]
    assert of_pandas.to_dict() == column.to_dict()
    assert rows.tobytes() == X.tobytes()


def test_categoricals_of_numbers_are_categories():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"c": pd.Categorical([10, 20, 10, 30] * 6, categories=[30, 20, 10, 99])})
    preprocessing, X = learnt(frame)
    assert preprocessing.columns[0].levels == ["10", "20", "30"]
    np.testing.assert_array_equal(X, [[1, 2, 1, 3] * 6])


def test_objects_of_several_kinds_are_texts():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"c": pd.Series(["a", 1, 2.0, None, True, math.nan] * 5, dtype=object)})
    preprocessing, X = learnt(frame)
    assert preprocessing.columns[0].levels == ["1", "2", "True", "a"]
    np.testing.assert_array_equal(X, [[4, 1, 2, 0, 3, 0] * 5])


NUMBERS_OF_OBJECTS = {
    "wide": [1, 2, 10**25, None],
    "mixed": [1, 2.5, np.float32(7), np.int8(3), math.nan],
    "long double": np.array([1.5, 2, 7], np.longdouble),
    "sparse": [0.0, 0.0, 3.0, 5.0],
}


@pytest.mark.parametrize(("kind", "values"), NUMBERS_OF_OBJECTS.items(), ids=list(NUMBERS_OF_OBJECTS))
def test_numbers_of_types_that_arrow_lacks_are_numbers(kind, values):
    pd = pytest.importorskip("pandas")
    series = pd.arrays.SparseArray(values) if kind == "sparse" else pd.Series(values)
    preprocessing, X = learnt(pd.DataFrame({"c": series}))
    column, expected = learnt_of([None if v is None else float(v) for v in values])
    assert preprocessing.columns[0].to_dict() == column.to_dict()
    assert X.tobytes() == expected.tobytes()


def test_wide_whole_numbers_of_polars_are_numbers():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"c": pl.Series([1, 2**100, None], dtype=pl.Int128)})
    assert learnt(frame)[1].tobytes() == learnt_of([1.0, 2.0**100, None])[1].tobytes()


def test_numbers_beyond_float64():
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="column 'c' of X holds a number that is too large"):
        columns_of(pd.DataFrame({"c": pd.Series([1, 10**400], dtype=object)}))


def test_texts_that_are_no_unicode():
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="column 'c' of X holds a text that is none"):
        columns_of(pd.DataFrame({"c": pd.Series(["a", "\ud800"], dtype=object)}))
    for texts in (["a", "\ud800"], np.array(["a", "\ud800"], object)):
        with pytest.raises(ValueError, match="column 'c' of X holds a text that is none"):
            columns_of({"c": texts})


def test_categories_that_are_intervals_are_refused_until_they_are_texts():
    """As pandas' cut gives them."""
    pd = pytest.importorskip("pandas")
    cut = pd.cut(np.arange(40) % 17, 4)
    with pytest.raises(TypeError, match=r"'c' \(dictionary<.*interval"):
        Preprocessing.fit(columns_of(pd.DataFrame({"c": cut})))
    (column,) = learnt(pd.DataFrame({"c": cut.astype(str)}))[0].columns
    assert len(column.levels) == 4


def test_types_of_polars():
    pl = pytest.importorskip("polars")
    values = ["a", "b", "c", None] * 6
    expected = learnt_of(values)[1]
    for type in (pl.String, pl.Categorical, pl.Enum(["c", "b", "a", "never"])):
        assert learnt(pl.DataFrame({"c": pl.Series(values, dtype=type)}))[1].tobytes() == expected.tobytes(), type


def test_chunks_with_dictionaries_of_their_own():
    parts = [["b", "a", None, "a"], ["c", "a", "b"], [], ["d", None, "c"]]
    values = [value for part in parts for value in part] * 5
    chunks = [pa.array(part, pa.string()).dictionary_encode() for part in parts] * 5
    preprocessing, X = learnt(pa.table({"c": pa.chunked_array(chunks)}))
    column, expected = learnt_of(values)
    assert preprocessing.columns[0].to_dict() == column.to_dict()
    assert X.tobytes() == expected.tobytes()


def test_many_chunks_and_slices_of_numbers():
    values = [1.0, None, 3.0, 8.0, None, 2.0, 7.0]
    array = pa.array([99.0, *values, 99.0]).slice(1, 7)
    chunks = pa.chunked_array([array.slice(0, 2), array.slice(2, 0), array.slice(2, 5)])
    assert learnt(pa.table({"c": chunks}))[1].tobytes() == learnt_of(values)[1].tobytes()


def test_columns_of_pandas_without_names_and_rows_without_order():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.arange(12.0).reshape(4, 3), index=[9, 9, 1, 2])
    assert learnt(frame)[0].names == ["0", "1", "2"]
    assert frame.columns.tolist() == [0, 1, 2]


def test_arrays_by_their_places():
    A = np.random.default_rng(0).normal(size=(3, 30))[:, ::2].T
    arrays = columns_of_array(A, ["a", "b", "c"])
    X = Preprocessing.fit(arrays).transform(arrays)
    for j in range(3):
        assert X[j].tobytes() == learnt_of(A[:, j].tolist())[1][0].tobytes()


# ---- which columns ----


def test_columns_missing_are_named_and_others_ignored(framed):
    frame = framed(pa.table({"b": [1.0, 2.0], "more": ["x", "y"], "a": [3.0, 4.0]}))
    assert list(columns_of(frame, ["a", "b"])) == ["a", "b"]
    assert columns_of(frame, ["a"])["a"].to_pylist() == [3.0, 4.0]
    with pytest.raises(ValueError, match=r"X lacks the columns 'c', 'd', .*it has 'b', 'more', 'a'"):
        columns_of(frame, ["a", "c", "d"])


def test_nested_columns_are_named_all_at_once(framed):
    table = pa.table({"list": [[1], [2]], "n": [1.0, 2.0], "struct": [{"a": 1}, {"a": 2}]})
    with pytest.raises(TypeError, match=r"'list' \(.*'struct' \(.*ignore") as caught:
        Preprocessing.fit(columns_of(framed(table)))
    assert "'n'" not in str(caught.value)
    assert Preprocessing.fit(columns_of(framed(table)), {"list": "ignore", "struct": "ignore"}).names == ["n"]


def test_a_column_of_bytes_is_refused():
    with pytest.raises(TypeError, match="'c'"):
        Preprocessing.fit(columns_of(pa.table({"c": [b"a", b"b"], "n": [1, 2]})))


def test_names_that_are_there_twice(framed):
    table = pa.table([[1, 2], [3, 4], [5, 6]], names=["a", "b", "a"])
    if framed in (LIBRARIES["polars"], LIBRARIES["narwhals"]):
        pytest.skip("its frames can't have them")
    with pytest.raises(ValueError, match=r"several columns named .*a"):
        columns_of(framed(table))


def test_what_says_nothing_is_left_out_in_one_warning(framed):
    table = pa.table(
        {
            "one": [1.0] * 9,
            "none": pa.nulls(9, pa.float64()),
            "n": range(9),
            "same": ["a"] * 9,
            "nothing": pa.nulls(9, pa.string()),
            "unwanted": range(9),
        }
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        preprocessing = Preprocessing.fit(columns_of(framed(table)), {"unwanted": "ignore"})
    (warning,) = caught
    assert warning.category is TabularWarning
    for part in ("'one', 'same' (constant)", "'none', 'nothing' (all missing)"):
        assert part in str(warning.message)
    assert "unwanted" not in str(warning.message)
    assert preprocessing.names == ["n"]
    assert set(preprocessing.left_out) == {"one", "none", "same", "nothing", "unwanted"}


def test_nothing_left_to_learn_from():
    arrays = columns_of(pa.table({"one": [1.0, 1.0], "none": pa.nulls(2)}))
    with (
        pytest.warns(TabularWarning),
        pytest.raises(ValueError, match=r"no column to learn from: 'one' \(constant\); 'none' \(all missing\)"),
    ):
        Preprocessing.fit(arrays)


def test_column_types_of_columns_whose_names_are_numbers():
    pd = pytest.importorskip("pandas")
    A = np.arange(24.0).reshape(12, 2) % 5
    for arrays in (columns_of(pd.DataFrame(A)), columns_of_array(A, ["x0", "x1"])):
        for wanted in ({0: "category"}, {np.int64(0): "category"}, {next(iter(arrays)): "category"}):
            preprocessing = Preprocessing.fit(arrays, wanted)
            assert [column.kind for column in preprocessing.columns] == ["category", "number"]
        with pytest.raises(ValueError, match="column_types names '2', which X doesn't have"):
            Preprocessing.fit(arrays, {2: "category"})
        with pytest.raises(ValueError, match=r"column_types has 'x?1' twice, the second time as 1"):
            Preprocessing.fit(arrays, {list(arrays)[1]: "number", 1: "category"})


def test_column_types_that_are_wrong():
    arrays = columns_of(pa.table({"a": [1, 2], "b": [1, 2]}))
    with pytest.raises(ValueError, match=r"column_types names 'x', 'y', .* it has 'a', 'b'"):
        Preprocessing.fit(arrays, {"x": "number", "a": "number", "y": "date"})
    with pytest.raises(ValueError, match=r"must be 'number', 'category', 'date', 'ignore'; got {'b': 'text'}"):
        Preprocessing.fit(arrays, {"a": "number", "b": "text"})


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinity_is_named(framed, value):
    frame = framed(pa.table({"a": [1.0, 2.0, 3.0], "b": [1.0, None, value]}))
    with pytest.raises(ValueError, match=rf"column 'b' of X, row 2 holds {value}"):
        Preprocessing.fit(columns_of(frame))


def test_numbers_too_large_to_be_scaled():
    with pytest.raises(ValueError, match=r"column 'c' has numbers too large to be scaled, up to 1.7e\+308"):
        learnt_of([-1.7e308, -1.7e308, 0.0, 1.7e308, 1.7e308])


def test_other_types_at_prediction():
    preprocessing, _ = learnt(pa.table({"a": [1.0, 2.0, 5.0], "d": [dt.date(2020, 1, day) for day in (1, 2, 9)]}))
    days = [dt.date(2020, 1, 5)]
    # numbers in texts are numbers
    X = preprocessing.transform(columns_of(pa.table({"a": ["2"], "d": days})))
    assert X[0, 0] == 0
    with pytest.raises(ValueError, match="column 'a' of eval, row 1 holds 'two'"):
        preprocessing.transform(columns_of(pa.table({"a": ["2", "two"], "d": 2 * days})), "eval")
    with pytest.raises(ValueError, match=r"column 'a' of X must hold numbers; got date32"):
        preprocessing.transform(columns_of(pa.table({"a": days, "d": days})))
    with pytest.raises(ValueError, match="column 'd' of X must hold dates or times; got double"):
        preprocessing.transform(columns_of(pa.table({"a": [1.0], "d": [1.5]})))
    said = r"^column 'a' of X, row 0 holds 'x', .* says; column 'd' of X must hold dates or times; got double$"
    with pytest.raises(ValueError, match=said):
        preprocessing.transform(columns_of(pa.table({"a": ["x"], "d": [1.5]})))


def test_types_that_are_wrong_in_training_are_named_all_at_once():
    table = pa.table({"a": ["x", "y"], "b": [1.0, math.inf], "c": [1, 2], "n": [1.0, 2.0]})
    said = "'a' of X, row 0 holds 'x'.*; column 'b' of X, row 1 holds inf.*; column 'c' of X must hold dates"
    with pytest.raises(ValueError, match=said):
        Preprocessing.fit(columns_of(table), {"a": "number", "c": "date"})
    many = {f"c{i}": ["x", "y"] for i in range(14)}
    with pytest.raises(ValueError, match=r"'c0' .*'c9' .*; and 4 columns more$"):
        Preprocessing.fit(columns_of(many), dict.fromkeys(many, "number"))


def test_all_missing_at_prediction():
    """Whatever type a library gives to a column of nothing."""
    preprocessing, _ = learnt(mixed())
    nothing = pa.table({name: pa.nulls(2) for name in preprocessing.names})
    X = preprocessing.transform(columns_of(nothing))
    missing = [row.part == "missing" for row in preprocessing.rows]
    np.testing.assert_array_equal(X, np.repeat(np.array(missing, np.float32)[:, None], 2, axis=1))


# ---- as JSON ----


def test_preprocessing_comes_back_from_json_to_the_last_bit():
    table = mixed()
    preprocessing, X = learnt(table, {"all there": "category", "int": "ignore"})
    text = json.dumps(preprocessing.to_dict(), allow_nan=False)
    back = Preprocessing.from_dict(json.loads(text))
    assert back.to_dict() == preprocessing.to_dict()
    assert back.left_out == {"int": "as asked for"}
    assert back.transform(columns_of(table)).tobytes() == X.tobytes()
    assert back.rows == preprocessing.rows


DAMAGE = {
    "no columns": lambda d: d.pop("columns"),
    "no left out": lambda d: d.pop("left_out"),
    "columns empty": lambda d: d.update(columns=[]),
    "columns a number": lambda d: d.update(columns=3),
    "columns of numbers": lambda d: d.update(columns=[1, 2]),
    "columns a text": lambda d: d.update(columns="abc"),
    "twice": lambda d: d["columns"].append(d["columns"][0]),
    "left out a list": lambda d: d.update(left_out=["a"]),
    "left out a number": lambda d: d.update(left_out=7),
    "no kind": lambda d: d["columns"][0].pop("kind"),
    "unknown kind": lambda d: d["columns"][0].update(kind="text"),
    "kind a list": lambda d: d["columns"][0].update(kind=[]),
    "no name": lambda d: d["columns"][0].pop("name"),
    "name a number": lambda d: d["columns"][0].update(name=3),
    "name a list": lambda d: d["columns"][0].update(name=["a"]),
    "more": lambda d: d["columns"][0].update(color="red"),
    "median none": lambda d: d["columns"][0].update(median=None),
    "median NaN": lambda d: d["columns"][0].update(median=math.nan),
    "median too large": lambda d: d["columns"][0].update(median=10**400),
    "median a word": lambda d: d["columns"][0].update(median="big"),
    "scale 0": lambda d: d["columns"][0].update(scale=0),
    "scale negative": lambda d: d["columns"][0].update(scale=-1.0),
    "scale infinite": lambda d: d["columns"][0].update(scale=math.inf),
    "scale a list": lambda d: d["columns"][0].update(scale=[1]),
    "flag a text": lambda d: d["columns"][0].update(flag="no"),
    "no levels": lambda d: d["columns"][1].pop("levels"),
    "levels empty": lambda d: d["columns"][1].update(levels=[]),
    "holds a number": lambda d: d["columns"][1].update(holds=1),
    "holds something else": lambda d: d["columns"][1].update(holds="lists"),
    "levels numbers": lambda d: d["columns"][1].update(levels=[1, 2]),
    "levels none": lambda d: d["columns"][1].update(levels=None),
    "levels a text": lambda d: d["columns"][1].update(levels="abc"),
    "levels twice": lambda d: d["columns"][1].update(levels=["a", "b", "a"]),
    "levels a dict": lambda d: d["columns"][1].update(levels={"a": 1, "b": 2, "c": 3}),
    "parts unknown": lambda d: d["columns"][2].update(parts=["minute"]),
    "parts in another order": lambda d: d["columns"][2].update(parts=["season", "hour"]),
    "parts twice": lambda d: d["columns"][2].update(parts=["hour", "hour"]),
    "parts a number": lambda d: d["columns"][2].update(parts=1),
    "zone a text": lambda d: d["columns"][2].update(zone="UTC"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_damaged_dicts_are_refused(damage):
    table = pa.table(
        {
            "n": [1.0, 2.0, None],
            "c": ["a", "b", "c"],
            "d": [dt.datetime(2020, 1, 1), dt.datetime(2022, 2, 3, 4), dt.datetime(2023, 1, 1)],
        }
    )
    entry = json.loads(json.dumps(learnt(table)[0].to_dict()))
    Preprocessing.from_dict(json.loads(json.dumps(entry)))
    damage(entry)
    with pytest.raises((TypeError, ValueError, KeyError)):
        Preprocessing.from_dict(entry)


def test_it_prints_as_a_table_of_columns():
    said = str(learnt(mixed(), {"int": "ignore"})[0])
    for name in mixed().column_names:
        assert name in said
    assert "as asked for" in said
