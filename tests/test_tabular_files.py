"""Files of tables' models: what goes round comes round, in a fresh process too; a bad file is a ModelFormatError."""

import io
import json
import math
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import textwrap
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.7")
pytest.importorskip("narwhals")
pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import run
from tables import bits, mixed, regressor

import nnkern as nk
from nnkern import tabular
from nnkern.tabular import Recipe, TabularClassifier, TabularRegressor
from nnkern.tabular.recipes import Preset

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits, signals and memory as Linux counts them")

TABLE = mixed(80)
FEW = {"recipes": [Recipe(epochs=2, units=(8,))], "random_state": 0, "threads": 1}


def outputs(model, X=TABLE):
    return (model.predict_proba if hasattr(model, "predict_proba") else model.predict)(X)


def trained(kind):
    rng = np.random.default_rng(0)
    if kind == "regressor":
        return TabularRegressor(**FEW, n_estimators=2).fit(TABLE, 50 + 10 * rng.normal(size=80))
    labels = ["a", "b"] if kind == "of two" else ["x", "y", "z"]
    model = TabularClassifier(**FEW, column_types={"int": "category", "float32": "ignore"}, class_weight="balanced")
    return model.fit(TABLE, rng.choice(labels, 80))


@pytest.fixture(scope="module", params=["of two", "of three", "regressor"])
def model(request):
    return trained(request.param)


@pytest.fixture(scope="module")
def of_three():
    return trained("of three")


@pytest.fixture(scope="module")
def good(of_three, tmp_path_factory):
    """The bytes of a file."""
    path = tmp_path_factory.mktemp("good") / "model.npz"
    of_three.save(path)
    return path.read_bytes()


# ---- round trip ----


def test_what_was_saved_is_loaded(model, tmp_path):
    path = tmp_path / "model.npz"
    model.save(path)
    for loaded in (tabular.load(path), type(model).load(path), tabular.load(os.fsencode(path))):
        assert type(loaded) is type(model)
        assert outputs(loaded).tobytes() == outputs(model).tobytes()
        assert loaded.predict(TABLE).tolist() == model.predict(TABLE).tolist()
        assert loaded.feature_names_in_.tolist() == TABLE.column_names
        assert loaded.n_features_in_ == model.n_features_in_
        assert str(loaded.columns_) == str(model.columns_)
        assert loaded.model_.weights.tolist() == model.model_.weights.tolist()
        assert [net.config() for net in loaded.networks_] == [net.config() for net in model.networks_]
        assert loaded.get_params() == model.get_params()
        assert loaded.report_ == model.report_
        assert (loaded.score_, loaded.interrupted_) == (model.score_, False)
        row = TABLE.to_pylist()[2]
        assert loaded.predict_one(row) == model.predict_one(row)
        explanation, found = model.explain(TABLE, steps=2), loaded.explain(TABLE, steps=2)
        assert found.base.tobytes() == explanation.base.tobytes()
        for name, values in explanation.added.items():
            assert found.added[name].tobytes() == values.tobytes()
    again = tmp_path / "again.npz"
    tabular.load(path).save(again)
    assert outputs(tabular.load(again)).tobytes() == outputs(model).tobytes()


def test_the_same_model_the_same_bytes(model, tmp_path):
    for name in "ab":
        model.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_fresh_process_predicts_the_same(tmp_path):
    kinds = ["of two", "of three", "regressor"]
    models = {kind: trained(kind) for kind in kinds}
    for kind, model in models.items():
        model.save(tmp_path / f"{kind}.npz")
    pq.write_table(TABLE, tmp_path / "table.parquet")
    code = f"""
        import os, sys
        import pyarrow.parquet as pq
        from nnkern.tabular import load
        os.chdir({str(tmp_path)!r})
        table = pq.read_table("table.parquet")
        rows = table.to_pylist()
        for kind in {kinds}:
            model = load(kind + ".npz")
            print((model.predict_proba if hasattr(model, "predict_proba") else model.predict)(table).tobytes().hex())
            print([str(model.predict_one(row)) for row in rows[:20]])
        print(sorted(name for name in ("onnx", "torch", "matplotlib") if name in sys.modules))
    """
    *lines, others = run(code).splitlines()
    assert others == "[]"
    for model, out, ones in zip(models.values(), lines[::2], lines[1::2], strict=True):
        assert out == outputs(model).tobytes().hex()
        assert ones == str([str(model.predict_one(row)) for row in TABLE.to_pylist()[:20]])


