"""Validates the numbers, names, flags and arrays that users hand in, for every module above, and words their errors.

What only one class can know, such as which layers a loss goes with, is refused by that class.

Every function returns the thing in the form that the engine takes, without a copy where none is needed, or raises:
the message names the argument, what came and what was expected. Nothing here knows how a network computes.
"""

import contextlib
import math
import numbers
import weakref
from collections.abc import Mapping

import numpy as np

from nnkern import _kernels
from nnkern.exceptions import DivergenceError

LARGEST_SIZE = 2**31 - 1
"""Of a layer, in units or features: BLAS counts them in a C int."""
_LARGEST_EXPONENT, _LARGEST_BATCH = 30, 2.0**24
"""Sample weights whose largest is at most 2 to this, and at least 1 by it, have sums far from a dtype's limits; so has
the number of a batch's examples divided by the sum of their weights, where that is no smaller than `tiny` times this.
"""


def integer(name, value, low, high=math.inf):
    """A whole number from low to high; not a bool."""
    no_integer = isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral)
    if no_integer or not low <= value <= high:
        bound = f" and <= {high}" if high < math.inf else ""
        raise ValueError(f"{name} must be an integer >= {low}{bound}; got {repr(value) if no_integer else value}")
    return int(value)


def size(name, value):
    """A number of units or features."""
    return integer(name, value, 1, LARGEST_SIZE)


def number(name, value, low=-math.inf, high=math.inf, *, low_open=False, high_open=False):
    """A finite number in the range from low to high; not a bool."""
    is_number = type(value) is float or (isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_))
    if is_number:
        x = float(value)
        above = x > low if low_open else x >= low
        below = x < high if high_open else x <= high
        if math.isfinite(x) and above and below:
            return x
    interval = f"in {'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
    if high == math.inf:
        interval = f"finite and {'>' if low_open else '>='} {low:g}" if low > -math.inf else "finite"
    raise ValueError(f"{name} must be {'' if is_number else 'a number, '}{interval}; got {value!r}")


def flag(name, value):
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False; got {value!r}")
    return bool(value)


def choice(name, value, names):
    """One of the names."""
    if not isinstance(value, str) or value not in names:
        hint = ""
        if isinstance(value, str):
            from difflib import get_close_matches

            close = get_close_matches(value.lower(), names, 1)
            hint = f": did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{name} must be one of {', '.join(names)}; got {value!r}{hint}")
    return value


def dtype(value):
    """float32 or float64, as a numpy dtype."""
    try:
        result = None if value is None else np.dtype(value)
    except TypeError:
        result = None
    if result not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64; got {value!r}")
    return result


def compute(value, dtype):
    """What products are computed in where that isn't the dtype: "bfloat16", or None."""
    if value is None or (isinstance(value, str) and value == dtype.name):
        return None
    if not isinstance(value, str) or value != "bfloat16":
        raise ValueError(
            f'compute must be None, "{dtype.name}" as the dtype or, for float32, "bfloat16"; got {value!r}'
        )
    if dtype != np.float32:
        raise ValueError(f'compute="bfloat16" is for dtype float32; the dtype is {dtype.name}')
    return value


class _Memory:
    """The memory of an array. A view of it keeps the owner from being resized, for that has a weak reference then."""

    def __init__(self, array):
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        self.__array_interface__ = array.__array_interface__
        self._kept = array, weakref.ref(owner)


def _own_view(name, given):
    """An array that isn't the caller's own object, whose shape and strides may be set in the next moment."""
    try:
        array = np.asarray(given)
    except ValueError as error:  # of lists whose lengths differ
        raise ValueError(f"{name} is no array of numbers: {error}") from error
    if array.dtype.kind in "biuf":
        return np.asarray(_Memory(array))
    if array.ndim == 0 and array.dtype.kind in "OUS":
        dense(name, array.item())
    return array


def dense(name, array):
    """Refuses what is sparse, as scipy's matrices and arrays are, and a text, which is the name of a file at most."""
    if isinstance(array, str | bytes):
        raise TypeError(
            f"{name} must hold real numbers; got the text {array!r}: read the file first, for instance by "
            "numpy.loadtxt; nnkern.tabular reads tables"
        )
    if hasattr(array, "toarray") and hasattr(array, "nnz"):
        raise TypeError(
            f"{name} is sparse, a {type(array).__name__}, and a network takes dense arrays: pass {name}.toarray(), or "
            "batch by batch as an iterable of (X, Y); the estimators of nnkern.sklearn take sparse samples"
        )


