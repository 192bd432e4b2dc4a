"""What each network counts in the ensemble, by rows that it wasn't trained on."""

import numpy as np

# picks of the greedy choice: weights are multiples of its reciprocal
_PICKS = 20
# held-out rows that choose weights: a few numbers, which more rows tell no better
_MOST_ROWS = 1 << 17


def greedy_weights(predictions, loss):
    """Weights of a mean of predictions that has a small loss: one is picked after the other, each as often as it helps.

    Parameters
    ----------
    predictions : list of arrays of one shape
    loss : callable
        Of predictions, a float.

    Returns
    -------
    weights : (len(predictions),) array
        They sum to 1. The loss of the weighted mean is no larger than that of the best one alone. Equal ones where no
        loss is a number.

    Notes
    -----
    Source: Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble selection from libraries of models, 2004: selection with
    replacement; of the picks those up to the least loss.
    """
    total, counts = np.zeros(np.shape(predictions[0])), np.zeros(len(predictions))
    least, weights = np.inf, np.full(len(predictions), 1 / len(predictions))
    for picks in range(1, _PICKS + 1):
        losses = [loss((total + P) / picks) for P in predictions]
        if np.isnan(losses).all():
            break
        best = int(np.nanargmin(losses))
        total = total + predictions[best]
        counts[best] += 1
        if losses[best] < least:
            least, weights = losses[best], counts / picks
    return weights


def weights(jobs, criteria):
    """(len(jobs),) array: the mean of the greedy weights by some metrics, of jobs that have predicted held-out rows.

    Networks of one recipe that held out different parts of the rows count alike: together they have predicted each row
    once.
    """
    if jobs[0].part.held_rows is None:
        members = [[i] for i in range(len(jobs))]
    else:
        numbers = sorted({job.recipe_number for job in jobs})
        members = [[i for i, job in enumerate(jobs) if job.recipe_number == number] for number in numbers]
    common = set.intersection(*({_rows_of(jobs[i]) for i in group} for group in members))
    shares = np.full(len(members), 1 / len(members))  # where no rows were predicted by all of them
    if common:
        stacked = [_held_out([jobs[i] for i in group if _rows_of(jobs[i]) in common]) for group in members]
        y, w = stacked[0][:2]
        found = [greedy_weights([P for *_, P in stacked], lambda P, by=by: by.loss(y, P, w)) for by in criteria]
        shares = np.mean(found, axis=0)
    each = np.zeros(len(jobs))
    for group, share in zip(members, shares, strict=True):
        each[group] = share / len(group)
    return each


def _rows_of(job):
    """What jobs that held out the same rows share: the number of their part, or 0 where the rows are the caller's."""
    return 0 if job.part.held_rows is None else job.part_number


def _held_out(jobs):
    """(y, w, P) of the rows that these jobs held out, one job after the other; of very many some."""
    held = [job.part.held_out for job in jobs]
    y, P = np.concatenate([one.y for one in held]), np.concatenate([job.P for job in jobs], axis=1)
    w = None if held[0].w is None else np.concatenate([one.w for one in held])
    some = slice(None, None, -(-len(y) // _MOST_ROWS))
    return y[some], None if w is None else w[some], P[:, some]


def score(jobs, weights, metric):
    """A metric's value of the ensemble: on the held-out rows, each predicted by networks that weren't trained on it."""
    of_rows = {}
    for job, weight in zip(jobs, weights, strict=True):
        if weight > 0:
            of_rows.setdefault(_rows_of(job), []).append((job, weight))
    means, held = [], []
    for own in of_rows.values():
        total = sum(weight for _, weight in own)
        means.append(sum(weight / total * job.P.astype(np.float64) for job, weight in own))
        held.append(own[0][0].part.held_out)
    w = None if held[0].w is None else np.concatenate([one.w for one in held])
    return metric.value(np.concatenate([one.y for one in held]), np.concatenate(means, axis=1), w)
