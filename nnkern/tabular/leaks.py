"""Warns of columns that give the target away: such a table was often made after what it is to predict was known."""

import numpy as np

from nnkern._caller import warn
from nnkern.tabular.frames import listed
from nnkern.tabular.preprocessing import TabularWarning

MOST_ROWS = 1000
"""That a column is looked at in: half of them say what the other half's targets are."""
LEAST_ROWS = 200
LEAST_R2 = 0.9999
LEAST_ROWS_OF_A_CLASS = 4
"""With fewer on average, half of the rows say too little about the classes of the other half."""
MOST_COMMON = 0.9
"""Where one class has more than this share, being right for all of a few hundred rows means little."""


def warn_of_leaks(preprocessing, X, y, classifies):
    """One TabularWarning that names all columns from one of which alone held-out rows are predicted perfectly.

    By a tree; numbers also by straight lines from one known row to the next, which are exact where a tree has steps.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    m = X.shape[1]
    rows = np.random.default_rng(0).choice(m, min(m, MOST_ROWS), replace=False)
    if len(rows) < LEAST_ROWS:
        return
    if classifies:
        counts = np.bincount(y[rows])
        if counts.max() > MOST_COMMON * len(rows) or len(rows) < LEAST_ROWS_OF_A_CLASS * np.count_nonzero(counts):
            return
    half = len(rows) // 2
    known, other = rows[:half], rows[half:]
    found, i = [], 0
    for column in preprocessing.columns:
        count = len(column.rows())
        part, i = X[i : i + count].T, i + count
        tree = (DecisionTreeClassifier if classifies else DecisionTreeRegressor)(random_state=0)
        tree.fit(part[known], y[known])
        score = tree.score(part[other], y[other])
        if not classifies:
            score = max(score, _score_of_lines(part[:, 0], y, known, other))
        if score >= (1.0 if classifies else LEAST_R2):
            found.append(column.name)
    if found:
        what = "each of them alone predicts" if len(found) > 1 else "it alone predicts"
        warn(
            f"{listed(found)} may give the target away: {what} it for all of {len(other)} rows. Unless known before "
            f'the target is, leave it out by column_types={{{found[0]!r}: "ignore"}}',
            TabularWarning,
        )


def _score_of_lines(x, y, known, other):
    """R² of linear interpolation between the known rows, for the other ones within their range."""
    known = known[np.argsort(x[known])]
    other = other[(x[other] >= x[known[0]]) & (x[other] <= x[known[-1]])]
    spread = np.var(y[other]) if len(other) else 0.0
    if spread == 0:
        return 0.0
    return 1 - np.mean((y[other] - np.interp(x[other], x[known], y[known])) ** 2) / spread