def test_tables_without_names_come_back_without(tmp_path):
    A = np.random.default_rng(0).normal(size=(60, 3))
    model = TabularRegressor(**FEW).fit(A, A[:, 0])
    model.save(tmp_path / "m.npz")
    loaded = TabularRegressor.load(tmp_path / "m.npz")
    assert not hasattr(loaded, "feature_names_in_")
    assert loaded.predict(A).tobytes() == model.predict(A).tobytes()
    with pytest.raises(ValueError, match="X has 2 features, but TabularRegressor is expecting 3 features"):
        loaded.predict(A[:, :2])


def test_columns_left_out_come_back_left_out(tmp_path):
    X = pa.table({"one": [1] * 60, "a": np.arange(60.0) % 7, "never": ["x"] * 60})
    with pytest.warns(tabular.TabularWarning):
        model = TabularRegressor(**FEW).fit(X, np.arange(60) % 5)
    model.save(tmp_path / "m.npz")
    loaded = tabular.load(tmp_path / "m.npz")
    assert loaded.columns_.left_out == model.columns_.left_out == {"one": "constant", "never": "constant"}
    assert loaded.feature_names_in_.tolist() == ["one", "a", "never"]
    assert loaded.predict(X.select(["a"])).tobytes() == model.predict(X).tobytes()


def test_names_of_columns_in_any_alphabet(tmp_path):
    names = ["größe", "", "a/b", "0.W1", "header", "名前", "x" * 500]
    X = pa.table({name: np.random.default_rng(i).normal(size=40) for i, name in enumerate(names)})
    model = TabularRegressor(**FEW).fit(X, np.arange(40) % 5)
    model.save(tmp_path / "m.npz")
    loaded = tabular.load(tmp_path / "m.npz")
    assert loaded.feature_names_in_.tolist() == names
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()


def test_a_loaded_model_can_be_trained_again_and_pickled(model, tmp_path):
    model.save(tmp_path / "m.npz")
    loaded = tabular.load(tmp_path / "m.npz")
    assert outputs(pickle.loads(pickle.dumps(loaded))).tobytes() == outputs(model).tobytes()
    A = np.random.default_rng(0).normal(size=(40, 2))
    loaded.set_params(recipes=FEW["recipes"], column_types=None).fit(A, A[:, 0] > 0)
    assert loaded.predict(A).shape == (40,)


def test_a_random_state_that_is_an_object_isnt_saved(tmp_path):
    A = np.random.default_rng(0).normal(size=(40, 2))
    model = TabularRegressor(**{**FEW, "random_state": np.random.RandomState(0)}).fit(A, A[:, 0])
    model.save(tmp_path / "m.npz")
    assert tabular.load(tmp_path / "m.npz").random_state is None


@pytest.mark.parametrize(
    "recipes",
    [FEW["recipes"][0], FEW["recipes"] * 2, Preset(FEW["recipes"], 2), None],
    ids=["one", "two", "preset", "-"],
)
def test_recipes_of_every_form_come_back(recipes, tmp_path):
    A = np.random.default_rng(0).normal(size=(40, 2))
    options = {**FEW, "recipes": recipes, **({} if recipes else {"time_limit": 1e-3})}
    model = TabularRegressor(**options).fit(A, A[:, 0])
    if recipes is not None:
        assert len(model.report_) == (1 if isinstance(recipes, Recipe) else 2)
    model.save(tmp_path / "m.npz")
    loaded = tabular.load(tmp_path / "m.npz")
    assert loaded.recipes == recipes
    assert loaded.get_params() == model.get_params()
    if recipes is not None:
        assert loaded.fit(A, A[:, 0]).predict(A).tobytes() == model.predict(A).tobytes()


