"""The estimators fitted by several ranks, each a thread with a shard of the samples."""

import warnings

import numpy as np
import pytest
from test_together import Group, Member, errors_of, results, steps_of

import nnkern as nk

pytest.importorskip("sklearn")

from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning

from nnkern.sklearn import MLPClassifier, MLPRegressor, SolverDivergenceError

TOLERANCE = 1e-9
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def samples(m, classes=3):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((m, 5))
    if classes:
        return X, np.argmax(X @ rng.standard_normal((5, classes)), axis=1)
    return X, np.sin(X.sum(axis=1)) + X[:, 0]


def by_steps(sizes, batch_size):
    """Places in the concatenated shards in the order in which steps go through them, where these are even."""
    return np.concatenate(steps_of(sizes, batch_size))


def fit_all(make, sizes, X, y, w=None, forms=(lambda X: X), **how):
    """The estimators of ranks with shards of those sizes."""
    ends = np.cumsum(sizes)

    def work(comm):
        rank = comm.Get_rank()
        own = slice(ends[rank] - sizes[rank], ends[rank])
        more = {name: values[rank] for name, values in how.items()}
        weights = None if w is None else w[own]
        return make().fit(forms(X[own]), y[own], sample_weight=weights, comm=comm, **more)

    return results(Group(len(sizes)), work)


def assert_alike(fitted, one, tolerance=TOLERANCE):
    """All ranks have the same bits, and what one process has."""
    for mlp in fitted:
        for arrays in ("coefs_", "intercepts_"):
            for own, first, alone in zip(
                getattr(mlp, arrays), getattr(fitted[0], arrays), getattr(one, arrays), strict=True
            ):
                assert own.tobytes() == first.tobytes()
                np.testing.assert_allclose(own, alone, rtol=tolerance, atol=tolerance)
        assert mlp.n_iter_ == one.n_iter_
        assert mlp.t_ == one.t_
        np.testing.assert_allclose(mlp.loss_curve_, one.loss_curve_, rtol=tolerance)
        for curve in ("validation_scores_", "validation_loss_curve_"):
            if getattr(one, curve, None) is not None:
                np.testing.assert_allclose(getattr(mlp, curve), getattr(one, curve), rtol=tolerance)


SIZES = [(32, 32), (48, 16), (64, 0), (16, 32, 16), (64,)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("solver", ["adam", "sgd", "adamw"])
@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_shards_are_fitted_as_all_samples_are(sizes, solver, classes, weighted):
    X, y = samples(64, classes)
    w = np.random.default_rng(5).exponential(size=64) if weighted else None
    kind = MLPClassifier if classes else MLPRegressor

    def make():
        return kind(
            hidden_layer_sizes=(6,), solver=solver, batch_size=16, shuffle=False, max_iter=12, random_state=0, alpha=0.1
        )

    order = by_steps(sizes, 16)
    one = make().fit(X[order], y[order], None if w is None else w[order])
    assert_alike(fit_all(make, sizes, X, y, w), one)


@pytest.mark.parametrize("how", [{"learning_rate": "invscaling"}, {"learning_rate": "adaptive"}, {}], ids=str)
@pytest.mark.parametrize("eval_on", [(0, 20, 40), (0, 40, 40), None])
def test_epochs_end_where_one_process_ends_them(how, eval_on):
    sizes, (X, y) = (48, 16), samples(64)
    X_val, y_val = samples(40)
    early = {"early_stopping": "loss"} if eval_on else {}

    def make():
        return MLPClassifier(
            (6,), "tanh", solver="sgd", batch_size=16, shuffle=False, max_iter=300, random_state=0,
            learning_rate_init=0.4, n_iter_no_change=3, tol=1e-3, **how, **early,
        )  # fmt: skip

    order, more = by_steps(sizes, 16), {}
    if eval_on:
        parts = [slice(*eval_on[:2]), slice(*eval_on[1:])]
        more["eval_set"] = [(X_val[own], y_val[own]) if own.stop > own.start else None for own in parts]
    one = make().fit(X[order], y[order], eval_set=(X_val, y_val) if eval_on else None)
    assert one.n_iter_ < 300
    assert_alike(fit_all(make, sizes, X, y, **more), one, 1e-7)


def test_labels_of_all_shards_are_the_classes():
    X, y = samples(60)
    names = np.array(["fern", "moss", "lichen"], object)[y]
    order = np.argsort(y, kind="stable")  # each shard has but one or two of the classes
    X, names, y = X[order], names[order], y[order]
    for target, expected in ((names, ["fern", "lichen", "moss"]), (y, [0, 1, 2]), (y * 2.0, [0.0, 2.0, 4.0])):
        fitted = fit_all(lambda: MLPClassifier((5,), max_iter=3, random_state=1), (20, 40, 0), X, target)
        for mlp in fitted:
            assert mlp.classes_.tolist() == expected
            assert mlp.predict_proba(X).tobytes() == fitted[0].predict_proba(X).tobytes()
            assert set(mlp.predict(X)) <= set(expected)


def test_several_labels_at_once():
    X, y = samples(48)
    labels = (np.arange(3) == y[:, None]).astype(int)
    labels[:, 0] |= X[:, 0] > 0

    def make():
        return MLPClassifier((5,), max_iter=4, batch_size=12, shuffle=False, random_state=1)

    order = by_steps((24, 24), 12)
    assert_alike(fit_all(make, (24, 24), X, labels), make().fit(X[order], labels[order]))


def test_class_weights_of_classes_that_a_shard_lacks():
    X, y = samples(48)
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]

    def make():
        return MLPClassifier(
            (5,), max_iter=4, batch_size=12, shuffle=False, random_state=1, class_weight={0: 3.0, 2: 0.5}
        )

    steps = by_steps((12, 36), 12)
    assert_alike(fit_all(make, (12, 36), X, y), make().fit(X[steps], y[steps]))


