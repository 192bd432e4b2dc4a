"""A table from a file: CSV (compressed by gzip too), Parquet or Feather, all read by Apache Arrow.

Here is what Arrow doesn't do: delimiter, decimal sign and encoding are found from the file's beginning, and an error
says in which line. What a column means is columns.py's concern.
"""

import contextlib
import csv
import io
import os
import re
import shutil
import sys
import tempfile
from itertools import islice

import numpy as np

from nnkern._caller import warn
from nnkern._optional import require
from nnkern.tabular.frames import give_back, refuse_twice

HEAD = 2**20
"""Bytes from which delimiter, decimal sign and encoding are found."""
SAMPLE_ROWS = 200
DELIMITERS = ",;\t|"
CODE = r"^\s*0\d+\s*$"
MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
"""What is written, in any case, where a value isn't known."""
NARROW = 16
"""How many times its interquartile range a column's numbers may be, for float32: that is off by 1e-6 of the range."""
WESTERN = "cp1252"
"""The encoding of what is neither UTF-8 nor begins as UTF-16 does."""
OTHER_FILES = {
    b"\x93NUMPY": ("an array of numpy", "numpy.savez(path, X=…, Y=…) makes an .npz, with an example a column of X"),
    b"PK\x03\x04": ("a zip archive, as Excel's workbooks are", "save the sheet as CSV, and an .npz under that ending"),
    b"\xd0\xcf\x11\xe0": ("a document of Microsoft Office", "save the sheet as CSV"),
}
"""How files begin that are handed in for tables and aren't any: what they are, and what to do."""
MOST_DICTIONARY = 1000
"""Texts of at most so many different ones in a block are kept as codes, each text once."""


def read_table(path, *, columns=None, texts=(), narrow=None, delimiter=None, decimal=None, encoding=None, threads=None):
    """Read a table with a header.

    Parameters
    ----------
    path : str or path
        A file, whose first bytes say its kind: Parquet, Feather (Arrow's IPC file), or else CSV with any delimiter,
        which may be compressed by gzip; or "-", standard input.
    columns : sequence of str, optional
        Those to read, where they are there; all by default.
    texts : sequence of str
        Columns of CSV that are read as text, as it is written there, whatever it looks like.
    narrow : callable, optional
        Of the names of all columns of CSV, makes those whose numbers may come in float32 where that resolves a column's
        spread: half the memory.
    delimiter, decimal, encoding : str, optional
        Of CSV: found from the file's beginning unless given.
    threads : int, optional
        How many threads read; all processors by default. Arrow has one count of threads for the whole process: it is
        set to this while the table is read, for whatever else uses Arrow meanwhile, and set back.

    Returns
    -------
    pyarrow.Table
        Whole numbers, numbers, booleans, dates, times and texts, as Arrow infers them; missing values as null. Codes
        such as 0123, seen in the first megabyte, are texts; further down they lose their zero unless `texts` has them.

    Raises
    ------
    MissingPackageError
        pyarrow isn't installed.
    OSError, ValueError
        The file can't be read, or isn't a table: the message says which line, what came and what was expected.

    Warns
    -----
    UserWarning
        A CSV file isn't in UTF-8, and is taken for one in the encoding of Western Europe.
    """
    require("pyarrow", "reading a table")
    path = os.fspath(path)
    if path == "-":
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "standard input")
            with open(path, "wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            how = {"delimiter": delimiter, "decimal": decimal, "encoding": encoding, "threads": threads}
            return read_table(path, columns=columns, texts=texts, narrow=narrow, **how)
    name = os.path.basename(path)
    with open(path, "rb") as file:
        magic = file.read(6)
    with _processors(threads) as several:
        if magic[:4] == b"PAR1" or magic == b"ARROW1":
            return _binary(path, name, magic, columns, several)
        text = _Text(path, name, magic[:2] == b"\x1f\x8b", delimiter, decimal, encoding)
        return text.table(columns, texts, narrow, several)


@contextlib.contextmanager
def _processors(threads):
    """Whether Arrow may use several, `threads` of them meanwhile."""
    pa = require("pyarrow", "reading a table")
    before = pa.cpu_count()
    pa.set_cpu_count(threads or before)
    try:
        yield threads != 1
    finally:
        pa.set_cpu_count(before)
        give_back()


def _binary(path, name, magic, columns, several):
    pa, parquet, feather = (require(f"pyarrow{part}", "reading a table") for part in ("", ".parquet", ".feather"))
    kind = "Parquet" if magic[:4] == b"PAR1" else "Feather"
    try:
        if kind == "Parquet":
            with parquet.ParquetFile(path) as file:
                known = file.schema_arrow.names
                return file.read(_among(columns, known), use_threads=several)
        table = feather.read_table(path, memory_map=False, use_threads=several)
        return table if columns is None else table.select(_among(columns, table.column_names))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name} is not a readable {kind} file: {error}") from error


