"""Other people's Cython code: an extension outside the tree cimports the kernels and calls them without the GIL."""

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import reference

import nnkern as nk

pytest.importorskip("Cython")
pytest.importorskip("setuptools")

USER = """
    # cython: language_level=3
    from nnkern._kernels cimport (
        Matrix, Team, dissolve, fits_blas, form_team, forward_columns, input_gradient, matrix_of, number_of_threads,
        product, real, transposed, weight_gradient,
    )

    def step(real[::1, :] A, real[::1, :] dA_prev, real[::1, :] dW, const real[:, :] W, const real[::1] b,
             const real[:, :] X, const real[::1, :] dZ, int activation):
        \"""A = g(W X + b), dA_prev = W' dZ, dW = dZ X' / m, all of it in one block without the GIL.\"""
        cdef Matrix W_, X_
        cdef int linear = 0
        cdef bint fits
        cdef Team team = form_team(number_of_threads(None))
        with nogil:
            W_, X_ = matrix_of(W), matrix_of(X)
            fits = fits_blas(&W_) and fits_blas(&X_)
            if fits:
                forward_columns(&A[0, 0], <real *>NULL, activation, 0.01, &W_, &X_, &b[0], &team)
                input_gradient(&dA_prev[0, 0], <real *>NULL, linear, 0.0, &W_, &dZ[0, 0], <const real *>NULL,
                               <const real *>NULL, X_.m, &team)
                weight_gradient(&dW[0, 0], &dZ[0, 0], &X_, <real>(1.0 / X_.m), <real>0, W_.n, NULL,
                                &team)
            dissolve(&team)
        return fits

    def gram(double[::1, :] C, const double[:, :] A, double alpha=1, double beta=0):
        \"""C = alpha A A' + beta C\"""
        cdef Matrix A_, At
        cdef Team team = form_team(2)
        with nogil:
            A_ = matrix_of(A)
            At = transposed(&A_)
            product(&C[0, 0], C.shape[0], alpha, &A_, &At, beta, &team)
            dissolve(&team)
"""
SETUP = """
    from Cython.Build import cythonize
    from setuptools import Extension, setup

    setup(name="user", ext_modules=cythonize([Extension("user", ["user.pyx"])]))
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """The extension, built in a folder of its own by another process, as its author would."""
    if sys.platform != "win32" and not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("user")
    (folder / "user.pyx").write_text(textwrap.dedent(USER))
    (folder / "setup.py").write_text(textwrap.dedent(SETUP))
    done = subprocess.run(
        [sys.executable, "-P", "setup.py", "build_ext", "--inplace"],
        cwd=folder,
        env={**os.environ, "CFLAGS": "-O0"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = [file for file in folder.iterdir() if file.suffix in (".so", ".pyd")]
    spec = importlib.util.spec_from_file_location("user", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("activation", ["linear", "tanh", "relu", "softmax"])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_a_layer_and_its_gradients(user, compare, activation, layout, dtype):
    n, n_prev, m = 9, 17, 33
    rng = np.random.default_rng(0)
    W = np.asarray(rng.standard_normal((n, n_prev)), dtype, order=layout)
    X = np.asarray(rng.standard_normal((n_prev, m)), dtype, order=layout)
    b, dZ = rng.standard_normal(n).astype(dtype), np.asfortranarray(rng.standard_normal((n, m)), dtype)
    A, dA_prev, dW = (np.full(shape, np.nan, dtype, order="F") for shape in ((n, m), (n_prev, m), (n, n_prev)))
    assert user.step(A, dA_prev, dW, W, b, X, dZ, nk.kernels.ACTIVATIONS.index(activation))
    expected, Z = reference.dense_forward(W, X, b[:, None], activation)
    compare(A, expected, reference.bound_A(Z, activation, dtype, reference.bound_Z(W, X, b[:, None], dtype)))
    _, expected_dW, _, expected_dA_prev = reference.dense_backward(dZ, W, X, expected, "linear")
    _, bound_dW, _, bound_dA_prev = reference.bound_backward(dZ, W, X, expected, "linear", dtype)
    compare(dW, expected_dW, bound_dW)
    compare(dA_prev, expected_dA_prev, bound_dA_prev)


def test_what_blas_does_not_take_is_told(user):
    a = np.zeros((2, 2), order="F")
    strided = np.zeros((4, 6))[::2, ::3]
    assert not user.step(a, a.copy("F"), a.copy("F"), strided, np.zeros(2), a, a, 0)


def test_products_of_integers_are_exact(user):
    A = np.random.default_rng(0).integers(-9, 10, (5, 8)).astype(float)
    C = np.full((5, 5), np.nan, order="F")
    user.gram(C, A)
    assert np.array_equal(C, A @ A.T)
    for n in (1, 5):
        C = np.full((n, n), 2.0, order="F")
        user.gram(C, A[:n], 2.0, 3.0)
        assert np.array_equal(C, 2 * A[:n] @ A[:n].T + 6)
