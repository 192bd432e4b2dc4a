"""Tables for the tests of nnkern.tabular, the libraries that they come from, and small models of them."""

import datetime as dt

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.7")
pytest.importorskip("narwhals")
pytest.importorskip("pyarrow")

import narwhals as nw
import pyarrow as pa

from nnkern.tabular import Recipe, TabularClassifier, TabularRegressor

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


def classifier(epochs=4, **options):
    return TabularClassifier(**{"recipes": [Recipe(epochs=epochs)], "random_state": 0, "threads": 1, **options})


def regressor(epochs=4, **options):
    return TabularRegressor(**{"recipes": [Recipe(epochs=epochs)], "random_state": 0, "threads": 1, **options})


def people(m=120, seed=0):
    """A table about which there is nothing to warn of, with holes in age and town; `ill` and `cost` hang on both."""
    rng = np.random.default_rng(seed)
    age, town = rng.normal(40, 12, m), rng.choice(["Ulm", "Bonn", "Kiel"], m)
    hidden = (age - 40) / 12 + np.where(town == "Ulm", 1.0, -0.5) + 0.3 * rng.normal(size=m)
    day = dt.datetime(2020, 1, 1)
    return pa.table(
        {
            "age": pa.array(age, mask=rng.random(m) < 0.1),
            "town": pa.array(town.tolist(), mask=rng.random(m) < 0.1),
            "member": rng.random(m) < 0.5,
            "since": [day + dt.timedelta(hours=int(h)) for h in rng.integers(0, 20_000, m)],
            "ill": np.where(hidden > 0, "yes", "no").tolist(),
            "cost": 1000 + 200 * hidden,
        }
    )


FEATURES = ["age", "town", "member", "since"]


def outputs(model, X):
    return (model.predict_proba if hasattr(model, "predict_proba") else model.predict)(X)


def bits(model, X):
    return outputs(model, X).tobytes()


def replaced(table, name, values, type=None):
    return table.set_column(table.column_names.index(name), name, pa.array(values, type))


# ---- fixtures, for the modules that import them ----


@pytest.fixture(scope="module")
def table():
    return people()


@pytest.fixture(scope="module")
def X(table):
    return table.select(FEATURES)


@pytest.fixture(scope="module")
def y(table):
    return table["ill"].to_pylist()


@pytest.fixture(scope="module")
def fitted(X, y):
    return classifier().fit(X, y)


@pytest.fixture(scope="module")
def fitted_regressor(X, table):
    return regressor().fit(X, table["cost"].to_numpy())


@pytest.fixture(scope="module", params=["classifier", "regressor"])
def either(request, fitted, fitted_regressor):
    return {"classifier": fitted, "regressor": fitted_regressor}[request.param]


@pytest.fixture(params=LIBRARIES.values(), ids=list(LIBRARIES))
def framed(request):
    return request.param