def test_a_score_that_isnt_defined_comes_back(tmp_path):
    A = np.random.default_rng(0).normal(size=(40, 2))
    y = np.arange(40) % 2
    model = TabularClassifier(**FEW, metric="auc").fit(A, y, eval_set=(A[y == 1], y[y == 1]))
    model.save(tmp_path / "m.npz")
    loaded = tabular.load(tmp_path / "m.npz")
    assert [type(value) for value in loaded.report_[0].values()] == [type(value) for value in model.report_[0].values()]
    assert math.isnan(model.score_)
    assert math.isnan(loaded.score_)
    assert math.isnan(loaded.report_[0]["score"])


def test_parameters_of_numpys_types(tmp_path):
    A = np.random.default_rng(0).normal(size=(40, 2))
    options = {"random_state": np.int64(3), "n_estimators": np.int32(1), "validation_fraction": np.float32(0.25)}
    model = TabularRegressor(**{**FEW, **options}).fit(A, A[:, 0])
    model.save(tmp_path / "m.npz")
    loaded = tabular.load(tmp_path / "m.npz")
    assert (loaded.random_state, loaded.n_estimators, loaded.validation_fraction) == (3, 1, 0.25)


@pytest.mark.parametrize("labels", [["a", "b"], [3, 1], [True, False], [4.0, 1.0]], ids=repr)
def test_class_weights_by_label(labels, tmp_path):
    A = np.random.default_rng(0).normal(size=(40, 2))
    y = np.array(labels)[(A[:, 0] > 0).astype(int)]
    weight = {label: 2 + i for i, label in enumerate(np.unique(y))}
    model = TabularClassifier(**FEW, class_weight=weight).fit(A, y)
    model.save(tmp_path / "m.npz")
    loaded = tabular.load(tmp_path / "m.npz")
    assert loaded.class_weight == weight
    model.set_params(class_weight={}).save(tmp_path / "m.npz")
    assert tabular.load(tmp_path / "m.npz").class_weight == {}
    assert loaded.predict(A).tolist() == model.predict(A).tolist()
    assert loaded.classes_.dtype == model.classes_.dtype


# ---- files of other kinds ----


def test_files_of_networks_and_of_tables_know_each_other(of_three, tmp_path):
    table, network = tmp_path / "table.npz", tmp_path / "network.npz"
    of_three.save(table)
    of_three.network_.save(network)
    with pytest.raises(nk.ModelFormatError, match=rf"{re.escape(str(table))}.*nnkern\.tabular\.load"):
        nk.load(table)
    with pytest.raises(nk.ModelFormatError, match=rf"{re.escape(str(network))}.*nnkern\.load"):
        tabular.load(network)
    assert nk.load(network) == of_three.network_


def test_models_of_the_other_task(model, tmp_path):
    path = tmp_path / "m.npz"
    model.save(path)
    other = TabularRegressor if isinstance(model, TabularClassifier) else TabularClassifier
    with pytest.raises(nk.ModelFormatError, match=rf"{re.escape(str(path))}.*other task.*nnkern\.tabular\.load"):
        other.load(path)


@pytest.mark.parametrize("ending", [".onnx", ".pt", ".pkl", ".joblib", ".h5", ".c", ".ONNX", ".safetensors"])
def test_names_of_other_formats_are_refused(of_three, tmp_path, ending):
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"what was there")
    words = f"a table's model is saved as .npz only, and {path} ends as files of another format do: to_onnx(path)"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        of_three.save(path)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        tabular.load(path)
    assert path.read_bytes() == b"what was there"


