"""Whole models of tables: error on test rows against processor seconds, nnkern beside what people use today.

`nnkern bench tabular` takes the sets that installed packages ship, or the Parquet files of --data: columns as they
come, the target `__y`, the part of each row `__split` (0 trains, 1 validates, 2 tests). Every model is fitted in a
process of its own, with the same rows and threads; processor time counts from the frame to the prediction. Peers run
with their defaults and get the validation rows as they would in use: CatBoost and RealMLP choose their iteration by
them, nnkern its epochs and the ensemble's weights, LightGBM, HistGradientBoosting and scikit-learn's MLP get none.
Error: 1 − AUC for two classes, the error rate for more, √(1 − R²) for numbers.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import tabular_sets
from tabular_sets import Table

SCORED = {"test": ((0,), 1, 2), "validation": ((0,), None, 1)}
"""What is scored: parts that train, the part that validates, the part that is scored. Tuning goes by "validation"."""
BASE = "LightGBM"


# ---- models: each takes a Table's (X, y), validation rows or None, and gives a function from X to predictions ----


def nnkern(preset):
    def fit(task, train, held_out, threads, seed):
        from nnkern.tabular import TabularClassifier, TabularRegressor

        kind = TabularRegressor if task == "regression" else TabularClassifier
        model = kind(preset=preset, random_state=seed, threads=threads).fit(*train, eval_set=held_out)
        return predictor(model, task)

    return fit


def lightgbm(task, train, held_out, threads, seed):
    import lightgbm

    kind = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    model = kind(n_jobs=threads, random_state=seed, verbose=-1).fit(*train)
    return predictor(model, task)


def catboost(task, train, held_out, threads, seed):
    import catboost

    X, y = train
    texts = [name for name in X if X[name].dtype == "category"]

    def as_texts(X):
        return X.assign(
            **{name: X[name].astype(object).where(X[name].notna(), "missing").astype(str) for name in texts}
        )

    kind = catboost.CatBoostRegressor if task == "regression" else catboost.CatBoostClassifier
    model = kind(thread_count=threads, random_seed=seed, verbose=False, allow_writing_files=False, cat_features=texts)
    eval_set = None if held_out is None else (as_texts(held_out[0]), held_out[1])
    model.fit(as_texts(X), y, eval_set=eval_set)
    return lambda X: predictor(model, task)(as_texts(X))


def hist_gradient_boosting(task, train, held_out, threads, seed):
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    return predictor(kind(categorical_features="from_dtype", random_state=seed).fit(*train), task)


def sklearn_mlp(task, train, held_out, threads, seed):
    from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    before = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
        sparse_threshold=0,
    )
    if task == "regression":
        model = TransformedTargetRegressor(MLPRegressor(random_state=seed), transformer=StandardScaler())
    else:
        model = MLPClassifier(random_state=seed)
    return predictor(make_pipeline(before, model).fit(*train), task)


def realmlp(task, train, held_out, threads, seed):
    import pandas as pd
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    kind = RealMLP_TD_Regressor if task == "regression" else RealMLP_TD_Classifier
    X, y = train
    medians = X.median(numeric_only=True)  # it takes no holes in numbers
    X = X.fillna(medians)
    held_out = held_out and (held_out[0].fillna(medians), held_out[1])
    model = kind(device="cpu", random_state=seed, n_threads=threads, n_cv=1, n_refit=0)
    if held_out is None:
        model.fit(X, y)
        return lambda X: predictor(model, task)(X.fillna(medians))
    rows = np.arange(len(y), len(y) + len(held_out[1]))
    model.fit(pd.concat([X, held_out[0]], ignore_index=True), np.concatenate([y, held_out[1]]), val_idxs=rows)
    return lambda X: predictor(model, task)(X.fillna(medians))


MODELS = {
    "nnkern fast": ("nnkern.tabular", nnkern("fast")),
    "nnkern default": ("nnkern.tabular", nnkern("default")),
    "nnkern best": ("nnkern.tabular", nnkern("best")),
    BASE: ("lightgbm", lightgbm),
    "CatBoost": ("catboost", catboost),
    "HistGradientBoosting": ("sklearn", hist_gradient_boosting),
    "scikit-learn MLP": ("sklearn", sklearn_mlp),
    "RealMLP-TD": ("pytabkit", realmlp),
}


def predictor(model, task):
    """The function from X to numbers, or to probabilities (m, k)."""
    return model.predict if task == "regression" else model.predict_proba


# ---- one model on one set ----


def measured(name: str, table: Table, scored: str, threads: int, seed: int) -> dict:
    """{"error": …, "cpu_s": …, and what else the predictions say}."""
    import pandas as pd

    parts, validation, score = SCORED[scored]
    categories = {}
    for column in table.X:
        if not pd.api.types.is_numeric_dtype(table.X[column]) or pd.api.types.is_bool_dtype(table.X[column]):
            values = table.X[column]
            categories[column] = pd.CategoricalDtype(sorted(set(values[values.notna()].astype(str))))
    X = table.X.assign(
        **{
            column: table.X[column].where(table.X[column].isna(), table.X[column].astype(str)).astype(kind)
            for column, kind in categories.items()
        }
    )
    table = table._replace(X=X)
    train, held_out, (X_scored, y) = (
        table.rows(*parts),
        None if validation is None else table.rows(validation),
        table.rows(score),
    )
    importlib.import_module(MODELS[name][0])
    start = processor_seconds()
    predict = MODELS[name][1](table.task, train, held_out, threads, seed)
    out = np.asarray(predict(X_scored), np.float64)
    spent = processor_seconds() - start
    return {"cpu_s": spent, **errors(table.task, out, y)}


def processor_seconds() -> float:
    """Of this process and of its children."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def errors(task: str, out: np.ndarray, y: np.ndarray) -> dict:
    """The error that is compared, and other measures."""
    from sklearn import metrics

    if task == "regression":
        r2 = metrics.r2_score(y, out)
        return {
            "error": float(np.sqrt(max(1 - r2, 0.0))),
            "r2": r2,
            "rmse": float(metrics.root_mean_squared_error(y, out)),
        }
    wrong = float((out.argmax(axis=1) != y).mean())
    log_loss = float(metrics.log_loss(y, out, labels=range(out.shape[1])))
    auc = {"auc": float(metrics.roc_auc_score(y, out[:, 1]))} if task == "binary" else {}
    return {"error": 1 - auc["auc"] if auc else wrong, "error_rate": wrong, "log_loss": log_loss, **auc}


