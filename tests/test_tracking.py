"""Callbacks for TensorBoard, MLflow and Optuna, each with the real package: `make test-peers` brings these."""

import copy
import os
import pickle
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import run

import nnkern as nk

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 60))
Y = (X.sum(axis=0, keepdims=True) > 0).astype(float)


def make(seed=0):
    return nk.Network([nk.Dense(4, "tanh"), nk.Dense(1, "sigmoid")], "binary_cross_entropy", n_x=3, seed=seed)


def missed(targets, outputs):
    return float(np.mean(targets != (outputs > 0.5)))


# ---- what reads the traces, as each tool does ----


class InTensorBoard:
    """The scalars of a folder, as the board shows them."""

    def __init__(self, folder):
        accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        self.folder, self._accumulator = folder / "log", accumulator

    def callback(self, **how):
        return nk.TensorBoard(self.folder, **how)

    def read(self):
        """{name: [(step, value), …]}; it keeps float32."""
        board = self._accumulator.EventAccumulator(str(self.folder))
        board.Reload()
        return {name: [(e.step, e.value) for e in board.Scalars(name)] for name in board.Tags()["scalars"]}


class InMLflow:
    """The metrics of a run, in the database of the tests."""

    def __init__(self):
        self._mlflow = pytest.importorskip("mlflow")
        self._run_id = self._mlflow.MlflowClient().create_run("0").info.run_id

    def callback(self, **how):
        return nk.MLflow(self._run_id, **how)

    def read(self):
        client = self._mlflow.MlflowClient()
        names = client.get_run(self._run_id).data.metrics
        histories = {name: client.get_metric_history(self._run_id, name) for name in names}
        return {name: sorted((m.step, m.value) for m in metrics) for name, metrics in histories.items()}


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    """With a database of its own, which takes seconds to make."""
    module = pytest.importorskip("mlflow")
    before = module.get_tracking_uri()
    module.set_tracking_uri(f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'runs.db'}")
    yield module
    while module.active_run():
        module.end_run()
    module.set_tracking_uri(before)


@pytest.fixture(params=["TensorBoard", "MLflow"])
def tool(request, tmp_path):
    if request.param == "TensorBoard":
        return InTensorBoard(tmp_path)
    request.getfixturevalue("mlflow")
    return InMLflow()


def expected(*histories, every=1, prefix=""):
    """What is to be read of trainings that go on from each other."""
    found = {}
    for name in histories[0]:
        values = list(enumerate(value for history in histories for value in history[name]))
        found[prefix + name] = [(step, value) for step, value in values if (step + 1) % every == 0]
    return found


def agree(read, told):
    assert read.keys() == told.keys()
    for name, entries in told.items():
        assert [step for step, _ in read[name]] == [step for step, _ in entries], name
        np.testing.assert_allclose([v for _, v in read[name]], [v for _, v in entries], rtol=1e-6, err_msg=name)


# ---- TensorBoard and MLflow ----


def test_the_history_is_told_epoch_by_epoch(tool):
    history = make().fit(X, Y, epochs=5, callbacks=tool.callback())
    assert len(history["cost"]) == 5
    agree(tool.read(), expected(history))


def test_held_out_values_and_metrics_are_told_too(tool):
    how = {"validation_split": 0.25, "metrics": ["val_auc", missed], "progress": False}
    history = make().fit(X, Y, epochs=4, callbacks=[tool.callback(), nk.EarlyStopping(3)], **how)
    assert {"val_cost", "val_score", "val_auc", "val_missed"} < history.keys()
    agree(tool.read(), expected(history))


def test_a_training_that_is_resumed_counts_on(tool, tmp_path):
    net = make()
    first = net.fit(X, Y, epochs=3, optimizer="adam", callbacks=tool.callback())
    net.save(tmp_path / "net.npz", training_state=True)
    second = nk.load(tmp_path / "net.npz").fit(X, Y, epochs=2, resume=True, callbacks=tool.callback())
    agree(tool.read(), expected(first, second))


