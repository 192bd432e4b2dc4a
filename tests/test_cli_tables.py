"""The command line on tables: train, predict, evaluate, export, and what is said of those that can't be."""

import json
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="reads tables")
pytest.importorskip("narwhals", reason="a part of nnkern.tabular")
pytest.importorskip("sklearn", reason="a part of nnkern.tabular")

import pyarrow.parquet as pq  # noqa: E402
from commands import rows  # noqa: E402

from nnkern import cli, tabular  # noqa: E402
from nnkern.cli import tables  # noqa: E402
from nnkern.tabular import frames, model_file  # noqa: E402

pytest_plugins = ["commands"]

FAST = ("--quiet", "--preset", "fast", "--epochs", 2, "--layers", 8)


def flowers(path="f.csv", m=240, target=True):
    """Three classes from a number and a text with holes, and a column that means nothing."""
    rng = np.random.default_rng(0)
    kind = np.arange(m) % 3
    length = np.array([1, 2, 6])[kind] + rng.normal(size=m)
    lines = ["name,length,colour" + ",kind" * target]
    for i in range(m):
        colour = ["white", "red", "red"][kind[i]] if i % 11 else ""
        lines.append(f"n{i},{length[i]:.4f},{colour}" + f",{['daisy', 'rose', 'tulip'][kind[i]]}" * target)
    with open(path, "w") as file:
        file.write("\n".join(lines) + "\n")
    return path


def houses(path="h.csv", m=240):
    """price = 3000 · size + 50000 in the town, − 20000 outside, and some noise; in the German way of writing."""
    rng = np.random.default_rng(1)
    lines = ["price;size;place"]
    for i in range(m):
        size, place = rng.uniform(30, 200), ["town", "country"][i % 2]
        price = 3000 * size + (50000 if place == "town" else -20000) + rng.normal() * 10000
        lines.append(f"{price:.2f};{size:.2f};{place}".replace(".", ","))
    with open(path, "w") as file:
        file.write("\n".join(lines) + "\n")
    return path


def test_classes(good, tmp_path):
    out = good("train", flowers(), "--ignore", "name", "--quiet", "--epochs", 20, "--save", "m.npz")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["held", "out", "(48", "rows)", "model", "baseline"]
    assert [" ".join(line[:-2]) for line in lines[1:7]] == [
        "accuracy", "balanced accuracy", "auc", "log loss", "recall", "calibration error",
    ]  # fmt: skip
    assert float(lines[1][-2]) > 0.8 > 0.4 > float(lines[1][-1])
    assert lines[7][:2] == ["trained", "in"]
    model = tabular.TabularClassifier.load("m.npz")
    assert model.columns_.names == ["length", "colour"]
    assert model.columns_.left_out == {"name": "as asked for"}
    said = json.loads(good("evaluate", "m.npz", "f.csv", "--json"))
    assert (said["rows"], said["target"], said["rows_without_target"]) == (240, "kind", 0)
    table = rows(good("predict", "m.npz", flowers("new.csv", target=False), "--proba", "--keep", "name"))
    assert table[0] == ["name", "label", "p(daisy)", "p(rose)", "p(tulip)"]
    assert [row[0] for row in table[1:]] == [f"n{i}" for i in range(240)]
    labels = ["daisy", "rose", "tulip"]
    P = np.array([row[2:] for row in table[1:]], float)
    assert [row[1] for row in table[1:]] == [labels[i] for i in P.argmax(axis=1)]
    right = np.mean([row[1] == labels[i % 3] for i, row in enumerate(table[1:])])
    assert said["scores"]["accuracy"] == {"model": right, "baseline": pytest.approx(1 / 3)}
    assert said["scores"]["recall"] == said["scores"]["balanced_accuracy"]
    assert rows(good("predict", "m.npz", "new.csv"))[:2] == [["label"], [table[1][1]]]
    said = json.loads(good("predict", "m.npz", "new.csv", "--json"))
    assert said == {"label": [row[1] for row in table[1:]]}