@pytest.mark.parametrize("ending", [".npz", ".pt", ".pkl", ".h5", ".onnx", ".c", ".safetensors"])
def test_exports_refuse_the_names_of_other_formats(of_three, tmp_path, ending):
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"what was there")
    if ending != ".onnx":
        with pytest.raises(ValueError, match=rf"^to_onnx writes ONNX, and {re.escape(str(path))} ends .*save\(path\)"):
            of_three.to_onnx(path)
    if ending != ".c":
        with pytest.raises(ValueError, match=rf"^to_c writes C, and {re.escape(str(path))} ends .*save\(path\)"):
            of_three.to_c(path)
    assert path.read_bytes() == b"what was there"


@pytest.mark.parametrize("where", ["missing/m.npz", ".", "file/m.npz"])
def test_places_that_cannot_be_written(of_three, tmp_path, where):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        of_three.save(tmp_path / where)
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        tabular.load(tmp_path / where)
    assert os.listdir(tmp_path) == ["file"]


@linux
@pytest.mark.no_sanitizer
def test_a_disk_that_fills_up_keeps_the_old_file(good, tmp_path):
    """RLIMIT_FSIZE stands for the full disk."""
    path, other = tmp_path / "m.npz", tmp_path / "other.npz"
    path.write_bytes(good)
    other.write_bytes(good)
    limit = len(good) // 2
    code = f"""
        import resource, signal
        from nnkern.tabular import load
        model = load({str(other)!r})
        model.save({str(other)!r})  # with what it imports
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
        try:
            model.save({str(path)!r})
        except OSError as error:
            print(type(error).__name__)
    """
    assert run(code) == "OSError\n"
    assert path.read_bytes() == good
    assert sorted(os.listdir(tmp_path)) == ["m.npz", "other.npz"]