def test_a_board_is_closed_where_an_error_ends_the_training(tmp_path):
    tool = InTensorBoard(tmp_path)
    board, files = tool.callback(), []

    def fail(net, epoch, history):
        files.append(vars(board)["_records"])
        if epoch == 1:
            raise ArithmeticError("mine")

    net = make()
    with pytest.raises(ArithmeticError, match="mine"):
        net.fit(X, Y, epochs=5, callbacks=[board, fail])
    assert vars(board)["_records"] is None
    assert files[0] is files[1] is not None
    assert [step for step, _ in tool.read()["cost"]] == [0, 1]
    net.fit(X, Y, epochs=2, resume=True, callbacks=board)
    assert [step for step, _ in tool.read()["cost"]] == [0, 1, 2, 3]


def test_some_epochs_and_names_with_a_prefix(tool):
    history = make().fit(X, Y, epochs=7, callbacks=tool.callback(every=3, prefix="small/"))
    told = expected(history, every=3, prefix="small/")
    assert [step for step, _ in told["small/cost"]] == [2, 5]
    agree(tool.read(), told)


def test_batches_are_told_of(tool):
    batches = [(X[:, :30], Y[:, :30]), (X[:, 30:], Y[:, 30:])]
    history = make().fit(batches, epochs=2, callbacks=tool.callback())
    agree(tool.read(), expected(history))


def test_what_was_told_before_an_error_is_there(tool):
    def fail(net, epoch, history):
        if epoch == 2:
            raise RuntimeError("in the third epoch")

    told, callback = {}, tool.callback()
    note = lambda net, epoch, history: told.update(copy.deepcopy(history))  # noqa: E731
    with pytest.raises(RuntimeError, match="in the third epoch"):
        make().fit(X, Y, epochs=5, callbacks=[callback, note, fail])
    agree(tool.read(), expected(told))