def test_sparse_samples():
    X, y = samples(48)
    X = np.where(np.abs(X) < 0.7, 0, X)

    def make():
        return MLPClassifier((5,), max_iter=4, batch_size=12, random_state=1, dropout=0.2)

    dense = fit_all(make, (20, 28), X, y)
    assert_alike(fit_all(make, (20, 28), X, y, forms=csr_matrix), dense[0])


def test_poisson():
    X, y = samples(48, 0)
    y = np.floor(np.exp(y))

    def make():
        return MLPRegressor("poisson", (5,), max_iter=6, batch_size=12, shuffle=False, random_state=1)

    order = by_steps((16, 32), 12)
    eval_set = [(X[:30], y[:30]), (X[30:], y[30:])]
    one = make().fit(X[order], y[order], eval_set=(X, y))
    assert_alike(fit_all(make, (16, 32), X, y, eval_set=eval_set), one)
    for error in errors_of(Group(2), lambda comm: make().fit(X, y, np.ones(48), comm=comm)):
        assert "loss 'poisson' doesn't go with comm= and sample_weight" in str(error)


def test_a_share_of_each_shard_is_held_out():
    X, y = samples(200)

    def make():
        return MLPClassifier((5,), max_iter=30, random_state=1, early_stopping=True, n_iter_no_change=4)

    fitted = fit_all(make, (150, 3, 47), X, y)
    for mlp in fitted:
        assert mlp.validation_scores_ == fitted[0].validation_scores_
        assert all((score * 20) == pytest.approx(round(score * 20)) for score in mlp.validation_scores_)  # 15 + 0 + 5
        assert mlp.t_ == 180 * mlp.n_iter_
        assert mlp.best_validation_score_ == max(mlp.validation_scores_)
    again = fit_all(make, (150, 3, 47), X, y)
    assert again[2].coefs_[0].tobytes() == fitted[0].coefs_[0].tobytes()


def test_random_states_may_differ_and_rank_0_has_the_say():
    X, y = samples(64)
    fitted = fit_all(lambda: MLPClassifier((5,), max_iter=3), (32, 32), X, y)
    assert fitted[0].coefs_[0].tobytes() == fitted[1].coefs_[0].tobytes()
    first, second = (fit_all(lambda s=s: MLPClassifier((5,), max_iter=3, random_state=s), (64,), X, y) for s in (1, 2))
    assert first[0].coefs_[0].tobytes() != second[0].coefs_[0].tobytes()


def test_the_batch_size_is_that_of_all():
    X, y = samples(900)
    fitted = fit_all(lambda: MLPClassifier((5,), max_iter=1, random_state=0), (450, 450), X, y)
    assert nk.Network.to_model(fitted[0].network_, training_state=True).training.progress["step"] == 5
    with pytest.warns(UserWarning, match="larger than sample size"):
        MLPClassifier((5,), max_iter=1, batch_size=1000).fit(X, y, comm=Member(Group(1), 0))


