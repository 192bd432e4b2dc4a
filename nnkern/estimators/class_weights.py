"""Weights of classes that a dict gives, read as scikit-learn reads it: a class that it doesn't name has weight 1."""

import numpy as np


def of_classes(name, class_weight, classes):
    """(k,) weights of the classes, from {label: weight}; `name` is that of the parameter.

    A label that is none of the classes is taken for a mistake where a class isn't named. Where all are, it may be that
    of a class that these samples lack, as those of a fold may.
    """
    labels = classes.tolist()
    unknown = [label for label in class_weight if label not in labels]
    if unknown and not all(label in class_weight for label in labels):
        raise ValueError(
            f"{name} names {', '.join(map(_shown, unknown))}, which y has no samples of; its classes are "
            f"{', '.join(map(repr, labels))}, and each that isn't named has weight 1"
        )
    return np.array([_weight(name, label, class_weight.get(label, 1.0)) for label in labels])


def of_samples(class_weight, classes, y):
    """(m,) weights of samples with labels y (m,); what an unknown label gets is left open."""
    places = np.searchsorted(classes, y)
    return of_classes("class_weight", class_weight, classes).take(places, mode="clip")


def of_several_labels(class_weight, Y):
    """(m,) weights of samples with several labels, Y (m, n) of 0 and 1, from a list with a dict for each label."""
    n = Y.shape[1]
    if isinstance(class_weight, dict) or len(class_weight) != n or not all(isinstance(d, dict) for d in class_weight):
        raise ValueError(
            f'class_weight must be "balanced", or a list of {n} dicts with weights of 0 and 1, one for each label; '
            f"got {class_weight!r}"
        )
    weights = np.ones(Y.shape[0])
    for k, given in enumerate(class_weight):
        by_class = of_classes(f"class_weight[{k}]", given, np.array([0, 1]))
        column = Y[:, [k]].toarray()[:, 0] if hasattr(Y, "toarray") else Y[:, k]
        weights *= by_class[(column != 0).astype(np.intp)]
    return weights


def _weight(name, label, value):
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = np.nan
    if not 0 <= weight < np.inf:
        raise ValueError(f"{name} of {label!r} is {value!r}: it must be a number from 0")
    return weight


def _shown(label):
    """As Python has it: numpy's text 'a' shows as np.str_('a')."""
    return repr(label.item() if isinstance(label, np.generic) else label)