@pytest.mark.parametrize("through", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_a_copy_works_also_of_one_at_work(tool, through):
    callback, copies = tool.callback(), []
    make().fit(X, Y, epochs=1, callbacks=[callback, lambda *_: copies.append(through(callback)) and False])
    history = make().fit(X, Y, epochs=2, callbacks=copies)
    assert tool.read()["cost"][-1] == (1, pytest.approx(history["cost"][-1], rel=1e-6))


def test_estimators_tell_it(tool):
    estimators = pytest.importorskip("nnkern.sklearn", exc_type=ImportError)
    clone = pytest.importorskip("sklearn").base.clone
    model = estimators.MLPClassifier((4,), max_iter=3, tol=0, random_state=0, warm_start=True)
    model.set_params(callbacks=[tool.callback()])
    model = clone(model)
    for _ in range(2):
        with pytest.warns(Warning, match="Maximum iterations"):
            model.fit(X.T, Y[0])
    agree({"cost": tool.read()["cost"]}, {"cost": list(enumerate(model.loss_curve_))})


def test_rounds_of_shards_are_told(tool):
    from concurrent.futures import ThreadPoolExecutor

    net = make()
    with ThreadPoolExecutor(1) as executor:
        shards = [(X[:, :30], Y[:, :30]), (X[:, 30:], Y[:, 30:])]
        history = nk.fit_shards(net, shards, executor=executor, rounds=3, callbacks=tool.callback())
    agree(tool.read(), expected(history))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
def test_no_files_and_threads_stay_open(tmp_path):
    board = InTensorBoard(tmp_path)

    def fail(net, epoch, history):
        raise RuntimeError

    def opened():
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    make().fit(X, Y, epochs=1, callbacks=board.callback())
    before, callback = opened(), board.callback()
    for _ in range(3):
        with pytest.raises(RuntimeError):
            make().fit(X, Y, epochs=1, callbacks=[callback, fail])
        assert opened() == before
    make().fit(X, Y, epochs=1, callbacks=callback)
    assert opened() == before


def test_what_is_trained_again_replaces_what_was(tmp_path):
    """Of a training that was interrupted after its checkpoint, and of one that begins anew."""
    board, net = InTensorBoard(tmp_path), make()
    first = net.fit(X, Y, epochs=3, optimizer="adam", callbacks=board.callback())
    net.save(tmp_path / "net.npz", training_state=True)
    net.fit(X, Y, epochs=4, resume=True, callbacks=board.callback())
    second = nk.load(tmp_path / "net.npz").fit(X, Y, epochs=2, resume=True, callbacks=board.callback())
    agree(board.read(), expected(first, second))
    anew = make(1).fit(X, Y, epochs=1, callbacks=board.callback())
    agree(board.read(), expected(anew))


def test_a_folder_that_cannot_be(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("")
    net = make()
    before = net.parameters["W1"].copy()
    with pytest.raises(OSError, match="file"):
        net.fit(X, Y, epochs=1, callbacks=nk.TensorBoard(tmp_path / "file" / "log"))
    assert np.array_equal(net.parameters["W1"], before)


def test_the_run_that_is_active_or_one_that_becomes_it(mlflow):
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        history = make().fit(X, Y, epochs=2, callbacks=nk.MLflow())
    assert client.get_run(run.info.run_id).data.metrics["cost"] == history["cost"][-1]
    callback = nk.MLflow()
    history = make().fit(X, Y, epochs=2, callbacks=callback)
    active = mlflow.active_run()
    assert active.info.run_id != run.info.run_id
    assert client.get_run(active.info.run_id).data.metrics["cost"] == history["cost"][-1]
    assert callback.run_id is None


@pytest.mark.usefixtures("mlflow")
def test_names_that_mlflow_does_not_take():
    tool = InMLflow()
    # the name of a lambda is <lambda>
    first = nk.EarlyStopping(monitor=lambda targets, outputs: 1.5, mode="min")
    make().fit(X, Y, epochs=1, validation_split=0.5, callbacks=[first, tool.callback()])
    assert tool.read()["val__lambda_"] == [(0, 1.5)]


# ---- Optuna ----


@pytest.fixture
def optuna():
    module = pytest.importorskip("optuna")
    before = module.logging.get_verbosity()
    module.logging.set_verbosity(module.logging.WARNING)
    yield module
    module.logging.set_verbosity(before)


def test_each_epoch_is_reported(optuna):
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    trial, net, how = study.ask(), make(), {"optimizer": "adam", "validation_data": (X, Y)}
    first = net.fit(X, Y, epochs=3, callbacks=nk.OptunaPruning(trial), **how)
    second = net.fit(X, Y, epochs=2, resume=True, callbacks=nk.OptunaPruning(trial), **how)
    values = first["val_cost"] + second["val_cost"]
    study.tell(trial, values[-1])
    assert study.trials[0].intermediate_values == dict(enumerate(values))


@pytest.mark.parametrize("monitor", ["cost", "val_error", missed])
def test_what_is_reported(optuna, monitor):
    study = optuna.create_study()
    trial = study.ask()
    history = make().fit(X, Y, epochs=2, validation_split=0.5, callbacks=nk.OptunaPruning(trial, monitor))
    study.tell(trial, 0.0)
    key = "val_missed" if monitor is missed else monitor
    assert study.trials[0].intermediate_values == dict(enumerate(history[key]))


def test_the_pruner_ends_the_training(optuna):
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=0.0, n_warmup_steps=2))
    epochs = []

    def objective(trial):
        callbacks = [lambda net, epoch, history: epochs.append(epoch), nk.OptunaPruning(trial, "cost")]
        make().fit(X, Y, epochs=9, callbacks=callbacks)

    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["PRUNED"] * 2
    assert epochs == [0, 1, 2] * 2
    with pytest.raises(optuna.TrialPruned, match=r"^pruned after epoch 2, with cost 0\.\d+$"):
        make().fit(X, Y, epochs=9, callbacks=nk.OptunaPruning(study.ask(), "cost"))


def test_of_several_networks_one_is_pruned(optuna):
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=0.0, n_warmup_steps=2))
    still = optuna.create_study(pruner=optuna.pruners.NopPruner())
    nets = [make(seed) for seed in range(3)]
    callbacks = [nk.OptunaPruning(own.ask(), "cost", raises=False) for own in (still, study, still)]
    histories = nk.fit_many(nets, X, Y, epochs=6, callbacks=callbacks)
    assert [len(history["cost"]) for history in histories] == [6, 3, 6]
    assert [callback.pruned for callback in callbacks] == [False, True, False]
    # and what was pruned before isn't for good
    callbacks[1].trial = still.ask()
    make().fit(X, Y, epochs=1, callbacks=callbacks[1])
    assert not callbacks[1].pruned


def test_a_copy_reports_to_the_same_trial(optuna):
    study = optuna.create_study()
    trial = study.ask()
    copied = copy.deepcopy(nk.OptunaPruning(trial, "cost"))
    history = make().fit(X, Y, epochs=1, callbacks=copied)
    study.tell(trial, 0.0)
    assert study.trials[0].intermediate_values == {0: history["cost"][0]}