def _numbers(name, array, to):
    """An array of dtype `to` in native, aligned memory; complex numbers, strings and the like are refused."""
    array = _own_view(name, array)
    if array.dtype.kind not in "biuf":
        if array.dtype.kind != "O":
            raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}{_text_in(name, array)}")
        try:
            array = np.asarray(array, dtype=np.float64)  # numpy words the error where an entry is no number
        except OverflowError:
            raise ValueError(f"{name} holds a number that is too large for float64") from None
        except (TypeError, ValueError) as error:
            hint = _text_in(name, array) or f" ({error})"
            raise TypeError(f"{name} must hold real numbers; got an array of objects{hint}") from error
    if array.dtype == to and array.dtype.isnative and array.flags.aligned:
        return array
    try:
        with np.errstate(over="raise"):  # as cheap as the conversion
            return array.astype(to, order="K")
    except FloatingPointError:
        return _in_range(name, array, np.dtype(to))


def _text_in(name, array):
    """Where an array holds text, and what to do about it; nothing where it holds none."""
    for at, entry in np.ndenumerate(array):
        if isinstance(entry, str | bytes):
            return (
                f", {_shown(entry)} at position {at if len(at) > 1 else at[0]}: make numbers of text first, "
                f"{name}.astype(float) where it is numbers as text, columns of 0 and 1 for categories; nnkern.tabular "
                "takes tables with text as they are"
            )
    return ""


def _shown(text):
    """As Python's own text, not numpy's."""
    return repr(bytes(text) if isinstance(text, bytes) else str(text))


def _in_range(name, array, to):
    """The array as `to`; a number that is finite, and infinite as `to`, is refused."""
    with np.errstate(over="ignore"):
        result = array.astype(to, order="K")
    bad = np.argwhere(np.isfinite(array) & ~np.isfinite(result))
    if len(bad):
        at = tuple(bad[0].tolist())
        mend = ', or make the network with dtype="float64"' if to == np.float32 else ""
        raise ValueError(
            f"{name} holds {array[at]!s} at position {at if len(at) != 1 else at[0]}, which is finite in "
            f"{array.dtype.name} and not in {to.name}, the network's dtype: scale {name}{mend}"
        )
    return result


def _finite(name, array):
    """Refuses NaN and infinities."""
    at = _kernels.first_nonfinite(array)
    if at is not None:
        raise ValueError(f"{name} holds {array[at]} at position {at}: every entry must be finite")
    return array


def rows(name, given):
    """What has examples in rows, (m, …), as columns; a view where it is an array. Of a vector nothing is changed."""
    dense(name, given)
    array = given if isinstance(given, np.ndarray) else _own_view(name, given)
    if array.ndim > 2:
        array = array.reshape(len(array), -1)
    return array.T if array.ndim == 2 else array


def examples_in_rows(name, given):
    """X of examples in rows as columns (n_x, m). A vector is refused here, where one example is a row."""
    array = rows(name, given)
    if array.ndim == 1:
        raise ValueError(
            f"{name} must have shape (m, n_x), one example a row; got shape {array.shape}: {name}.reshape(1, -1) for "
            f"one example of {array.size} features, {name}.reshape(-1, 1) for {array.size} examples of one feature"
        )
    return array


