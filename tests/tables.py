"""Tables for the tests of nnkern.tabular, and the libraries that they come from."""

import datetime as dt

import numpy as np
import pytest

pytest.importorskip("narwhals")
pytest.importorskip("pyarrow")

import narwhals as nw
import pyarrow as pa

UTC = dt.UTC


def from_pandas(table):
    """As pandas has it without a wish for Arrow's types: holes among whole numbers make them floats."""
    pytest.importorskip("pandas")
    return table.to_pandas()


def from_pandas_arrow(table):
    return table.to_pandas(types_mapper=pytest.importorskip("pandas").ArrowDtype)


def from_polars(table):
    return pytest.importorskip("polars").from_arrow(table)


LIBRARIES = {
    "pyarrow": lambda table: table,
    "pandas": from_pandas,
    "pandas of arrow": from_pandas_arrow,
    "polars": from_polars,
    "narwhals": lambda table: nw.from_native(table, eager_only=True),
}


def mixed(m=60):
    """An Arrow table with a column of every kind, each with holes."""
    rng = np.random.default_rng(3)

    def holes(values, type=None):
        return pa.array([None if i % 7 == 3 else value for i, value in enumerate(values)], type)

    towns = rng.choice(["Ulm", "Köln", "", "x y"], m).tolist()
    day = dt.datetime(2020, 1, 1)
    moments = [day + dt.timedelta(seconds=int(s)) for s in rng.integers(0, 9 * 10**7, m)]
    return pa.table(
        {
            "float": holes(rng.normal(size=m).tolist()),
            "float32": holes(rng.normal(size=m).tolist(), pa.float32()),
            "int": holes(rng.integers(-50, 50, m).tolist()),
            "all there": pa.array(rng.integers(0, 9, m)),
            "bool": holes((rng.random(m) < 0.4).tolist()),
            "text": holes(towns),
            "large text": holes(towns, pa.large_string()),
            "categorical": holes(towns).dictionary_encode(),
            "time": holes(moments, pa.timestamp("us")),
            "zone": holes([moment.replace(tzinfo=UTC) for moment in moments], pa.timestamp("us", "Europe/Berlin")),
            "date": holes([moment.date() for moment in moments], pa.date32()),
            "duration": holes([moment - day for moment in moments], pa.duration("us")),
        }
    )