def test_numbers(good, run, tmp_path):
    status, out, err = run("train", houses(), "--target", "price", "--epochs", 100, "--save", "m.npz")
    assert status == 0, err
    assert out.splitlines()[:2] == [
        "data     h.csv: 240 rows, 3 columns",
        "task     regression of 'price' (numbers); 192 to train on, 48 held out",
    ]
    assert "place   category  2 categories: '" in out
    assert out.splitlines()[-1] == "saved m.npz"
    assert " s left" in err
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert float(lines["r2"][0]) > 0.95 > 0.1 > abs(float(lines["r2"][1]))
    assert set(lines) > {"rmse", "mae"}
    good("predict", "m.npz", "h.csv", "--keep", "all", "--output", "p.parquet")
    table = pq.read_table("p.parquet")
    assert table.column_names == ["price", "size", "place", "prediction"]
    status, out, err = run("predict", "m.npz", "h.csv", "--proba")
    assert (status, out) == (2, "")
    assert err == "nnkern predict: error: --proba is for classes, and the model predicts numbers: leave it out\n"
    said = json.loads(good("evaluate", "m.npz", "h.csv", "--json"))
    price, predicted = (table[name].to_numpy() for name in ("price", "prediction"))
    assert said["scores"]["rmse"]["model"] == pytest.approx(np.sqrt(np.mean((price - predicted) ** 2)), rel=1e-5)
    assert said["scores"]["mae"]["model"] == pytest.approx(np.abs(price - predicted).mean(), rel=1e-5)
    mean = tabular.load("m.npz").model_.target.trained_on["baseline"][0]
    assert said["scores"]["rmse"]["baseline"] == pytest.approx(np.sqrt(np.mean((price - mean) ** 2)), rel=1e-5)


def test_warnings_name_options_and_come_once(run):
    """What the library says of its parameter column_types is said of the options that stand for it."""
    with open("f.csv", "w") as file:
        print("the id,size,same,price", file=file)
        for i in range(300):
            print(f"{3 * i},{i % 17 + i / 100},x,{2 * (i % 17) + i % 3}", file=file)
    status, _, err = run("train", "f.csv", "--preset", "fast", "--epochs", 2, "--quiet")
    assert status == 0
    assert "leave it out by --ignore 'the id'\n" in err
    assert "--types takes one in as 'category', 'number' or 'date'" in err
    assert "column_types" not in err
    status, _, err = run("train", "f.csv", "--preset", "fast", "--epochs", 2, "--quiet", "--ignore", "the id,same")
    assert (status, err) == (0, "")