@contextlib.contextmanager
def told_of_columns(from_rows=True):
    """Around checks of columns that came in rows: an error says that the shapes and positions it names are theirs."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if from_rows and not isinstance(error, DivergenceError):
            error.add_note(
                "With rows=True shapes and positions are those of X.T and Y.T, the arrays with an example a column."
            )
        raise


def examples(X, n_x, to, *, finite, name="X"):
    """X as (n_x, m) of dtype `to`; n_x None takes any number of features."""
    X = _numbers(name, X, to)
    if X.ndim != 2:
        hint = ""
        if X.ndim == 1:
            hint = (
                f": {name}.reshape(-1, 1) for one example of {X.shape[0]} features, "
                f"{name}.reshape(1, -1) for {X.shape[0]} examples of one feature"
            )
        elif X.ndim > 2:
            hint = f": {name}.reshape({name}.shape[0], -1).T where the first axis counts the examples"
        raise ValueError(f"{name} must have shape (n_x, m), one example a column; got shape {X.shape}{hint}")
    if X.shape[0] == 0 or X.shape[1] == 0:
        what = "features" if X.shape[0] == 0 else "examples"
        raise ValueError(f"{name} has 0 {what}: shape {X.shape}, expected (n_x, m) with both at least 1")
    if n_x is not None and X.shape[0] != n_x:
        hint = f"; it looks transposed: pass {name}.T" if X.shape[1] == n_x else ""
        raise ValueError(f"{name} has {X.shape[0]} features, the network expects {n_x}{hint}")
    return _finite(name, X) if finite else X


def targets(Y, loss, n_y, m, to, *, n_x=None, name="Y"):
    """(Y, labels) as the engine takes them, one of the two None: Y (n_y, m) of dtype `to`, or labels (m,) of int64."""
    raw = _own_view(name, Y)
    if loss.labels and raw.dtype.kind in "USO" and raw.size and isinstance(first := raw.reshape(-1)[0], str | bytes):
        raise TypeError(
            f"{name} must hold real numbers; got dtype {raw.dtype}, {_shown(first)} first: labels are whole numbers "
            f"from 0 on. names, labels = numpy.unique({name}, return_inverse=True) makes them; nnkern.sklearn's "
            "MLPClassifier takes labels of any kind"
        )
    if loss.score == "argmax" and raw.shape in ((m,), (1, m)) and not (n_y == 1 and raw.ndim == 2 and (raw == 1).all()):
        labels = _labels(raw, n_y, m, name)
        return (None, labels) if loss.kernel_takes_labels else (_one_hot(labels, n_y, to), None)
    if loss.score == "sides" and n_y == 1 and raw.shape == (m,):
        return _labels(raw, 2, m, name).astype(to).reshape(1, m), None
    Y = _numbers(name, raw, to)
    if Y.shape != (n_y, m):
        raise ValueError(_shape_of_targets(Y, loss, n_y, m, n_x, name))
    _finite(name, Y)
    low, high = loss.low, loss.high
    if low > -math.inf:
        outside = (low > Y) | (high < Y)
        if outside.any():
            i, j = np.argwhere(outside)[0]
            interval = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
            raise ValueError(f"{name} holds {Y[i, j]} at position ({i}, {j}): {loss.name} needs entries {interval}")
    if loss.score == "argmax":
        sums = Y.sum(axis=0, dtype=np.float64)
        off = np.flatnonzero(np.abs(sums - 1) > 1e-3)
        if len(off):
            raise ValueError(
                f"column {off[0]} of {name} sums to {sums[off[0]]:.6g}: {loss.name} needs columns that sum to 1, "
                f"or labels 0 … {n_y - 1} of shape ({m},)"
            )
    return Y, None


def no_nan(A):
    """Outputs A (n_y, m) that classes are to be told from; none of them may be NaN."""
    bad = np.isnan(A).any(axis=0)
    if bad.any():
        raise ValueError(
            f"the outputs for example {bad.argmax()} hold NaN, which is no class: X or the parameters hold NaN, or "
            "numbers that are too large"
        )
    return A


def units(name, value, n, m):
    """One of n units, counted from 0, for each of m examples: (m,) integers from one integer or m of them."""
    given = np.asarray(value)
    if given.dtype.kind not in "iu" or given.shape not in ((), (m,)):
        raise ValueError(f"{name} must be a unit, an integer from 0 to {n - 1}, or ({m},) of them; got {value!r}")
    if given.size and not 0 <= given.min() <= given.max() < n:
        raise ValueError(f"{name} must be from 0 to {n - 1}; got {value!r}")
    return np.broadcast_to(given.astype(np.intp), (m,))


def _plain(x):
    """A number as one writes it: whole ones without a point, however large."""
    return int(x) if np.isfinite(x) and x == np.floor(x) else x.item()


def _labels(raw, n_classes, m, name):
    """int64 (m,), each in 0 … n_classes-1: a copy, for they say where in memory to look, and are looked at again."""
    values = raw.reshape(m).copy()
    if values.dtype.kind not in "biu":
        values = _numbers(name, values, np.float64)
        bad = np.flatnonzero(~(values == np.floor(values)))
        if len(bad):
            raise ValueError(
                f"{name} holds the label {_plain(values[bad[0]])} at position {bad[0]}: labels are whole numbers "
                f"from 0 to {n_classes - 1}"
            )
    bad = np.flatnonzero((values < 0) | (values >= n_classes))
    if len(bad):
        classes = f"{n_classes} classes" if n_classes > 1 else "one class, its only unit"
        raise ValueError(
            f"{name} holds the label {_plain(values[bad[0]])} at position {bad[0]}: labels go from 0 to "
            f"{n_classes - 1}, as the output has {classes}; numpy.unique({name}, return_inverse=True)[1] "
            "counts other labels from 0"
        )
    return np.ascontiguousarray(values, dtype=np.int64)


def _one_hot(labels, n_y, to):
    """(n_y, m), a column of 0 and 1 for each label."""
    Y = np.zeros((n_y, len(labels)), to, order="F")
    Y[labels, np.arange(len(labels))] = 1
    return Y


def _shape_of_targets(Y, loss, n_y, m, n_x, name):
    """What is wrong with the shape of Y, and what mends it."""
    expected = f"({n_y}, {m})"
    if loss.labels:
        expected += f" or labels of shape ({m},)" if n_y == 1 or loss.score == "argmax" else ""
    start = f"{name} has shape {Y.shape}, expected {expected}"
    if Y.ndim == 1 and Y.shape == (m,):
        if n_y == 1:
            return f"{start}: {name}.reshape(1, -1) makes it a row; a rank-1 array is never broadcast"
        as_labels = m > 0 and bool(((Y >= 0) & (n_y > Y) & (np.floor(Y) == Y)).all())
        hint = f"; labels of {n_y} classes go with softmax units and the loss cross_entropy" if as_labels else ""
        hint += ', or with a function that says so, function.score = "argmax"' if hint and loss.name == "custom" else ""
        return f"{start}: a rank-1 array is never broadcast over the {n_y} outputs{hint}"
    if Y.shape == (m, n_y):
        return f"{start}: it is transposed, pass {name}.T"
    if Y.ndim == 1 or (Y.ndim == 2 and Y.shape[0] == n_y):
        hint = "; an example is a column of X: pass X.T if yours are its rows" if Y.shape[-1] == n_x else ""
        return f"{start}: X has {m} examples, {name} has {Y.shape[-1]}{hint}"
    if Y.shape == (n_x, n_y):
        return f"{start}: an example is a column of X and of {name}: pass X.T and {name}.T if yours are the rows"
    return start


def weights(sample_weight, m, to, whole=True):
    """(m,) of dtype `to`, finite, >= 0, and if they are `whole`, not a batch's, not all 0; None stays None."""
    if sample_weight is None:
        return None
    given = _own_view("sample_weight", sample_weight)
    w = _shaped("sample_weight", given, (m,), to if given.dtype == to else np.float64)
    _finite("sample_weight", w)
    if (w < 0).any() or (whole and not w.any()):
        raise ValueError("sample_weight must be >= 0 everywhere and not 0 everywhere")
    return _scaled("sample_weight", w, to, whole)