def _among(columns, known):
    return None if columns is None else [name for name in dict.fromkeys(columns) if name in known]


class _Text:
    """A CSV file: what its beginning says of it, and then its columns."""

    def __init__(self, path, name, zipped, delimiter, decimal, encoding):
        self._path, self._name, self._zipped = path, name, zipped
        try:
            with self._open() as file:
                head = file.read(HEAD)
        except OSError as error:
            raise ValueError(f"{name} is not a whole gzip file: {error}") from None
        for magic, (what, hint) in OTHER_FILES.items():
            if head.startswith(magic):
                raise ValueError(f"{name} is {what}, expected CSV, Parquet or Feather: {hint}")
        self._encoding, self._given = encoding or _encoding(head), encoding is not None
        try:
            text = head.decode(self._encoding, "ignore" if len(head) == HEAD else "strict").lstrip("\ufeff")
        except UnicodeDecodeError as error:
            hint = "expected CSV in the encoding that is given, or in UTF-8, UTF-16 or cp1252, Parquet or Feather"
            raise ValueError(f"{name} is not in {self._encoding}: {error}; {hint}") from None
        except LookupError:
            raise ValueError(f"there is no encoding {encoding!r}: give one such as utf-8, cp1252 or latin-1") from None
        if not text.strip():
            raise ValueError(f"{name} is empty: expected a header and rows of data")
        if re.search("[\0-\x08\x0e-\x1a\x1c-\x1f]", text):
            raise ValueError(f"{name} is no text, it holds control characters: expected CSV, Parquet or Feather")
        # the last line of a longer file may be cut
        self._text = text if len(head) < HEAD else text[: text.rfind("\n") + 1] or text
        self._delimiter = delimiter or _delimiter(self._text)
        self._header, *self._sample = _rows(self._text, self._delimiter)
        # ends of lines in quoted cells: where Arrow looks out for them, it takes more time and twice the memory
        self._quotes = any("\n" in cell for row in self._sample for cell in row)
        self._decimal = decimal or _decimal(self._sample, self._delimiter)
        self._names = [text.strip() for text in self._header]
        self._check_header()

    def _open(self):
        pa = require("pyarrow", "reading a table")
        return pa.input_stream(self._path, compression="gzip" if self._zipped else None)

    def _check_header(self):
        names = self._names
        if all(re.fullmatch(r"[+-]?[\d.,]*\d", name) for name in names):
            raise ValueError(f"{self._name}: the first line {names[:5]} holds numbers, expected the columns' names")
        if "" in names:
            hint = "give it one, or leave it out (pandas writes its index so, and to_csv(index=False) doesn't)"
            raise ValueError(f"{self._name}: column {names.index('') + 1} has no name in the header: {hint}")
        refuse_twice(names, f"the header of {self._name}")

    def table(self, columns, texts, narrow, several):
        """Those of the columns that are there; all for None."""
        pa, pc = (require(module, "reading a table") for module in ("pyarrow", "pyarrow.compute"))
        columns = _among(columns, self._names)
        fixed = self._fixed(columns, texts)
        types = self._types(columns, fixed, set(narrow(self._names)) if narrow else ())
        while True:
            try:
                with self._open() as file:
                    table = self._read(file, self._encoding, columns, several, types)
            except pa.ArrowInvalid as error:
                if self._encoding == "utf-8" and "invalid UTF8" in str(error):  # in a column of fixed type
                    self._encoding = WESTERN
                elif self._quotes and types == fixed:
                    raise self._explained(error) from None
                else:
                    # further down than the head, a cell is of another type, or a quoted one holds the end of a line
                    types, self._quotes = fixed, True
                continue
            except UnicodeDecodeError as error:
                raise ValueError(f"{self._name} is not in {self._encoding}: {error}") from None
            except OSError as error:
                raise ValueError(f"{self._name} is not a whole gzip file: {error}") from None
            kinds = [getattr(field.type, "value_type", field.type) for field in table.schema]
            floats = [column for column in table.columns if pa.types.is_float32(column.type)]
            if self._encoding == "utf-8" and any(map(pa.types.is_binary, kinds)):
                self._encoding = WESTERN
            elif any(pc.any(pc.is_inf(column)).as_py() for column in floats):
                types = fixed
            else:
                break
        if not table.num_rows:
            raise ValueError(f"{self._name} has a header and no rows")
        if self._encoding == WESTERN and not self._given:
            warn(f"{self._name} is not in UTF-8 and is read as {WESTERN}; or say its encoding")
        if any(cell != cell.strip() for row in self._sample for cell in row):
            for j, kind in enumerate(kinds):
                if pa.types.is_string(kind):
                    trimmed = pc.utf8_trim_whitespace(table.column(j).cast(pa.string()))
                    table = table.set_column(j, table.column_names[j], trimmed.dictionary_encode())
        return table.rename_columns([name.strip() for name in table.column_names])

    def _fixed(self, columns, texts):
        """{header: text} of the columns that are texts whatever they look like: 0123 is a code, not the number 123."""
        pa, pc = (require(module, "reading a table") for module in ("pyarrow", "pyarrow.compute"))
        fixed = {header for name, header in zip(self._names, self._header, strict=True) if name in set(texts)}
        if re.search(r"(?<![\d.])0\d", self._text):
            with contextlib.suppress(pa.ArrowInvalid):
                head = self._head(columns, dict.fromkeys(self._header, pa.string()))
                written = zip(head.column_names, head.columns, strict=True)
                fixed |= {name for name, cells in written if pc.any(pc.match_substring_regex(cells, CODE)).as_py()}
        return dict.fromkeys(fixed, pa.dictionary(pa.int32(), pa.string()))

    def _types(self, columns, fixed, narrow):
        """{header: type} as in the head. Without it, Arrow keeps all text until the end, lest a type was another."""
        pa = require("pyarrow", "reading a table")
        try:
            head = self._head(columns, fixed)
        except pa.ArrowInvalid:
            return fixed
        types = {field.name: field.type for field in head.schema if not pa.types.is_null(field.type)}
        for name in [name for name, kind in types.items() if name.strip() in narrow and pa.types.is_float64(kind)]:
            values = head[name].drop_null().to_numpy()
            low, high = np.quantile(values, (0.25, 0.75))
            if np.abs(values).max() <= NARROW * (high - low):
                types[name] = pa.float32()
        return types

    def _head(self, columns, types):
        return self._read(io.BytesIO(self._text.encode()), "utf-8", columns, False, types)

    def _read(self, file, encoding, columns, several, types):
        csv_ = require("pyarrow.csv", "reading a table")
        missing = {form(text) for text in MISSING for form in (str, str.upper, str.title, str.capitalize)} | {"NaN"}
        header = dict(zip(self._names, self._header, strict=True))
        read = csv_.ReadOptions(use_threads=several, encoding="utf8" if encoding == "utf-8" else encoding)
        parse = csv_.ParseOptions(delimiter=self._delimiter, newlines_in_values=self._quotes)
        convert = csv_.ConvertOptions(column_types=types, decimal_point=self._decimal, strings_can_be_null=True)
        convert.include_columns = [header[name] for name in columns or ()]
        convert.null_values = [before + text for text in missing for before in ("", " ")]
        convert.auto_dict_encode, convert.auto_dict_max_cardinality = True, MOST_DICTIONARY
        return csv_.read_csv(file, read, parse, convert)

    def _explained(self, error):
        """The error of a row that isn't like the header, by its line; else in Arrow's words."""
        n = len(self._header)
        try:
            with self._open() as file:
                text = io.TextIOWrapper(file, self._encoding, "replace", newline="")
                rows = csv.reader(text, delimiter=self._delimiter)
                for row in rows:
                    if row and len(row) != n:
                        hint = f"expected {n} as in the header; the delimiter is {self._delimiter!r}"
                        return ValueError(f"{self._name}, line {rows.line_num}: {len(row)} cells, {hint}")
        except (csv.Error, OSError) as broken:
            error = broken
        return ValueError(f"{self._name} can't be read as CSV: {error}")


def _encoding(head):
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) < HEAD or error.start < HEAD - 4:  # else a character that the end of the head cuts
            return WESTERN
    return "utf-8"


def _delimiter(text):
    """The one that divides the first rows alike, and into most cells; where none does, the header into most cells."""

    def divided(delimiter):
        rows = _rows(text, delimiter)
        return len(rows[0]) > 1 and len({len(row) for row in rows}) == 1, len(rows[0])

    return max(DELIMITERS, key=divided)


def _decimal(rows, delimiter):
    cells = [cell.strip() for row in rows for cell in row]
    commas, points = (sum(bool(re.fullmatch(rf"[+-]?\d*{sign}\d+", cell)) for cell in cells) for sign in (",", r"\."))
    return "," if commas > points and delimiter != "," else "."


def _rows(text, delimiter):
    """The first rows of a text, those that are empty left out."""
    rows = []
    with contextlib.suppress(csv.Error):
        rows += islice(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)), SAMPLE_ROWS)
    return rows or [[text]]