# ---- all of them ----


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="nnkern bench tabular", description=__doc__.splitlines()[0], epilog=" ".join(__doc__.splitlines()[2:])
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="Parquet files with __y and __split")
    parser.add_argument("--set", action="append", metavar="NAME", help="only this set; repeat")
    parser.add_argument("--model", action="append", choices=list(MODELS), help="only this model; repeat")
    parser.add_argument("--score", choices=list(SCORED), default="test", help="validation: for tuning; default test")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="all that was measured; one that exists is added to")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="a picture of error against processor seconds")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    there = tabular_sets.names(options.data)
    for name in options.set or ():
        if name not in there:
            parser.error(f"there is no set {name!r}, but {', '.join(there) or 'none at all'}")
    options.set = options.set or there
    return options


def in_a_process(name: str, model: str, options: argparse.Namespace) -> dict:
    """What `measured` gives, of a process of its own; {"missing": why} where it fails."""
    command = [
        sys.executable,
        *(["-P"] if sys.flags.safe_path else []),
        __file__,
        "--one",
        "--set",
        name,
        "--model",
        model,
    ]
    command += ["--score", options.score, "--threads", str(options.threads), "--seed", str(options.seed)]
    command += ["--data", str(options.data)] if options.data else []
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {
        key: value for key, value in os.environ.items() if key not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    }
    environment |= dict.fromkeys(limits, str(options.threads))
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"missing": (done.stderr.strip().splitlines() or ["no result"])[-1]}