def test_warm_starts_and_an_estimator_that_only_rank_0_has():
    X, y = samples(64)

    def make():
        return MLPClassifier((5,), max_iter=5, batch_size=16, random_state=0, warm_start=True)

    def work(comm):
        rank = comm.Get_rank()
        mlp = make()
        mlp.fit(X[rank::2], y[rank::2], comm=comm)
        if rank == 1:
            mlp = make()
        return mlp.fit(X[rank::2], y[rank::2], comm=comm)

    first, second = results(Group(2), work)
    assert first.coefs_[0].tobytes() == second.coefs_[0].tobytes()
    assert first.best_loss_ == second.best_loss_
    assert first.t_ == second.t_ == 640


def test_a_callback_of_one_rank_and_what_it_raises():
    X, y = samples(64)

    def stop(net, epoch, history):
        return epoch == 2

    def fail(net, epoch, history):
        raise OSError("no disk")

    def work(callback):
        def fit(comm):
            rank = comm.Get_rank()
            callbacks = callback if rank else None
            return MLPClassifier((5,), max_iter=9, callbacks=callbacks, verbose=rank == 0).fit(X, y, comm=comm)

        return fit

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        assert [mlp.n_iter_ for mlp in results(Group(2), work(stop))] == [3, 3]
    first, second = errors_of(Group(2), work(fail))
    assert isinstance(second, OSError)
    assert first.ranks == (1,)


def test_a_divergence_is_one_of_all():
    X, y = samples(64, 0)

    def work(comm):
        own = X * (1e200 if comm.Get_rank() else 1)
        MLPRegressor(hidden_layer_sizes=(5,), max_iter=9, batch_size=64).fit(own, y, comm=comm)

    for error in errors_of(Group(2), work):
        assert isinstance(error, SolverDivergenceError)
        assert error.rank == 1
        assert "Solver produced non-finite parameter weights" in str(error)


def test_what_comm_does_not_go_with():
    X, y = samples(64)

    def error(make, data=lambda rank: (X, y)):
        def work(comm):
            make(comm.Get_rank()).fit(*data(comm.Get_rank()), comm=comm)

        return [str(one) for one in errors_of(Group(2), work)]

    assert "solver='lbfgs' needs all samples in one process" in error(lambda rank: MLPClassifier(solver="lbfgs"))[0]
    assert "class_weight='balanced' counts samples" in error(lambda rank: MLPClassifier(class_weight="balanced"))[0]
    for said in error(lambda rank: MLPClassifier(alpha=rank + 1)):
        assert said == "alpha must be the same on all ranks; rank 0 has 1, rank 1 2"
    for said in error(lambda rank: MLPClassifier((5 + rank,))):
        assert "layers must be the same on all ranks" in said
    both = np.column_stack([y > 0, y > 1]).astype(int)
    for said in error(lambda rank: MLPClassifier(), lambda rank: (X, both if rank else y)):
        assert "y must be of the same kind on all ranks, which have multiclass with 3 classes" in said
    first, second = error(lambda rank: MLPClassifier(), lambda rank: (X[:0] if rank else X, y))
    assert second == "X has no samples, and y has 64"
    assert first.startswith("rank 1 has failed")
    with pytest.raises(TypeError, match="comm must be a communicator"):
        MLPClassifier().fit(X, y, comm=3)
    for said in error(lambda rank: MLPClassifier(), lambda rank: (X[:0], y[:0])):
        assert "have 0 examples" in said


def test_too_few_samples_to_hold_out():
    X, y = samples(6)

    def work(comm):
        own = slice(3 * comm.Get_rank(), 3 * comm.Get_rank() + 3)
        MLPRegressor(early_stopping=True, validation_fraction=0.1).fit(X[own], y[own], comm=comm)

    for error in errors_of(Group(2), work):
        assert str(error).startswith("The validation set is too small. Increase 'validation_fraction' or the size of")


def test_a_failed_fit_leaves_what_was_there():
    X, y = samples(64)

    def work(comm):
        mlp = MLPClassifier((5,), max_iter=2, random_state=0).fit(X, y)
        before = mlp.coefs_[0].copy()
        with pytest.raises((ValueError, nk.RankError)):
            mlp.fit(X if comm.Get_rank() else np.where(X > 1, np.nan, X), y, comm=comm)
        return (mlp.coefs_[0] == before).all()

    assert all(results(Group(2), work))