@linux
@pytest.mark.no_sanitizer
def test_killed_at_random_moments(good, of_three, tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(good)
    code = f"""
        from nnkern.tabular import load
        model = load({str(path)!r})
        print("go", flush=True)
        while True:
            model.save({str(path)!r})
    """
    rng = random.Random(0)
    for _ in range(1):
        command = [sys.executable, "-P", "-c", textwrap.dedent(code)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"go\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.01, 0.05))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert outputs(tabular.load(path)).tobytes() == outputs(of_three).tobytes()


# ---- damaged and hostile files ----


def assert_refused(path, words=""):
    with pytest.raises(nk.ModelFormatError) as caught:
        tabular.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert re.search(words, message.replace(str(path), ""))
    return message


def members(good):
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def npy(array, *, allow_pickle=False):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=allow_pickle)
    return file.getvalue()


def with_header(good, change):
    """The members of a good file, its header changed in place."""
    contents = members(good)
    header = json.loads(np.load(io.BytesIO(contents["header.npy"])).tobytes())
    header = change(header) or header
    contents["header.npy"] = npy(np.frombuffer(json.dumps(header).encode(), np.uint8))
    return contents


def test_a_file_is_an_ordinary_npz_without_pickle(good, tmp_path):
    path = write_members(tmp_path / "m.npz", members(good))
    with np.load(path) as archive:
        assert "header" in archive
        assert all(archive[name].dtype.kind in "uf" for name in archive)
    assert tabular.load(write_members(path, with_header(good, lambda header: None))) is not None


def test_every_truncation(good, tmp_path):
    path = tmp_path / "m.npz"
    for length in range(0, len(good), max(1, len(good) // 150)):
        path.write_bytes(good[:length])
        assert_refused(path)


def same_unless_refused(path, content, expected):
    """Whether a file of this content was taken; then it must be the same model."""
    path.write_bytes(content)
    try:
        model = tabular.load(path)
    except nk.ModelFormatError:
        return False
    assert outputs(model).tobytes() == expected
    return True


def test_bits_flipped_at_random(good, of_three, tmp_path):
    """The same model or a ModelFormatError: zip's checksums tell."""
    rng, expected = random.Random(1), outputs(of_three).tobytes()
    taken = 0
    for _ in range(200):
        content = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        taken += same_unless_refused(tmp_path / "m.npz", bytes(content), expected)
    assert taken < 100


def test_bytes_cut_out_and_put_in_at_random(good, of_three, tmp_path):
    rng, expected = random.Random(2), outputs(of_three).tobytes()
    for _ in range(100):
        content = bytearray(good)
        position, count = rng.randrange(len(content)), rng.randint(1, 40)
        if rng.random() < 0.5:
            del content[position : position + count]
        else:
            content[position:position] = rng.randbytes(count)
        same_unless_refused(tmp_path / "m.npz", bytes(content), expected)


def use(model):
    """All that a caller may do with what was loaded; whatever it holds, it works or says in an exception why not."""
    A = {name: np.zeros(2) for name in model.columns_.names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in (
            lambda: model.predict(A),
            lambda: model.predict_one(dict.fromkeys(A)),
            lambda: model.explain(A, steps=1),
            lambda: model.fit(np.ones((4, 1)), [0, 1, 0, 1]),
            lambda: repr(model),
        ):
            try:
                call()
            except (TypeError, ValueError, NotImplementedError):
                continue


def places(value, path=()):
    """Every place within what JSON holds."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


STRANGE = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**400,
    1.5,
    1e308,
    "",
    "x",
    "number",
    [],
    [1],
    ["a", "b"],
    {},
    {"a": 1},
]


def test_headers_changed_at_random(good, tmp_path):
    """Under right checksums. What is taken after all can be used, or says why not."""
    header = json.loads(np.load(io.BytesIO(members(good)["header.npy"])).tobytes())
    everywhere = [path for path in places(header) if path]
    rng = random.Random(3)
    refused = 0
    for _ in range(300):
        *way, last = rng.choice(everywhere)

        def change(header, way=way, last=last):
            for key in way:
                header = header[key]
            if rng.random() < 0.2 and isinstance(header, list):
                header.append(header[last])
            elif rng.random() < 0.2:
                del header[last]
            else:
                header[last] = rng.choice(STRANGE)

        path = write_members(tmp_path / "m.npz", with_header(good, change))
        try:
            model = tabular.load(path)
        except nk.ModelFormatError:
            refused += 1
            continue
        use(model)
    assert refused > 150


MORE = {"kind": "number", "name": "q", "median": 0, "scale": 1}
NUMBERS = {"task": "regression", "mean": 0, "scale": 1, "low": 0, "high": 1}
LIES = {
    "no preprocessing": (lambda h: h.pop("preprocessing") and None, ""),
    "no networks": (lambda h: h.update(networks=[]), ""),
    "no target": (lambda h: h.pop("target") and None, ""),
    "weights NaN": (lambda h: h.update(weights=[math.nan]), "NaN"),
    "weights infinite": (lambda h: h.update(weights=[math.inf]), "Infinity"),
    "weights negative": (lambda h: h.update(weights=[-1.0]), "weights"),
    "weights that don't add up": (lambda h: h.update(weights=[0.5]), "weights"),
    "weights too many": (lambda h: h.update(weights=[0.5, 0.5]), "weights"),
    "weights texts": (lambda h: h.update(weights=["1"]), ""),
    "weights nested": (lambda h: h.update(weights=[[1.0]]), ""),
    "weights none": (lambda h: h.update(weights=[]), "weights"),
    "weights a number": (lambda h: h.update(weights=1.0), ""),
    "one column more": (lambda h: h["preprocessing"]["columns"].append(MORE), ""),
    "one column fewer": (lambda h: h["preprocessing"]["columns"].pop() and None, ""),
    "a column without a place": (lambda h: h["preprocessing"]["columns"][0].update(name="nowhere"), "names"),
    "a column twice": (lambda h: h["preprocessing"]["columns"].append(h["preprocessing"]["columns"][0]), ""),
    "one category more": (lambda h: category(h)["levels"].append("new"), "codes"),
    "a category twice": (lambda h: category(h)["levels"].__setitem__(0, category(h)["levels"][1]), "twice"),
    "one label more": (lambda h: h["target"]["labels"].append("zz"), ""),
    "one label fewer": (lambda h: h["target"]["labels"].pop() and None, ""),
    "a label twice": (lambda h: h["target"].update(labels=["x", "x", "z"]), r"the labels are \['x', 'x', 'z'\]$"),
    "one label": (lambda h: h["target"].update(labels=["x"]), r"the labels are \['x'\]$"),
    "a record of no target": (lambda h: told(h, target=3), "record of its training is .*3"),
    "a record of a weight's number": (lambda h: told(h, weight=3), "record of its training is .*'weight': 3"),
    "a baseline too short": (lambda h: told(h, baseline=[0.5, 0.5]), "record of its training is"),
    "a baseline of none": (lambda h: told(h, baseline=[0.5, 0.5, math.nan]), "NaN"),
    "a baseline beyond": (lambda h: told(h, baseline=[0.5, 0.5, "inf"]), "record of its training is"),
    "no scale": (lambda h: h.update(target=NUMBERS | {"scale": 0}), "the target is {'mean': 0, 'scale': 0, "),
    "a scale below 0": (lambda h: h.update(target=NUMBERS | {"scale": -1}), "the target is {'mean': 0, 'scale': -1, "),
    "an infinite mean": (lambda h: h.update(target=NUMBERS | {"mean": "inf"}), "the target is {'mean': 'inf', "),
    "class weights of no pairs": (lambda h: h["parameters"].update(class_weight=[["x"]]), "its class_weight is none"),
    "class weights too few": (
        lambda h: h["parameters"].update(class_weight=[["x", "y"], [1.0]]),
        "its class_weight is none",
    ),
    "class weights of lists": (
        lambda h: h["parameters"].update(class_weight=[[["x"]], [1.0]]),
        "its class_weight is none",
    ),
    "labels not sorted": (lambda h: h["target"].update(labels=["z", "x", "y"]), "labels"),
    "labels numbers": (lambda h: h["target"].update(labels=[1, 2, 3]), "labels"),
    "labels nested": (lambda h: h["target"].update(labels=[["x"], ["y"], ["z"]]), ""),
    "labels of dates": (lambda h: h["target"].update(kind="datetime64[s]"), ""),
    "labels of records": (lambda h: h["target"].update(kind="i4,i4"), ""),
    "labels of numbers": (lambda h: h["target"].update(kind="int64"), ""),
    "labels of nothing": (lambda h: h["target"].update(kind=None), ""),
    "another task": (lambda h: h.update(target=NUMBERS), ""),
    "a task of none": (lambda h: h["target"].update(task="ranking"), ""),
    "n_x more": (lambda h: h["networks"][0].update(n_x=h["networks"][0]["n_x"] + 1), ""),
    "n_x huge": (lambda h: h["networks"][0].update(n_x=2**62), ""),
    "n_x text": (lambda h: h["networks"][0].update(n_x="7"), ""),
    "units huge": (lambda h: config(h)["layers"][-1].update(units=2**40), ""),
    "units negative": (lambda h: config(h)["layers"][-1].update(units=-3), ""),
    "layers many": (lambda h: config(h).update(layers=config(h)["layers"] * 9), "layers"),
    "layers none": (lambda h: config(h).update(layers=[]), ""),
    "layers a number": (lambda h: config(h).update(layers=3), ""),
    "another loss": (lambda h: config(h).update(loss="squared_error"), ""),
    "an encoder of another row": (lambda h: encoder(h).update(row=0), ""),
    "an encoder of no row": (lambda h: encoder(h).update(row=10**6), ""),
    "codes too few": (lambda h: encoder(h).update(size=1), ""),
    "networks a dict": (lambda h: h.update(networks={"0": h["networks"][0]}), ""),
    "one network more": (lambda h: h["networks"].append(h["networks"][0]), ""),
    "names numbers": (lambda h: h.update(names=[1] * len(h["names"])), "names"),
    "a name a number": (lambda h: h["names"].append(7), "names"),
    "names none": (lambda h: h.update(names=None), ""),
    "names fewer": (lambda h: h["names"].pop() and None, ""),
    "names twice": (lambda h: h["names"].append(h["names"][0]), ""),
    "named a text": (lambda h: h.update(named="yes"), ""),
    "parameters a list": (lambda h: h.update(parameters=[]), ""),
    "recipes of none": (lambda h: h["parameters"]["recipes"].update(recipes=[]), "recipes"),
    "a recipe out of range": (lambda h: h["parameters"]["recipes"]["recipes"][0].update(epochs=0), "epochs"),
    "a recipe with more": (lambda h: h["parameters"]["recipes"]["recipes"][0].update(colour=1), "recipes"),
    "recipes of no form": (lambda h: h["parameters"]["recipes"].update(form="heap"), "heap"),
    "recipes a list": (lambda h: h["parameters"].update(recipes=[1]), "recipes"),
    "no report": (lambda h: h.pop("report") and None, ""),
    "a report without a score": (lambda h: h["report"][0].pop("score") and None, "report"),
    "a report of texts": (lambda h: h["report"][0].update(score="good"), "report"),
    "a report of lists": (lambda h: h.update(report=[[]]), "report"),
    "a score of texts": (lambda h: h.update(score="good"), "score"),
    "interrupted a number": (lambda h: h.update(interrupted=1), "interrupted"),
    "another format": (lambda h: h.update(format="nnkern chair"), "format|header"),
    "a version to come": (lambda h: h.update(version=99), "99"),
    "a version of none": (lambda h: h.update(version=0), "version"),
    "a list": (lambda h: [h], ""),
}  # fmt: skip


def config(header):
    return header["networks"][0]["config"]


def told(header, **changed):
    """A record of the training, changed."""
    header["target"]["trained_on"] = {"target": "y", "weight": None, "baseline": [0.25, 0.25, 0.5]} | changed


def category(header):
    return next(one for one in header["preprocessing"]["columns"] if len(one.get("levels", ())) > 2)


def encoder(header):
    return next(one for one in config(header)["layers"][0]["encoders"] if "size" in one)


@pytest.mark.parametrize(("change", "words"), LIES.values(), ids=list(LIES))
def test_headers_that_lie(good, tmp_path, change, words):
    assert_refused(write_members(tmp_path / "m.npz", with_header(good, change)), words)


def test_a_record_of_the_training_comes_back(good, tmp_path):
    path = write_members(tmp_path / "m.npz", with_header(good, told))
    assert tabular.load(path).model_.target.trained_on["baseline"] == [0.25, 0.25, 0.5]


def test_arrays_that_are_none_of_the_models(good, tmp_path):
    contents = members(good)
    name = next(name for name in contents if name.startswith("0.W"))
    array = np.load(io.BytesIO(contents[name]))
    path = tmp_path / "m.npz"
    for other in (
        array.astype(np.float64), array.astype(np.int32), array.T, array[:, :-1], array.ravel(), np.float32(1),
        array.astype(np.complex64), np.full(array.shape, "a"), np.zeros(array.shape, [("x", "f4")]),
    ):  # fmt: skip
        assert_refused(write_members(path, contents | {name: npy(other)}), name.removesuffix(".npy").removeprefix("0."))
    assert_refused(write_members(path, {key: value for key, value in contents.items() if key != name}))
    for more in ("0.W99.npy", "0.extra.npy"):
        assert_refused(write_members(path, contents | {more: npy(array)}))
    for more in ("1.W1.npy", "W1.npy", "extra.npy", "name.txt", "x.npy/y"):
        assert_refused(write_members(path, contents | {more: npy(array)}))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_parameters_that_are_not_finite(good, tmp_path, value):
    """A network of numbers may hold them, as nnkern.load takes them; predicting then gives NaN, and never crashes."""
    contents = members(good)
    name = next(name for name in contents if name.startswith("0.W"))
    array = np.load(io.BytesIO(contents[name])).copy()
    array.flat[0] = value
    path = write_members(tmp_path / "m.npz", contents | {name: npy(array)})
    try:
        model = tabular.load(path)
    except nk.ModelFormatError:
        return
    use(model)


class Bomb:
    """Pickled, it writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_objects_are_not_unpickled(good, tmp_path):
    trap = tmp_path / "trap"
    array = np.empty((1,), object)
    array[0] = Bomb(trap)
    for name in members(good):
        pickled = npy(array, allow_pickle=True)
        assert_refused(write_members(tmp_path / "m.npz", members(good) | {name: pickled}))
    path = tmp_path / "pickle.npz"
    path.write_bytes(pickle.dumps(Bomb(trap)))
    assert_refused(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, world\n" * 10, bytes(1000), b"PK\x05\x06" + bytes(18), b"\x93NUMPY" + bytes(100)],
    ids=["empty", "text", "zeros", "empty archive", "numpy"],
)
def test_foreign_files(tmp_path, content):
    path = tmp_path / "m.npz"
    path.write_bytes(content)
    assert_refused(path)


def many_parts(header):
    """Lists in lists are much larger once they are parsed than they are in the file."""
    header["parameters"] = {"column_types": [[] for _ in range(500_000)]}


def many_columns(header):
    header["preprocessing"]["columns"] *= 1000


HOSTILE = {
    "units": (lambda h: config(h)["layers"][-1].update(units=2**28), zipfile.ZIP_STORED),
    "n_x": (lambda h: h["networks"][0].update(n_x=2**40), zipfile.ZIP_STORED),
    "categories": (lambda h: encoder(h).update(size=2**40), zipfile.ZIP_STORED),
    "layers": (lambda h: config(h).update(layers=[config(h)["layers"][-1]] * 5_000),
               zipfile.ZIP_STORED),
    "networks": (lambda h: h.update(networks=h["networks"] * 300), zipfile.ZIP_STORED),
    "columns": (many_columns, zipfile.ZIP_STORED),
    "parts": (many_parts, zipfile.ZIP_STORED),
    "deflated": (lambda h: h.update(parameters={"column_types": {"x": " " * 2**26}}), zipfile.ZIP_DEFLATED),
}  # fmt: skip


@pytest.mark.no_sanitizer
@pytest.mark.parametrize(("change", "compression"), HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_sizes_take_no_memory(good, tmp_path, change, compression):
    path = write_members(tmp_path / "m.npz", with_header(good, change), compression)
    size = path.stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(nk.ModelFormatError):
            tabular.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * size + 2**23


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(nk.ModelFormatError, match="no regular file"):
        tabular.load(tmp_path / "pipe")


def test_columns_types_by_place_come_back_from_a_file(tmp_path):
    A = np.random.default_rng(0).integers(0, 4, (60, 2)).astype(float)
    model = regressor(column_types={np.int64(0): "category"}).fit(A, A.sum(axis=1))
    model.save(tmp_path / "model.npz")
    again = tabular.load(tmp_path / "model.npz")
    assert bits(again, A) == bits(model, A)
    assert again.column_types == {"0": "category"}
    assert again.fit(A, A.sum(axis=1)).columns_.to_dict() == model.columns_.to_dict()