def summary(results: dict, models: list[str]) -> dict:
    """{model: {"ratio": geometric mean of errors over the base's, "rank": mean, "cpu_s": total}} over sets all have."""
    common = [name for name, row in results.items() if all("error" in row.get(model, {}) for model in models)]
    made = {}
    for model in models if common else ():
        own = np.array([results[name][model]["error"] for name in common])
        ranks = [
            1 + sum(results[name][other]["error"] < results[name][model]["error"] for other in models)
            for name in common
        ]
        made[model] = {"rank": float(np.mean(ranks)), "cpu_s": sum(results[name][model]["cpu_s"] for name in common)}
        if BASE in models:
            base = np.array([results[name][BASE]["error"] for name in common])
            made[model]["ratio"] = float(np.exp(np.mean(np.log(own / base))))
    return made


def table(results: dict, models: list[str]) -> str:
    """Errors by set and model, and what they come to, as Markdown."""
    lines = ["| set | " + " | ".join(models) + " |", "| --- |" + " ---: |" * len(models)]

    def cell(found):
        return f"{found['error']:.4f} ({found['cpu_s']:.1f} s)" if "error" in found else "–"

    for name, row in results.items():
        lines.append(f"| {name} | " + " | ".join(cell(row.get(model, {})) for model in models) + " |")
    found = summary(results, models)
    for what, form in (("ratio", "{:.3f}"), ("rank", "{:.2f}"), ("cpu_s", "{:.1f}")):
        if found and all(what in found[model] for model in models):
            lines.append(f"| {SAID[what]} | " + " | ".join(form.format(found[model][what]) for model in models) + " |")
    return "\n".join(lines)


SAID = {"ratio": f"error / {BASE}'s, geometric mean", "rank": "mean rank", "cpu_s": "processor seconds, all sets"}


def picture(results: dict, models: list[str], path: Path) -> None:
    """Error relative to the base against processor seconds, a point for each model."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "nnkern"}  # text as text, and the same file again
    from matplotlib import pyplot

    found = summary(results, models)
    figure, ax = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    # Those of ours above their dots, the others' in turn below and above, so that neighbours don't meet.
    others = sorted((m for m in models if not m.startswith("nnkern")), key=lambda m: found[m]["cpu_s"])
    for model in models:
        ours = model.startswith("nnkern")
        above = ours or others.index(model) % 2
        ax.plot(found[model]["cpu_s"], found[model]["ratio"], "o", color="C0" if ours else "0.5")
        ax.annotate(
            model,
            (found[model]["cpu_s"], found[model]["ratio"]),
            xytext=(5, 5 if above else -13),
            textcoords="offset points",
        )
    ax.set(xscale="log", xlabel=f"processor seconds, {len(results)} sets", ylabel=f"error / {BASE}'s, geometric mean")
    ax.margins(x=0.3, y=0.1)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    if options.one:
        one = tabular_sets.load(options.set[0], options.data)
        print(json.dumps(measured(options.model[0], one, options.score, options.threads, options.seed)))
        return 0
    models = options.model or [name for name, (package, _) in MODELS.items() if importlib.util.find_spec(package)]
    results = json.loads(options.json.read_text()) if options.json and options.json.is_file() else {}
    for name in options.set:
        row = results.setdefault(name, {})
        for model in models:
            row[model] = in_a_process(name, model, options)
            said = "{error:.4f}, {cpu_s:.2f} s" if "error" in row[model] else "{missing}"
            print(f"{name}, {model}: {said.format(**row[model])}", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1) + "\n")
    models = [model for model in MODELS if any(model in row for row in results.values())]
    print(table(results, models))
    if options.svg:
        picture(results, models, options.svg)
    return int(any("missing" in row.get(model, {}) for row in results.values() for model in models))


if __name__ == "__main__":
    sys.exit(main())