def _scaled(name, w, to, whole):
    """Weights (m,) as an array of `to`, whose sums and their reciprocals are in its range where they are the `whole`.

    Only ratios count. A factor that is a power of two is exact; what is too small beside the largest becomes 0.
    """
    if whole and len(w):
        exponent = math.frexp(w.max())[1]
        if abs(exponent) > _LARGEST_EXPONENT:
            w = np.ldexp(w.astype(np.float64), -exponent)
        negligible = (w > 0) & (w < np.finfo(to).tiny * _LARGEST_BATCH)
        w = np.where(negligible, 0, w) if negligible.any() else w
    return np.ascontiguousarray(_numbers(name, w, to))


def class_weights(class_weight, loss, n_y, data, whole=True):
    """`data` (X, Y, labels, w) as the engine takes it, each w_i times the weight of example i's class.

    Several sigmoid outputs have two classes each, whose weights are multiplied, as scikit-learn's compute_sample_weight
    does.
    """
    if class_weight is None:
        return data
    if not loss.classifies:
        raise ValueError(f"class_weight needs classes, which the loss {loss.name} doesn't have")
    X, Y, labels, w = data
    # of each class in each example, (classes, m), for each output with classes of its own; None: labels say it
    shares = [np.vstack([1 - y, y]) for y in Y] if loss.score == "sides" else [Y]
    examples_ = np.ones(X.shape[1]) if w is None else w
    for (name, given), share in zip(_by_output(class_weight, len(shares)), shares, strict=True):
        n_classes = n_y if share is None else len(share)
        if isinstance(given, str):
            counts = np.bincount(labels, minlength=n_classes) if share is None else share.sum(axis=1, dtype=np.float64)
            by_class = X.shape[1] / (np.count_nonzero(counts) * np.where(counts == 0, np.inf, counts))
        else:
            by_class = _weights_of_classes(name, given, n_classes)
        examples_ = examples_ * (by_class[labels] if share is None else by_class @ share)
    if whole and not examples_.any():
        raise ValueError("class_weight gives every example the weight 0")
    return X, Y, labels, _scaled("class_weight", examples_, X.dtype, whole)


