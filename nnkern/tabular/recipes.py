"""Recipes: how one network of a table is built and trained, as numbers and names; and the presets, lists of them.

A recipe knows kinds of rows of X, not columns: its encoders, layers, optimizer and epochs are what TabularClassifier
and TabularRegressor train. docs/tabular.md has what each default is worth.
"""

import math

import numpy as np

from nnkern import encoders, layers, losses, network, optimizers, schedules, validation
from nnkern._kernels import ACTIVATIONS
from nnkern._values import Value
from nnkern.tabular import bins

NUMBERS = ("plain", "periodic", *bins.KINDS)
# most rows that edges of bins are found from: a quantile of so many is within half a percent of the ranks
_MOST_FOR_EDGES = 50_000
# training rows up to which batches have the recipe's size, the largest batch, and the fewest steps of an epoch
_MANY_ROWS, _LARGEST_BATCH, _FEWEST_STEPS, _SMALLEST_BATCH = 20_000, 4096, 12, 8
# epochs that a table of any size has, where the recipe has as many
_FEWEST_EPOCHS = 16


class Recipe(Value):
    """How one network is built and trained.

    Parameters
    ----------
    units : sequence of int
        Of the hidden layers. Three of 128 were as good as three of 256 on 17 tables of 1,300 to 4,400 training rows, in
        a third of the time.
    activation : str
        Of the hidden layers, see `nnkern.kernels.ACTIVATIONS`.
    numbers : "plain", "quantile", "tree" or "periodic"
        How a number enters: as it is; or beside that as bins at its quantiles or at a tree's thresholds, which lets a
        network bend where the data does; or as a learnt periodic embedding.
    bins, bin_rows : int
        Bins of a number, at least 2, and the fewest training rows of a bin that a tree makes. Many narrow bins are for
        columns where a few values tell much; behind a linear map they cost nothing elsewhere, without one they do. A
        periodic embedding has so many frequencies.
    number_units : int, optional
        Outputs of a linear map of each number's bins, or of its periodic embedding, at least 2. None: bins as they are.
        A map keeps the first dense layer small and lets bins that act alike share what they learn.
    embedding_units, embedding_from : int
        A category of at least `embedding_from` levels is embedded in `embedding_units` numbers, others are one-hot: for
        9 to 51 levels that was better on three tables of four.
    dropout : float
        Of each hidden layer.
    scale, mix, ntk : bool
        RealMLP's pieces: a learnt factor for each feature; each hidden unit mixed with its identity; rates as if the
        weights were held times √n_prev.
    bias_rate, encoder_rate : float
        Factors on the learning rate for biases, and for what numbers' encoders learn.
    learning_rate, weight_decay, beta2 : float
        Of AdamW.
    schedule : str, optional
        Of the learning rate, see `nnkern.schedules.ByStep`; None: it stays.
    dropout_schedule : str, optional
        Of the dropout.
    epochs : int
        The best of them is kept. More than 20,000 training rows have fewer, by the root of their number, down to 16; a
        time limit may make them fewer still.
    patience : int, optional
        Epochs without a better one after which the training ends: 16 halve the time and change no error. None: all
        epochs, for schedules with several cycles.
    batch_size : int
        Of tables of up to 20,000 training rows. From there on batches grow with the rows, to 4096 at most, so that an
        epoch of a large table has some hundred steps; where an epoch would have fewer than 12 they are halved. The
        learning rate goes with the square root of what the batch is larger or smaller.
    label_smoothing : float
        Of classes, for those who want few errors and not probabilities (RealMLP has 0.1 then).
    compute : "bfloat16", optional
        What products are computed in, see `nnkern.Network`.

    Raises
    ------
    ValueError
        A number is out of its range, or a name unknown.

    Examples
    --------
    >>> from nnkern.tabular.recipes import Recipe
    >>> recipe = Recipe(numbers="tree", dropout=0.3)
    >>> recipe.dropout, recipe.replace(epochs=20).epochs
    (0.3, 20)
    """

    def __init__(
        self,
        *,
        units=(128, 128, 128),
        activation="silu",
        numbers="tree",
        bins=16,
        bin_rows=64,
        number_units=8,
        embedding_units=8,
        embedding_from=100,
        dropout=0.1,
        scale=False,
        mix=False,
        ntk=False,
        bias_rate=1.0,
        encoder_rate=1.0,
        learning_rate=2.8e-3,
        weight_decay=0.01,
        beta2=0.999,
        schedule="cosine",
        dropout_schedule=None,
        epochs=64,
        patience=16,
        batch_size=128,
        label_smoothing=0.0,
        compute=None,
    ):
        number, integer = validation.number, validation.integer
        self.units = tuple(validation.size("units", one) for one in _sequence("units", units))
        self.activation = validation.choice("activation", activation, ACTIVATIONS)
        self.numbers = validation.choice("numbers", numbers, NUMBERS)
        self.bins, self.bin_rows = integer("bins", bins, 2), integer("bin_rows", bin_rows, 1)
        self.number_units = None if number_units is None else integer("number_units", number_units, 2)
        self.embedding_units = validation.size("embedding_units", embedding_units)
        self.embedding_from = integer("embedding_from", embedding_from, 1)
        self.dropout = number("dropout", dropout, 0, 1, high_open=True)
        self.scale, self.mix = validation.flag("scale", scale), validation.flag("mix", mix)
        self.ntk = validation.flag("ntk", ntk)
        self.bias_rate, self.encoder_rate = number("bias_rate", bias_rate, 0), number("encoder_rate", encoder_rate, 0)
        self.learning_rate = number("learning_rate", learning_rate, 0, low_open=True)
        self.weight_decay = number("weight_decay", weight_decay, 0)
        self.beta2 = number("beta2", beta2, 0, 1, high_open=True)
        self.schedule = None if schedule is None else validation.choice("schedule", schedule, schedules.SHAPES)
        if dropout_schedule is not None:
            validation.choice("dropout_schedule", dropout_schedule, schedules.SHAPES)
        self.dropout_schedule = dropout_schedule
        self.epochs = integer("epochs", epochs, 1)
        self.patience = None if patience is None else integer("patience", patience, 1)
        self.batch_size = integer("batch_size", batch_size, 1)
        self.label_smoothing = number("label_smoothing", label_smoothing, 0, 1, high_open=True)
        self.compute = validation.compute(compute, np.dtype(np.float32))

    def replace(self, **changes):
        """A recipe with other values for some parameters."""
        return Recipe(**vars(self) | changes)

    def batch(self, m):
        """The batch size for m training rows."""
        size = self.batch_size
        if m >= _MANY_ROWS:
            size = max(size, min(size << int(math.log2(m / _MANY_ROWS)), _LARGEST_BATCH))
        while size * _FEWEST_STEPS > m and size > _SMALLEST_BATCH:
            size = max(size // 2, _SMALLEST_BATCH)
        return min(size, m)

    def epochs_of(self, m):
        """The epochs for m training rows: those of the recipe, from 20,000 rows on fewer, by the square root of m."""
        fewer = round(self.epochs * math.sqrt(_MANY_ROWS / m))
        return min(self.epochs, max(_FEWEST_EPOCHS, fewer))

    def optimizer(self, m):
        """AdamW for m training rows: the rate goes with the square root of the batch."""
        rate = self.learning_rate * math.sqrt(self.batch(m) / self.batch_size)
        if self.schedule is not None:
            rate = schedules.ByStep(rate, self.schedule)
        return optimizers.AdamW(rate, beta2=self.beta2, weight_decay=self.weight_decay)

    def network(self, table, n_classes, seed):
        """An untrained network.

        Parameters
        ----------
        table : (X, y, sample_weight or None, rows)
            Training rows X (n_x, m), what bins are found from, and the kinds of X's rows.
        n_classes : int
            At least 2, or 0 for numbers.
        seed : int

        Returns
        -------
        Network
            Its outputs are probabilities (n_classes, m), or (1, m).
        """
        hidden = {"bias_rate": self.bias_rate, "ntk": self.ntk}
        dropout = self.dropout
        if self.dropout_schedule is not None and dropout > 0:
            dropout = schedules.ByStep(dropout, self.dropout_schedule)
        stack = [layers.Encode(self.encoders(table, n_classes), rate=self.encoder_rate)]
        if self.scale:
            stack.append(layers.Scale(rate=_SCALE_RATE))
        for units in self.units:
            more = {"mix": self.mix, "mix_rate": _MIX_RATE} if self.mix else {}
            stack.append(layers.Dense(units, self.activation, dropout=dropout, **hidden, **more))
        if n_classes:
            stack.append(layers.Dense(n_classes, "softmax", **hidden))
            loss = losses.CrossEntropy(label_smoothing=self.label_smoothing)
        else:
            stack.append(layers.Dense(1, **hidden))
            loss = "squared_error"
        return network.Network(stack, loss, seed=seed, compute=self.compute)

    def encoders(self, table, n_classes):
        """An encoder, or two, for each row of X; `table` and `n_classes` as for `network`."""
        X, y, w, rows = table
        some = slice(None)
        if len(y) > _MOST_FOR_EDGES:
            some = np.random.default_rng(0).choice(len(y), _MOST_FOR_EDGES, replace=False)
            some.sort()
        found = []
        for i, row in enumerate(rows):
            if row.kind == "code":
                found.append(self._of_category(i, row.size))
            elif row.kind == "passthrough":
                found.append(encoders.Numeric(i))
            elif row.kind == "number":
                found += self._of_number(i, (X[i, some], y[some], None if w is None else w[some]), n_classes)
            else:
                raise ValueError(f"row {i} of X must be of kind number, passthrough or code; got {row.kind!r}")
        return found

    def _of_category(self, i, size):
        """`size` counts code 0, which stands for missing and unknown."""
        if size - 1 >= self.embedding_from:
            return encoders.Embedding(i, size, self.embedding_units)
        return encoders.OneHot(i, max(size - 1, 1), unknown=True)

    def _of_number(self, i, column, n_classes):
        x, y, w = column
        if self.numbers == "plain":
            return [encoders.Numeric(i)]
        if self.numbers == "periodic":
            return [encoders.Periodic(i, self.bins, self.number_units)]
        if self.numbers == "tree":
            edges = bins.tree_edges(x, y, self.bins, classes=n_classes > 0, sample_weight=w, min_rows=self.bin_rows)
        else:
            edges = bins.quantile_edges(x, self.bins)
        # one bin is the number itself, clipped
        binned = [encoders.PiecewiseLinear(i, edges, self.number_units)] if len(edges) > 2 else []
        return [encoders.Numeric(i), *binned]


# of the learning rate, as RealMLP has them
_SCALE_RATE, _MIX_RATE = 6.0, 0.1


def _sequence(name, value):
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a sequence of whole numbers; got {value!r}")
    return tuple(value)


class Preset(Value):
    """What is trained where a preset is asked for.

    Parameters
    ----------
    recipes : sequence of Recipe
    n_estimators : int
        How often each recipe is trained, with other seeds or with other rows held out.
    """

    def __init__(self, recipes, n_estimators=1):
        self.recipes = tuple(recipes)
        self.n_estimators = validation.integer("n_estimators", n_estimators, 1)


def recipes_of(recipes):
    """(list of Recipe, how often each is trained) of a Preset, a Recipe or a sequence of them."""
    if isinstance(recipes, Preset):
        return list(recipes.recipes), recipes.n_estimators
    several = [recipes] if isinstance(recipes, Recipe) else list(recipes)
    if not several or not all(isinstance(one, Recipe) for one in several):
        raise TypeError(f"recipes must be recipes of nnkern.tabular, at least one; got {recipes!r}")
    return several, 1


def to_dict(recipes):
    """What `recipes_of` takes as JSON has it; None as it is."""
    if recipes is None:
        return None
    several, n_estimators = recipes_of(recipes)
    form = "preset" if isinstance(recipes, Preset) else "recipe" if isinstance(recipes, Recipe) else "list"
    return {"form": form, "recipes": [vars(one) for one in several], "n_estimators": n_estimators}


def from_dict(entry):
    """What `to_dict` was given, a sequence as a list; TypeError, ValueError or KeyError for anything else."""
    if entry is None:
        return None
    several, n_estimators = recipes_of([Recipe(**one) for one in entry["recipes"]])[0], entry["n_estimators"]
    form = {"preset": lambda: Preset(several, n_estimators), "recipe": lambda: several[0], "list": lambda: several}
    return form[entry["form"]]()


_TREE = Recipe(bins=48, bin_rows=16)
_QUANTILE = Recipe(numbers="quantile")
_PERIODIC = Recipe(numbers="periodic", number_units=4)
_STEEP = Recipe(number_units=None)
_CALM = Recipe(bins=48, bin_rows=16, units=(128, 128), learning_rate=7e-4, dropout=0.3)
_SLOW = Recipe(numbers="periodic", learning_rate=1.4e-3)
_REALMLP = Recipe(
    activation="selu",
    scale=True,
    mix=True,
    ntk=True,
    bias_rate=0.1,
    learning_rate=0.03,
    beta2=0.95,
    schedule="coslog4",
    dropout_schedule="flat_cos",
    patience=None,
    batch_size=256,
)

PRESETS = {
    "fast": Preset([_TREE]),
    "default": Preset([_TREE, _QUANTILE, _PERIODIC, _STEEP, _CALM, _REALMLP]),
    "best": Preset([_TREE, _QUANTILE, _PERIODIC, _STEEP, _CALM, _REALMLP, _SLOW], n_estimators=4),
}
"""{name: Preset}. The recipes of "default" err in different places: their mean is better than any one of them."""