# ---- refusals, without the packages too ----


class Trial:
    """What Optuna's has."""

    def report(self, value, step):
        raise AssertionError("nothing is reported here")

    should_prune = report


@pytest.mark.parametrize(
    ("make_callback", "error", "words"),
    [
        (lambda: nk.TensorBoard("log", every=0), ValueError, "every must be an integer >= 1"),
        (lambda: nk.TensorBoard("log", prefix=3), TypeError, "prefix must be a text; got 3"),
        (lambda: nk.TensorBoard(3), TypeError, "PathLike object, not int"),
        (lambda: nk.MLflow(every=0), ValueError, "every must be an integer >= 1"),
        (lambda: nk.MLflow(7), TypeError, r"run_id must be a text, as run\.info\.run_id is; got 7"),
        (lambda: nk.OptunaPruning(None), TypeError, "trial must be a trial of Optuna's, .* method report; got None"),
        (lambda: nk.OptunaPruning(Trial(), 3), TypeError, "monitor must be a key of the history or a function"),
        (lambda: nk.OptunaPruning(Trial(), raises=1), ValueError, "raises must be True or False"),
    ],
)
def test_callbacks_that_cannot_be(make_callback, error, words):
    with pytest.raises(error, match=words):
        make_callback()


class Pruned(Trial):
    """One whose pruner ends it after the third report."""

    def __init__(self):
        self.reported = []

    def report(self, value, step):
        self.reported.append((step, value))

    def should_prune(self):
        return len(self.reported) == 3


def test_what_is_pruned_ends_by_the_error_that_optuna_expects(monkeypatch):
    class TrialPruned(Exception):
        pass

    monkeypatch.setitem(sys.modules, "optuna", SimpleNamespace(TrialPruned=TrialPruned))
    net, trial = make(), Pruned()
    with pytest.raises(TrialPruned, match=r"^pruned after epoch 2, with cost 0\.\d+$"):
        net.fit(X, Y, epochs=9, callbacks=nk.OptunaPruning(trial, "cost"))
    assert [step for step, _ in trial.reported] == [0, 1, 2]
    quiet = nk.OptunaPruning(Pruned(), "cost", raises=False)
    assert len(make().fit(X, Y, epochs=9, callbacks=quiet)["cost"]) == 3
    assert quiet.pruned


def test_what_is_not_recorded_is_not_reported(optuna):
    with pytest.raises(ValueError, match=r"monitor 'val_cost' isn't in the history.*validation_data"):
        make().fit(X, Y, epochs=1, callbacks=nk.OptunaPruning(Trial()))


def test_several_networks_have_one_each(tool):
    words = r"^callbacks holds a (TensorBoard|MLflow) for all of 2 networks, which would (write to the same folder|log)"
    with pytest.raises(ValueError, match=words):
        nk.fit_many([make(), make(1)], X, Y, epochs=1, callbacks=tool.callback())
    with pytest.raises(ValueError, match=r"^callbacks holds one (TensorBoard|MLflow) for two networks"):
        nk.fit_many([make(), make(1)], X, Y, epochs=1, callbacks=[tool.callback()] * 2)


def test_several_networks_report_to_one_trial_each(optuna):
    with pytest.raises(
        ValueError, match=r"^callbacks holds an OptunaPruning for all of 2 networks, which would report"
    ):
        nk.fit_many([make(), make(1)], X, Y, epochs=1, callbacks=nk.OptunaPruning(Trial(), "cost"))


@pytest.mark.parametrize(
    ("package", "called", "name", "callback"),
    [
        ("tensorboard", "tensorboard", "TensorBoard", "nk.TensorBoard('log')"),
        ("mlflow", "MLflow", "MLflow", "nk.MLflow()"),
        ("optuna", "Optuna", "OptunaPruning", "nk.OptunaPruning(Trial())"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(package, called, name, callback, tmp_path):
    code = f"""
        import sys
        sys.modules[{package!r}] = None
        import nnkern as nk

        class Trial:
            report = should_prune = print

        try:
            {callback}
        except nk.MissingPackageError as error:
            print(error)
    """
    assert run(code).startswith(f"{name} needs {called}: pip install 'nnkern[{package}]' (")
    assert os.listdir(tmp_path) == []
