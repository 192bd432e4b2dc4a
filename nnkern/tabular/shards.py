"""A table whose rows lie in several shards, each with a process or a worker: what all of them know together.

What a table's model has to learn before the networks, of columns, classes and the target, is learnt of a sample of the
rows of all shards, which are all rows where they aren't many; and rows of the sample are held out. Nothing here knows
who has the shards, nor how they are told of each other.
"""

import numpy as np

from nnkern._optional import require
from nnkern.tabular.columns import plain
from nnkern.tabular.frames import Columns, listed, refuse_lacking
from nnkern.tabular.splits import Taken

SAMPLE_ROWS = 200_000
"""Of all shards together, in the sample."""


class Shard:
    """The rows of one shard that count: their columns, y and weights or None.

    `y` holds a caller's values at first, and then, see `learn`, codes of classes or standardised numbers.
    """

    def __init__(self, arrays, named, y, w):
        self.arrays, self.named, self.y, self.w = arrays, named, y, w

    @property
    def m(self):
        """Number of rows."""
        return len(self.y)

    @property
    def names(self):
        """Of its columns."""
        return list(self.arrays)

    def learn(self, w, learnt):
        """Takes the weights with those of classes, leaves out rows of weight 0, and has y as `learnt(y)` gives it."""
        if w is not None and not w.all():
            rows = w != 0
            (self.arrays,) = self.arrays.parts([rows])
            self.y, w = self.y[rows], w[rows]
        self.y, self.w = learnt(self.y), w

    def some(self, places):
        """(the columns as bytes, y, weights or None) of rows at these places."""
        table = _table_of(self.arrays)
        if len(places) < self.m:
            table = table.take(places)
        return _to_bytes(table), self.y[places], None if self.w is None else self.w[places]


def one_of(made, noun="partition"):
    """One Shard of several, one after the other; `made`: of each its number among all of that noun, and the Shard."""
    first = made[0][1]
    if len(made) == 1:
        return first
    refuse_other_names([(number, shard.names, shard.named) for number, shard in made], noun)
    columns = {name: [(number, shard.arrays[name]) for number, shard in made] for name in first.arrays}
    arrays = Columns((name, _joined(name, pieces, noun)) for name, pieces in columns.items())
    kinds = {"OUT".find(shard.y.dtype.kind) < 0 for _, shard in made}
    if len(kinds) > 1:
        raise TypeError(f"y holds texts in some {noun}s and numbers in others")
    y, w = joined_target([(shard.y, shard.w) for _, shard in made])
    return Shard(arrays, first.named, y, w)


def sample_places(sizes, number, seed):
    """The places in shard `number` of the rows that it gives to the sample: all, or a share as all shards have it."""
    ends = np.cumsum([0, *sizes])
    if ends[-1] <= SAMPLE_ROWS:
        return np.arange(sizes[number])
    first, end = (int(ends[k] * SAMPLE_ROWS // ends[-1]) for k in (number, number + 1))
    return np.sort(np.random.default_rng((seed, number, 2)).choice(sizes[number], end - first, replace=False))


def refuse_other_names(shards, noun):
    """A ValueError where shards have other columns than the first.

    `shards`: of each its number, the names, and whether X has them.
    """
    (reference, names, named), *others = shards
    for number, own, own_named in others:
        if own_named != named:
            first, other = ("names", "none") if named else ("no names", "some")
            raise ValueError(f"the columns of X have {first} on {noun} {reference} and {other} on {noun} {number}")
        if set(own) != set(names):
            lacks, more = ([one for one in some if one not in of] for some, of in ((names, own), (own, names)))
            said = [f"lacks {listed(lacks)}"] * bool(lacks) + [f"has {listed(more)} beside"] * bool(more)
            raise ValueError(
                f"X must have the same columns on all {noun}s: that of {noun} {number} {' and '.join(said)}, compared "
                f"with {noun} {reference}"
            )


def in_order(arrays, names, what):
    """The columns in the order of those names."""
    refuse_lacking(names, arrays, what)
    return Columns((name, arrays[name]) for name in names)


def stacked(tables, names, noun):
    """The columns of the shards' samples, one shard after the other, from their bytes; those without rows aside."""
    tables = [(number, _from_bytes(data)) for number, data in enumerate(tables)]
    filled = [(number, table) for number, table in tables if table.num_rows] or tables[:1]
    return Columns(
        (name, _joined(name, [(number, table.column(i)) for number, table in filled], noun))
        for i, name in enumerate(names)
    )


def _joined(name, columns, noun):
    """One column of (shard's number, its chunked array), which may be of types that go together."""
    pa = require("pyarrow", "a data frame")
    if len({array.type for _, array in columns}) > 1:
        texts = {pa.string_view(): pa.large_string()}
        columns = [(number, plain(array)) for number, array in columns]
        columns = [(number, array.cast(texts.get(array.type, array.type))) for number, array in columns]
        schemas = [pa.schema([("", array.type)]) for _, array in columns]
        try:
            kind = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        except (pa.ArrowTypeError, pa.ArrowInvalid):
            found = {}
            for number, array in columns:
                found.setdefault(str(array.type), number)
            said = ", ".join(f"{kind} on {noun} {number}" for kind, number in found.items())
            raise TypeError(f"column {name!r} of X must have the same type on all {noun}s; it has {said}") from None
        columns = [(number, array.cast(kind, safe=False)) for number, array in columns]
    return pa.chunked_array([chunk for _, array in columns for chunk in array.chunks], columns[0][1].type)


def _table_of(arrays):
    # by place: names may be anything
    pa = require("pyarrow", "a data frame")
    return pa.table(list(arrays.values()), names=[str(i) for i in range(len(arrays))])


def _to_bytes(table):
    pa = require("pyarrow", "a data frame")
    sink = pa.BufferOutputStream()
    table = table.unify_dictionaries()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _from_bytes(data):
    pa = require("pyarrow", "a data frame")
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()


class Sample:
    """The sample as networks take it: `examples` of all shards, one shard after the other.

    `places`: of each shard, where its rows of the sample are among its own.
    """

    def __init__(self, examples, places):
        self.examples, self.places = examples, places
        self._starts = np.cumsum([0, *map(len, places)])

    def left(self, number, m, held_rows):
        """(m,) of bool: which rows of a shard are trained on where these of the sample are held out."""
        trained = np.ones(m, bool)
        first, end = self._starts[number : number + 2]
        own = held_rows[(held_rows >= first) & (held_rows < end)] - first
        trained[self.places[number][own]] = False
        return trained


class PartOfAll:
    """As splits.Part: rows that are trained on and rows held out of them, of all shards.

    `known`: rows of the sample that are trained on, which bins are found from; `m`: how many all shards train on.
    """

    def __init__(self, part, m, own=None):
        self.known, self.held_out, self.held_rows = part.train, part.held_out, part.held_rows
        self.m, self.own = m, own

    def free(self):
        """Lets go the copies of its rows."""
        for rows in (self.known, self.held_out, self.own):
            if rows is not None:
                rows.free()


def own_rows(examples, trained):
    """Those rows of a shard's Examples, copied where they are asked for and not all."""
    return examples if trained.all() else Taken(examples, np.flatnonzero(trained))


def joined_target(pieces):
    """(y, w or None) of the sample, from (y, w or None) of each shard: weights of 1 where some have weights."""
    y = np.concatenate([y for y, _ in pieces])
    if all(w is None for _, w in pieces):
        return y, None
    return y, np.concatenate([np.ones(len(y)) if w is None else w for y, w in pieces])