def _by_output(class_weight, n):
    """(name, "balanced" or weights) for each of n outputs that have classes of their own."""
    if isinstance(class_weight, str):
        return [("class_weight", choice("class_weight", class_weight, ("balanced",)))] * n
    if n == 1:
        return [("class_weight", class_weight)]
    if isinstance(class_weight, dict) or not hasattr(class_weight, "__len__") or len(class_weight) != n:
        raise ValueError(
            f'class_weight must be "balanced", or a list of {n} dicts or pairs of numbers, one for each sigmoid '
            f"output; got {class_weight!r}"
        )
    return [(f"class_weight[{k}]", given) for k, given in enumerate(class_weight)]


def unbalanced(class_weight):
    """A class_weight for data that comes batch by batch, whose classes nobody has counted."""
    if isinstance(class_weight, str):
        raise ValueError(
            f"class_weight {class_weight!r} needs all of Y in memory: for batches pass a dict of labels and weights"
        )
    return class_weight


def _weights_of_classes(name, class_weight, n_classes):
    """(n_classes,) from a mapping {label: weight}, 1 where it has none, or from a sequence."""
    balanced = '"balanced", ' if name == "class_weight" else ""
    expected = f"{balanced}{n_classes} numbers, or a dict of labels 0 … {n_classes - 1} and their weights"
    by_class = np.ones(n_classes)
    if isinstance(class_weight, dict):
        given = class_weight.items()
    elif np.shape(class_weight) == (n_classes,):
        given = enumerate(class_weight)
    else:
        raise ValueError(f"{name} must be {expected}; got {class_weight!r}")
    for label, weight in given:
        if isinstance(label, bool | np.bool_) or not isinstance(label, numbers.Integral) or not 0 <= label < n_classes:
            raise ValueError(f"{name} holds the label {label!r}: it must be {expected}")
        by_class[label] = number(f"{name}[{label}]", weight, 0)
    return by_class


def threads(value):
    """None or a number of threads."""
    return None if value is None else integer("threads", value, 1)


def _shaped(name, array, shape, to):
    array = _numbers(name, array, to)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; got {array.shape}")
    return array


def parameter(name, array, shape, to):
    """An array of that shape, finite."""
    return _finite(name, _shaped(name, array, shape, to))


def vector(name, values):
    """A vector of finite numbers, in float64."""
    array = _numbers(name, values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be a vector; got shape {array.shape}")
    return _finite(name, array)


def arrays(name, given, views):
    """`given` as {name: array} with exactly the names and shapes of `views`, numbers, finite or not."""
    if not isinstance(given, Mapping):
        has_them = isinstance(getattr(given, name, None), Mapping)
        hint = f": its .{name} is one" if has_them else ""
        raise TypeError(
            f"{name} must be a mapping from names ({', '.join(views)}) to arrays; got {type(given).__name__}{hint}"
        )
    missing, unknown = set(views) - set(given), set(given) - set(views)
    if missing or unknown:
        parts = [f"lacks {', '.join(sorted(missing))}"] if missing else []
        parts += [f"holds the unknown {', '.join(sorted(map(str, unknown)))}"] if unknown else []
        raise ValueError(f"{name} {' and '.join(parts)}; expected {', '.join(views)}")
    return {key: _shaped(f"{name}[{key!r}]", given[key], view.shape, view.dtype) for key, view in views.items()}
