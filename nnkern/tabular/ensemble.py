"""What each network counts in the ensemble, by rows that it wasn't trained on."""

import numpy as np

# picks of the greedy choice: weights are multiples of its reciprocal
_PICKS = 20


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
        They sum to 1. The loss of the weighted mean is no larger than that of the best one alone.

    Notes
    -----
    Source: Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble selection from libraries of models, 2004: selection with
    replacement; of the picks those up to the least loss.
    """
    total, counts = np.zeros(np.shape(predictions[0])), np.zeros(len(predictions))
    least, weights = np.inf, None
    for picks in range(1, _PICKS + 1):
        losses = [loss((total + P) / picks) for P in predictions]
        best = int(np.nanargmin(losses))
        total = total + predictions[best]
        counts[best] += 1
        if losses[best] < least:
            least, weights = losses[best], counts / picks
    return weights


def weights(jobs, criterion):
    """(len(jobs),) array: the greedy weights, by a Metric, of jobs that have predicted their held-out rows.

    Networks of one recipe that held out different parts of the rows count alike: together they have predicted each row
    once.
    """
    if jobs[0].part.places is None:
        held = jobs[0].part.held_out
        return greedy_weights([job.P for job in jobs], lambda P: criterion.loss(held.y, P, held.w))
    numbers = sorted({job.recipe_number for job in jobs})
    members = [[i for i, job in enumerate(jobs) if job.recipe_number == number] for number in numbers]
    common = set.intersection(*({jobs[i].part_number for i in group} for group in members))
    if common:
        y, w = held_out_of(jobs, [i for i in members[0] if jobs[i].part_number in common])
        stacked = [
            np.concatenate([jobs[i].P for i in group if jobs[i].part_number in common], axis=1) for group in members
        ]
        shares = greedy_weights(stacked, lambda P: criterion.loss(y, P, w))
    else:
        shares = np.full(len(members), 1 / len(members))
    found = np.zeros(len(jobs))
    for group, share in zip(members, shares, strict=True):
        found[group] = share / len(group)
    return found


def held_out_of(jobs, which):
    """(y, w) of the rows that these jobs held out, one after the other."""
    held = [jobs[i].part.held_out for i in which]
    y = np.concatenate([one.y for one in held])
    return y, None if held[0].w is None else np.concatenate([one.w for one in held])


def score(jobs, weights, metric):
    """A metric's value of the ensemble: on the held-out rows, each predicted by networks that weren't trained on it."""
    places = {}
    for job, weight in zip(jobs, weights, strict=True):
        if weight > 0:
            places.setdefault(job.part_number if job.part.places is not None else 0, []).append((job, weight))
    means, held = [], []
    for own in places.values():
        total = sum(weight for _, weight in own)
        means.append(sum(weight / total * job.P.astype(np.float64) for job, weight in own))
        held.append(own[0][0].part.held_out)
    w = None if held[0].w is None else np.concatenate([one.w for one in held])
    return metric.value(np.concatenate([one.y for one in held]), np.concatenate(means, axis=1), w)