def test_a_warning_that_is_repeated_is_printed_once(capsys):
    with cli.errors.one_line_warnings():
        warnings.simplefilter("always")
        for text in ("once\nagain", "other", "once again"):
            warnings.warn(text, UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "nnkern: warning: once again\nnnkern: warning: other\n"


def test_everything_is_said_to_machines(run):
    with open(flowers()) as file:
        text = file.read()
    with open("f.csv", "w") as file:
        file.write(text.replace(",rose", ",", 2))
    status, out, err = run("train", "f.csv", *FAST[1:], "--types", "name=ignore", "--json", "--save", "m.npz")
    assert status == 0
    assert err == "nnkern: warning: 2 of 240 rows have no 'kind' and are left out\n"
    said = json.loads(out)
    assert (said["rows"], said["rows_without_target"], said["rows_trained_on"], said["rows_held_out"]) == (
        238,
        2,
        191,
        47,
    )
    assert (said["task"], said["target"], said["saved"], said["networks"]) == ("classification", "kind", "m.npz", 1)
    assert said["kinds"] == {"length": "number", "colour": "category"}
    assert said["scores"]["auc"]["baseline"] == 0.5


def test_predictions_need_no_scikit_learn(good):
    good("train", flowers(), *FAST, "--ignore", "name", "--save", "m.npz")
    code = (
        "import sys; from nnkern import cli; cli.main(['predict', 'm.npz', 'f.csv']); print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_info_of_a_table_model(good):
    flowers()
    good("train", "f.csv", *FAST, "--ignore", "name", "--save", "m.npz")
    stored = model_file.read("m.npz")
    [net] = stored.model.networks
    out = good("info", "m.npz")
    assert out.splitlines()[0] == "classification of 'kind', labels " + ", ".join(stored.model.target.labels)
    assert f"{stored.model.preprocessing}\n" in out
    assert f"network of weight 1\n{net.summary()}\n" in out
    said = json.loads(good("info", "m.npz", "--json"))
    assert said["columns"] == {one.name: one.kind for one in stored.model.preprocessing.columns}
    assert (said["score"], said["labels"]) == (stored.score, stored.model.target.labels)
    assert [(one["n_x"], one["weight"]) for one in said["networks"]] == [(net.n_x, 1.0)]


def test_what_is_not_defined_is_null(good, tmp_path):
    good("train", flowers(), *FAST, "--ignore", "name", "--save", "m.npz")
    (tmp_path / "one.csv").write_text("length,colour,kind\n1,red,rose\n2,,rose\n")
    said = json.loads(good("evaluate", "m.npz", "one.csv", "--json"), parse_constant=pytest.fail)
    assert said["scores"]["auc"] == {"model": None, "baseline": None}
    (tmp_path / "days.csv").write_text("length,colour,day\n1,red,2024-01-31\n2,,\n")
    said = json.loads(good("predict", "m.npz", "days.csv", "--keep", "day", "--json"))
    assert said["day"] == ["2024-01-31", None]


def test_labels_of_numbers_and_models_of_arrays(good, bad, tmp_path):
    lines = ["x,y", *(f"{i % 7},{i % 2}.0" for i in range(60))]
    (tmp_path / "n.csv").write_text("\n".join(lines))
    good("train", "n.csv", *FAST, "--types", "x=number", "--save", "m.npz")
    assert rows(good("predict", "m.npz", "n.csv", "--proba"))[0] == ["label", "p(0)", "p(1)"]
    recipe = tabular.Recipe(epochs=1)
    model = tabular.TabularClassifier(recipes=[recipe], random_state=0)
    model.fit(np.arange(60.0)[:, None] % 7, np.arange(60) % 2).save("a.npz")
    for command in ("predict", "evaluate"):
        assert "a.npz was trained on an array, whose columns have no names" in bad(command, "a.npz", "n.csv")


def test_same_seed_same_model(good):
    flowers()
    outs = []
    for seed in (3, 3, 4):
        good("train", "f.csv", *FAST, "--ignore", "name", "--seed", seed, "--save", "m.npz")
        outs.append(good("predict", "m.npz", "f.csv", "--proba"))
    assert outs[0] == outs[1] != outs[2]


@pytest.mark.parametrize("name", ["f.parquet", "f.feather", "f.csv.gz", "f.tsv"])
def test_other_files(good, name):
    table = tabular.reading.read_table(flowers())
    if name == "f.parquet":
        pq.write_table(table, name)
    elif name == "f.feather":
        pytest.importorskip("pyarrow.feather").write_feather(table, name)
    elif name == "f.tsv":
        with open("f.csv") as file, open(name, "w") as other:
            other.write(file.read().replace(",", "\t"))
    else:
        import gzip

        with open("f.csv", "rb") as file, gzip.open(name, "wb") as packed:
            packed.write(file.read())
    how = (*FAST, "--ignore", "name")
    good("train", "f.csv", *how, "--save", "m.npz")
    good("train", name, *how, "--save", "other.npz")
    both = [rows(good("predict", *one, "--proba"))[1:] for one in (("m.npz", name), ("other.npz", "f.csv"))]
    # numbers of CSV come in float32, those of the others as they are
    P, same = (np.array([row[1:] for row in table], float) for table in both)
    np.testing.assert_allclose(P, same, rtol=1e-3, atol=1e-5 if name in ("f.parquet", "f.feather") else 0)


def test_every_option_arrives(good, monkeypatch):
    seen = {}

    def fit(self, X, y, sample_weight=None):
        seen.update(self.get_params(), weight=sample_weight, names=list(X))
        raise ValueError("enough")

    monkeypatch.setattr(tabular.TabularClassifier, "fit", fit)
    flowers()
    with open("f.csv") as file:
        text = file.read()
    with open("f.csv", "w") as file:
        file.write(text.replace("-", ""))  # weights are at least 0
    arguments = (
        *("train", "f.csv", "--types", "colour=category", "--ignore", "name", "--weight", "length", "--task", "auto"),
        *("--metric", "auc", "--estimators", 3, "--time-limit", 9, "--class-weight", "rose=5", "--layers", "7,5"),
        *(
            "--activation",
            "relu",
            "--dropout",
            0.5,
            "--epochs",
            2,
            "--early-stopping",
            1,
            "--batch-size",
            16,
            "--quiet",
        ),
        *("--learning-rate", 0.125, "--weight-decay", 0.5, "--label-smoothing", 0.25, "--seed", 11, "--threads", 1),
        *("--numbers", "tree", "--preset", "best"),
    )
    assert cli.main([str(one) for one in arguments]) == 2
    assert seen["column_types"] == {"colour": "category", "name": "ignore"}
    assert seen["names"] == ["name", "colour"]
    assert len(seen["weight"]) == 192
    assert (seen["metric"], seen["n_estimators"], seen["time_limit"]) == ("auc", 3, 9.0)
    assert seen["class_weight"] == {"rose": 5.0}
    assert (seen["random_state"], seen["threads"], seen["progress"]) == (11, 1, False)
    for recipe in seen["recipes"]:
        assert (recipe.units, recipe.activation, recipe.dropout, recipe.numbers) == ((7, 5), "relu", 0.5, "tree")
        assert (recipe.epochs, recipe.patience, recipe.batch_size) == (2, 1, 16)
        assert (recipe.learning_rate, recipe.weight_decay, recipe.label_smoothing) == (0.125, 0.5, 0.25)
    assert len({repr(vars(recipe)) for recipe in seen["recipes"]}) == len(seen["recipes"])


def test_task_of_a_column():
    def task(values, task=None):
        return tables.task_of(pa.chunked_array([values]), "y", task)

    assert task(["a", "b", "a"]) == (True, "text")
    assert task([True, False]) == (True, "booleans")
    assert task([0, 1, 1]) == task([1.0, 2.0]) == (True, "two values")
    assert task([0.5, 2.0]) == (False, "numbers")
    assert task([1, 2, 3]) == (False, "numbers; --task classification takes its 3 values for classes")
    assert task([1.5, 2, 3]) == task(list(range(30))) == (False, "numbers")
    assert task([1, 2, 3], "classification") == (True, "as asked for")
    with pytest.raises(
        cli.errors.CommandError, match="'y' has 201 different texts, more than the 200 taken for classes"
    ):
        task([f"name {i}" for i in range(201)])
    assert task([f"name {i}" for i in range(201)], "classification") == (True, "text")


def test_columns_that_nobody_else_needs_are_let_go():
    rng = np.random.default_rng(0)
    data = {"x": pa.chunked_array([rng.normal(size=200)]), "kind": pa.chunked_array([["a", "b"] * 100])}
    spent = frames.ConsumableColumns(data)
    models = [
        tabular.TabularRegressor(preset="fast", random_state=0, recipes=[tabular.Recipe(epochs=1)]).fit(
            X, rng.normal(size=200)
        )
        for X in (data, spent)
    ]
    assert list(data) == ["x", "kind"]
    assert list(spent) == []
    assert models[0].columns_ is not models[1].columns_
    assert models[0].columns_.to_dict() == models[1].columns_.to_dict()
    assert models[1].feature_names_in_.tolist() == ["x", "kind"]
    with pytest.raises(ValueError, match="X lacks the columns 'x', 'kind', which the model was trained on; it has 'y'"):
        models[0].predict({"y": data["x"]})


def test_numbers_that_are_categories_are_the_same_texts_everywhere(good, tmp_path):
    """float32 would make another text of each: 0.1 is none of its numbers."""
    lines = [f"{0.1 * (i % 3):.1f},{i % 7}.{i % 3},{0.3 + 0.4 * (i % 2):.1f}" for i in range(120)]
    (tmp_path / "t.csv").write_text("\n".join(["rate,x,y", *lines]))
    good("train", "t.csv", *FAST, "--types", "rate=category", "--task", "classification", "--save", "m.npz")
    model = tabular.load("m.npz")
    assert sorted(model.columns_.columns[0].levels) == ["0.0", "0.1", "0.2"]
    assert model.classes_.tolist() == ["0.3", "0.7"]
    outs = [
        [row[-2:] for row in rows(good("predict", "m.npz", "t.csv", "--proba", *keep))]
        for keep in ((), ("--keep", "rate"), ("--keep", "y"))
    ]
    assert outs[0] == outs[1] == outs[2]
    said = json.loads(good("evaluate", "m.npz", "t.csv", "--json"))
    assert 0 <= said["scores"]["accuracy"]["model"] <= 1


def test_a_category_is_the_same_whatever_else_its_file_holds(good, tmp_path):
    """Beside "maybe", true is a text; a file of true and false alone holds booleans."""
    texts = ["true", "false", "maybe"]
    lines = [f"{texts[i % 3]},{['1.50', '2', 'b'][i % 3]},{['yes', 'true'][i % 2]}{i % 3}" for i in range(120)]
    (tmp_path / "t.csv").write_text("\n".join(["s,n,y", *lines]))
    good("train", "t.csv", *FAST, "--save", "m.npz")
    (tmp_path / "some.csv").write_text("s,n\ntrue,1.50\nfalse,2\n")
    (tmp_path / "all.csv").write_text("s,n\ntrue,1.50\nfalse,2\nmaybe,b\n")
    some, whole = (rows(good("predict", "m.npz", name, "--proba")) for name in ("some.csv", "all.csv"))
    assert some == whole[:3]  # and neither warns of unseen categories
    (tmp_path / "bools.csv").write_text("\n".join(["s,y", *(f"{texts[i % 2]},{'ab'[i % 2]}" for i in range(120))]))
    good("train", "bools.csv", *FAST, "--save", "b.npz")
    assert sorted(tabular.load("b.npz").columns_.columns[0].levels) == ["False", "True"]
    (tmp_path / "more.csv").write_text("s\ntrue\nTRUE\nfalse\n")
    same = rows(good("predict", "b.npz", "more.csv", "--proba"))
    assert same[1] == same[2] != same[3]


def test_labels_are_the_same_whatever_else_their_file_holds():
    labels = ["1.50", "false", "maybe", "true"]
    assert tables.codes(pa.chunked_array([[True, False]]), labels, "y").tolist() == [3, 1]
    assert tables.codes(pa.chunked_array([[1.5]]), labels, "y").tolist() == [0]
    labels = ["01", "1.5", "1.50", "1e400"]
    assert tables.codes(pa.chunked_array([["1.500"], ["1.50", "01", "+1.5"]]), labels, "y").tolist() == [1, 2, 0, 1]
    for text in ("001", "1"):
        with pytest.raises(
            cli.errors.CommandError, match=f"row 1 is '{text}', none of the model's classes: '01', '1.5'"
        ):
            tables.codes(pa.chunked_array([["01", text]]), labels, "y")


def test_evaluations_compare_with_the_baseline_of_the_training(good, bad, tmp_path):
    """With its weights too, whatever the shares of the rows that are evaluated."""
    lines = [f"{i % 7},{1 + i % 2},{'ab'[i % 2]}" for i in range(240)]
    (tmp_path / "t.csv").write_text("\n".join(["x,w,y", *lines]))
    how = ("train", "t.csv", *FAST, "--validation", 0, "--weight", "w", "--types", "x=number", "--json")
    trained = json.loads(good(*how, "--save", "m.npz"))["scores"]
    assert json.loads(good("evaluate", "m.npz", "t.csv", "--json"))["scores"] == trained
    (tmp_path / "a.csv").write_text("x,w,y,more\n1,1,a,\n2,3,b,\n3,0,a,\n")
    said = json.loads(good("evaluate", "m.npz", "a.csv", "--json"))
    assert (said["target"], said["weight"]) == ("y", "w")
    expected = -(np.log(1 / 3) + 3 * np.log(2 / 3)) / 4
    assert said["scores"]["log_loss"]["baseline"] == pytest.approx(expected, rel=1e-6)
    (tmp_path / "a.csv").write_text("x,y,v\n1,a,-1\n2,b,\n")
    said = json.loads(good("evaluate", "m.npz", "a.csv", "--target", "y", "--json"))
    assert said["weight"] is None
    assert said["scores"]["log_loss"]["baseline"] == pytest.approx(-np.log(2 / 9) / 2, rel=1e-6)
    assert "--weight v: row 0 has none of at least 0" in bad("evaluate", "m.npz", "a.csv", "--weight", "v")
    assert "--weight no: there is no such column" in bad("evaluate", "m.npz", "a.csv", "--weight", "no")


def test_rows_of_weight_0_are_as_if_they_were_not_there(good, bad, tmp_path):
    """A class that only they have is none, neither in training nor in measuring."""
    lines = [f"{i % 7},{i % 3 != 2:d},{'abc'[i % 3]}" for i in range(240)]
    (tmp_path / "t.csv").write_text("\n".join(["x,w,y", *lines]))
    said = json.loads(good("train", "t.csv", *FAST, "--weight", "w", "--json", "--save", "m.npz"))
    assert (said["rows"], said["rows_without_target"]) == (160, 0)
    assert tabular.load("m.npz").classes_.tolist() == ["a", "b"]
    assert json.loads(good("evaluate", "m.npz", "t.csv", "--json"))["rows"] == 160
    (tmp_path / "t.csv").write_text("\n".join(["x,w,y", *(line.replace("1,", "0,") for line in lines)]))
    assert "--weight w: all rows have the weight 0" in bad("train", "t.csv", *FAST, "--weight", "w")
    how = ("train", "t.csv", *FAST, "--ignore", "w", "--class-weight", "c=0")
    assert "a table's class of weight 0 isn't learnt" in bad(*how)


def test_labels_are_known_by_what_they_say():
    classes = [1, 2, 10]
    for values in ([1, 10, 2], [1.0, 10.0, 2.0], ["1", "10", "2"]):
        assert tables.codes(pa.chunked_array([values]), classes, "y").tolist() == [0, 2, 1]
    with pytest.raises(cli.errors.CommandError, match="'y' in row 1 is 3, none of the model's classes: '1', '2', '10'"):
        tables.codes(pa.chunked_array([[1, 3]]), classes, "y")


@pytest.mark.parametrize("which", ["classes", "numbers"])
def test_plot_without_held_out_rows(good, which):
    pytest.importorskip("matplotlib", reason="draws")
    data = (flowers(), "--ignore", "name") if which == "classes" else (houses(), "--target", "price")
    out = good("train", *data, *FAST, "--validation", 0, "--plot", "c.svg")
    assert out.startswith("trained on (240 rows)")
    assert os.path.getsize("c.svg") > 1000


def test_export(good, bad):
    pytest.importorskip("onnx")
    good("train", flowers(), *FAST, "--ignore", "name", "--save", "m.npz")
    assert good("export", "m.npz", "--to", "onnx") == "wrote m.onnx\n"
    assert json.loads(good("export", "m.npz", "--to", "c", "--json")) == {"wrote": "m.c"}
    with open("m.c") as file:
        assert "tulip" in file.read()
    assert "a table's model is exported to onnx or c" in bad("export", "m.npz", "--to", "torch")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no.csv",), "no.csv: No such file or directory"),
        (("noise.csv",), "noise.csv is not in cp1252"),
        (
            ("noise.csv",),
            "expected CSV in the encoding that is given, or in UTF-8, UTF-16 or cp1252, Parquet or Feather",
        ),
        (("f.csv", "--encoding", "utf8x"), "there is no encoding 'utf8x': give one such as utf-8, cp1252 or latin-1"),
        (("f.csv", "--target", "petals"), "there is no column 'petals', but 'name', 'length', 'colour', 'kind'"),
        (("f.csv", "--ignore", "petals"), "--ignore: there is no column 'petals', but 'name', 'length', 'colour'"),
        (("f.csv", "--types", "petals=number"), "--types: there is no column 'petals', but 'name', 'length', 'colour'"),
        (("f.csv", "--metric", "roc_auc"), "--metric roc_auc: expected one of log_loss, auc, accuracy"),
        (("f.csv", "--weight", "petals"), "--weight petals: there is no such column"),
        (("f.csv", "--types", "length=long"), "--types length=long: expected one of number, category, date, ignore"),
        (("f.csv", "--types", "length"), "'length' is no list like zip=category,id=ignore"),
        (("f.csv", "--task", "regression"), "'kind' holds strings, regression needs numbers"),
        (("f.csv", "--target", "name"), "'name' has 240 different texts"),
        (("f.csv", "--metric", "rmse", "--ignore", "name"), "metric 'rmse' is of numbers"),
        (("f.csv", "--time-limit", 0), "'0' is not a number above 0"),
        (("f.csv", "--dropout", "0.1,0.2"), "--dropout has 2 entries, expected one for all layers"),
        (("f.csv", "--batch-size", "full"), "--batch-size full is for arrays and pictures"),
        (("f.csv", "--optimizer", "sgd"), "--optimizer is for arrays and pictures only, not for tables"),
        (("f.csv", "--folds", 3), "--folds is for arrays and pictures only"),
        (("f.csv", "--class-weight", "oak=2"), "--class-weight: 'oak' is none of the classes 'daisy', 'rose', 'tulip'"),
        (("f.csv", "--class-weight", "rose=-2"), "--class-weight rose=-2: expected a finite weight >= 0"),
        (("f.csv", "--target", "length", "--class-weight", "balanced"), "--class-weight is for classification"),
        (("f.csv", "--save", "m.safetensors"), "a table's model is saved as .npz"),
        (("holes.csv",), "'y' has no value in any of 2 rows"),
        (("dates.csv",), "'y' holds date32[day], expected labels or numbers"),
    ],
)
def test_training_that_cannot_be(bad, tmp_path, arguments, message):
    flowers()
    (tmp_path / "noise.csv").write_bytes(bytes(range(128, 256)) * 10)
    (tmp_path / "holes.csv").write_text("x,y\n1,\n2,\n")
    (tmp_path / "dates.csv").write_text("x,y\n1,2024-01-01\n2,2024-01-02\n")
    before = sorted(os.listdir())
    assert message in bad("train", *arguments, "--epochs", 1, "--quiet")
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("predict", ("less.csv",), "the data lacks the column 'colour'"),
        ("predict", ("arrays.npz",), "arrays.npz: the model expects a table, not arrays"),
        ("evaluate", ("arrays.npz",), "arrays.npz: the model expects a table, not arrays"),
        ("predict", ("f.csv", "--output", "p.xlsx"), "--output p.xlsx: predictions are written as CSV, of a table as"),
        ("predict", ("f.csv", "--output", "p.Feather"), "--output p.Feather: predictions are written as CSV"),
        (
            "predict",
            ("f.csv", "--output", "p.json"),
            "--output p.json: predictions are written as CSV, and as JSON with",
        ),
        ("predict", ("text.csv",), "column 'length' of the data, row 1 holds 'long', and must hold numbers"),
        ("predict", ("f.csv", "--keep", "petals"), "--keep: f.csv has no column 'petals'"),
        ("predict", ("label.csv", "--keep", "label"), "'label' is also the name of what is predicted"),
        ("predict", (), "DATA is missing"),
        ("evaluate", ("less.csv",), "--target must say what to compare with"),
        ("evaluate", ("oak.csv",), "'kind' in row 1 is 'oak', none of the model's classes: 'daisy', 'rose', 'tulip'"),
        ("evaluate", ("new.csv", "--target", "kind"), "there is no column 'kind'"),
    ],
)
def test_predictions_that_cannot_be(good, bad, tmp_path, command, arguments, message):
    good("train", flowers(), *FAST, "--ignore", "name", "--save", "m.npz")
    flowers("new.csv", target=False)
    (tmp_path / "less.csv").write_text("length\n1\n2\n")
    (tmp_path / "text.csv").write_text("length,colour\n1,red\nlong,red\n")
    (tmp_path / "label.csv").write_text("length,colour,label\n1,red,a\n")
    (tmp_path / "oak.csv").write_text("length,colour,kind\n1,red,rose\n2,red,oak\n")
    assert message in bad(command, "m.npz", *arguments)


def test_standard_input_in_a_process_of_its_own(good):
    good("train", flowers(), *FAST, "--ignore", "name", "--save", "m.npz")
    with open("f.csv") as file:
        done = subprocess.run(
            [sys.executable, "-m", "nnkern", "predict", "m.npz", "-"],
            stdin=file,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == good("predict", "m.npz", "f.csv")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_keeps_the_best_so_far(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flowers()
    command = [
        sys.executable,
        "-m",
        "nnkern",
        "train",
        "f.csv",
        "--ignore",
        "name",
        "--epochs",
        "1000000",
        "--save",
        "m.npz",
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        child.stderr.read(1)  # the first epoch is done
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=300)
    finally:
        child.kill()
    assert child.returncode == 0, err
    assert "the best epochs so far are kept" in err
    assert "accuracy" in out
    assert tabular.load("m.npz").classes_.tolist() == ["daisy", "rose", "tulip"]
