"""Reading tables: what is found out about a CSV file, and what is said of one that is none."""

import datetime
import gzip
import io
import sys
import warnings

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="reads tables")
pytest.importorskip("narwhals", reason="a part of nnkern.tabular")
pytest.importorskip("sklearn", reason="a part of nnkern.tabular")

from nnkern.tabular import reading  # noqa: E402
from nnkern.tabular.reading import read_table  # noqa: E402


@pytest.fixture
def read(tmp_path):
    """The columns of a CSV file with these contents, as lists."""

    def call(contents, **how):
        path = tmp_path / "a.csv"
        path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
        return read_table(path, **how).to_pydict()

    return call


def test_csv_is_read_as_written(read):
    columns = read('x, colour ,"y, z"\n1, red ,"2"\n\n-3.5e1,"blue, or so",4\n')
    assert columns == {"x": [1.0, -35.0], "colour": ["red", "blue, or so"], "y, z": [2, 4]}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found(read, delimiter):
    assert read(delimiter.join(["x", "y"]) + "\n" + delimiter.join("12")) == {"x": [1], "y": [2]}


def test_delimiter_divides_all_rows_alike(read):
    assert read("a,b,c;d\n1;2\n3;4\n") == {"a,b,c": [1, 3], "d": [2, 4]}


def test_decimal_comma_is_found_or_given(read):
    assert read("a;b\n1,5;x\n2;y\n") == {"a": [1.5, 2.0], "b": ["x", "y"]}
    assert read("a;b\n1.5;2,5\n2.5;3,5\n") == {"a": [1.5, 2.5], "b": ["2,5", "3,5"]}
    assert read("a;b\n1.5;2,5\n", decimal=",") == {"a": ["1.5"], "b": [2.5]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encoding_is_found(read, encoding):
    contents = "name,y\nKöln,1\nЯ,2\n" if encoding != "cp1252" else "name,y\nKöln,1\nβ,2\n".replace("β", "ß")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read(contents.encode(encoding))["name"][0] == "Köln"
    assert [str(one.message) for one in caught] == (
        ["a.csv is not in UTF-8 and is read as cp1252; or say its encoding"] if encoding == "cp1252" else []
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(contents.encode(encoding), encoding=encoding)["name"][0] == "Köln"


def test_what_comes_after_the_head_may_be_otherwise(read, monkeypatch):
    monkeypatch.setattr(reading, "HEAD", 64)
    rows = "x,y\n" + "1,2\n" * 40
    assert read(rows + "1.5,2\n")["x"][-1] == 1.5  # a number, after whole ones
    assert read(rows + 'many,"a\nb"\n')["y"][-1] == "a\nb"
    with pytest.warns(UserWarning, match="not in UTF-8"):
        assert read((rows + "ä,2\n").encode("latin-1"))["x"][-1] == "ä"
    assert read("x,y\n" + "ä,2\n" * 40)["x"] == ["ä"] * 40  # a character that the head's end cuts
    with pytest.raises(ValueError, match=r"a\.csv, line 42: 3 cells, expected 2"):
        read(rows + "1,2,3\n")


def test_missing_values_dates_booleans_and_codes(read):
    columns = read(
        "n,text,day,time,yes,zip\n1,NA,2024-01-31,2024-01-31 10:00,true,0123\n"
        "?,n/a,,,False,45\nNaN,none,,,,\nnull, ?,,,,7\n"
    )
    assert columns["n"] == [1, None, None, None]
    assert columns["text"] == [None] * 4
    assert columns["day"][0] == datetime.date(2024, 1, 31)
    assert columns["time"][0] == datetime.datetime(2024, 1, 31, 10)
    assert columns["yes"] == [True, False, None, None]
    assert columns["zip"] == ["0123", "45", None, "7"]


def test_leading_zeros_are_kept_in_the_whole_head_and_whatever_comes_after_it(read, monkeypatch):
    rows = "zip,x\n" + "1234,1\n" * 300 + "0234,2\n" * 100
    assert read(rows)["zip"][299:301] == ["1234", "0234"]
    assert read(rows + "1234,1.5\n" + "1234,many\n")["zip"][300] == "0234"
    monkeypatch.setattr(reading, "HEAD", 64)
    assert read(rows)["zip"][-1] == 234
    assert read(rows, texts=["zip"])["zip"][-1] == "0234"
    assert read("day,x\n01/02/2024,0.5\n02/02/2024,00.5\n")["x"] == [0.5, 0.5]  # neither is a code


def test_texts_are_read_as_written(read):
    rows = "yes, n ,m\ntrue,1.50,1\nFALSE,2,\n"
    assert read(rows) == {"yes": [True, False], "n": [1.5, 2.0], "m": [1, None]}
    assert read(rows, texts=["yes", "n", "no"]) == {"yes": ["true", "FALSE"], "n": ["1.50", "2"], "m": [1, None]}
    with pytest.warns(UserWarning, match="not in UTF-8"):
        assert read(("x,y\n" + "a,1\n" * 300000 + "ä,2\n").encode("latin-1"), texts=["x"])["x"][-1] == "ä"
    with pytest.raises(ValueError, match="line 3: 1 cells, expected 2"):
        read("x,y\n1,2\n3\n", texts=["x"])


def test_numbers_are_narrow_where_float32_resolves_them(tmp_path):
    rng = np.random.default_rng(0)
    X = {"x": rng.normal(size=500), "far": 1e6 + rng.normal(size=500), "n": np.arange(500)}
    path = tmp_path / "a.csv"
    lines = [",".join(map(repr, map(float, row[:2]))) + f",{row[2]}" for row in zip(*X.values(), strict=True)]
    path.write_text("\n".join(["x,far,n", *lines]))
    kinds = {field.name: str(field.type) for field in read_table(path, narrow=list).schema}
    assert kinds == {"x": "float", "far": "double", "n": "int64"}
    assert str(read_table(path, narrow=lambda names: names[1:])["x"].type) == "double"
    np.testing.assert_array_equal(read_table(path)["x"].to_numpy(), X["x"])
    path.write_text("\n".join(["x,far,n", *lines * 100, "1e300,1,1"]))
    assert str(read_table(path, narrow=list)["x"].type) == "double"  # float32 would make it infinite


def test_some_columns(tmp_path, read):
    assert read("x, y,z\n1,2,3\n", columns=["y", "x", "no"]) == {"y": [2], "x": [1]}
    table = pa.table({"x": [1], "y": ["a"]})
    for name, write in (("a.parquet", pytest.importorskip("pyarrow.parquet").write_table), ("a.feather", None)):
        path = tmp_path / name
        (write or pytest.importorskip("pyarrow.feather").write_feather)(table, path)
        assert read_table(path).equals(table)
        assert read_table(path, columns=["y", "no"]).to_pydict() == {"y": ["a"]}
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=rf"{name} is not a readable"):
            read_table(path)


def test_compressed_and_standard_input(tmp_path, read, monkeypatch):
    contents = b"x,y\n" + b"".join(b"%d,%d\n" % (i * i * 7919 % 104729, i) for i in range(2000))
    packed = gzip.compress(contents)
    assert read(packed) == read(contents)
    for cut in (len(packed) // 2, len(packed) - 4):
        with pytest.raises(ValueError, match=r"a\.csv is not a whole gzip file: "):
            read(packed[:cut])
    monkeypatch.setattr(reading, "HEAD", 64)  # the rest is read by Arrow
    with pytest.raises(ValueError, match=r"a\.csv is not a whole gzip file: "):
        read(packed[: len(packed) // 2])
    for one in (contents, packed):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(one)))
        assert read_table("-").num_rows == 2000
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x,y\n1,2\n3\n")))
    with pytest.raises(ValueError, match=r"standard input, line 3: 1 cells, expected 2"):
        read_table("-")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_of_an_error_counts_blank_lines_and_ends_of_lines_in_cells(read, end):
    lines = ['x,"y', 'z"', "", '"a', "", 'b",1', "", "c,2", "d"]
    with pytest.raises(ValueError, match=r"a\.csv, line 9: 1 cells, expected 2 as in the header; the delimiter is ','"):
        read(end.join(lines))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("", "is empty: expected a header and rows"),
        ("\n\n", "is empty"),
        ("x,y\n", "a header and no rows"),
        ("1,2.5\n3,4\n", r"first line \['1', '2.5'\] holds numbers, expected the columns' names"),
        ("x,,y\n1,2,3\n", "column 2 has no name in the header"),
        ("x,y, x\n1,2,3\n", "has several columns named 'x': rename them"),
        ("x,y\n1\n", "line 2: 1 cells, expected 2"),
        ("x\0,y\n1,2\n", "holds control characters: expected CSV, Parquet or Feather"),
        (bytes(range(128, 256)) * 10, "is not in cp1252"),
        (b"\x93NUMPY\x01\0v\0{}", r"is an array of numpy, expected CSV, Parquet or Feather: numpy\.savez\(path"),
        (b"PK\x03\x04\x14\0\x06\0", "is a zip archive, as Excel's workbooks are, expected .*: save the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a document of Microsoft Office, expected .*: save the sheet as CSV"),
    ],
)
def test_what_is_no_table(read, contents, message):
    with pytest.raises(ValueError, match=rf"a\.csv.*({message})"):
        read(contents)


@pytest.mark.parametrize("encoding", [None, "cp1252", "ascii"])
def test_a_byte_of_no_letter_far_down(read, encoding):
    """Beyond what is looked at before the columns are read."""
    contents = b"x,y\n" + b"1,2\n" * 300_000 + b"\x81,2\n"
    with pytest.raises(ValueError, match=rf"^a\.csv is not in {encoding or 'cp1252'}: .* can't decode byte 0x81"):
        read(contents, encoding=encoding)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "no.csv")


def test_threads_are_as_asked_for_and_as_before(read):
    before = pa.cpu_count()
    assert read("x,y\n1,2\n", threads=1) == read("x,y\n1,2\n", threads=before + 3)
    assert pa.cpu_count() == before
