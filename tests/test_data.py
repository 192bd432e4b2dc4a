"""nnkern.data: reading, choosing the target, preparing features, holding out."""

import json
import random
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nnkern import data as nkdata
from nnkern.data import preprocessor, texts
from nnkern.data.target import MAX_CATEGORIES


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def fitted(table, name=None, task=None, **options):
    target = nkdata.choose_target(table, name, task)
    return nkdata.Preprocessor.fit(table, target, **options)


def column(table, name, preprocessor, j):
    """Feature j of the table, in float64."""
    return preprocessor.features(table)[j].tolist()


# --- CSV ---------------------------------------------------------------------------------------


def test_csv_is_read_as_written(tmp_path):
    path = write(tmp_path / "a.csv", 'x, colour ,"y, z"\n1, red ,"2"\n\n-3.5e1,"blue, or so",4\n')
    table = nkdata.read_csv(path)
    assert table.columns == {
        "x": ["1", "-3.5e1"],
        "colour": ["red", '"blue, or so"'.strip('"')],
        "y, z": ["2", "4"],
    }
    assert table.lines == [2, 4]
    assert table.m == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_delimiter_is_found(tmp_path, delimiter):
    path = write(tmp_path / "a.csv", delimiter.join(["x", "y"]) + "\n" + delimiter.join("12"))
    assert nkdata.read_csv(path).columns == {"x": ["1"], "y": ["2"]}


def test_csv_byte_order_mark_and_crlf(tmp_path):
    (tmp_path / "a.csv").write_bytes("\ufeffx,y\r\n1,2\r\n".encode())
    assert nkdata.read_csv(tmp_path / "a.csv").columns == {"x": ["1"], "y": ["2"]}


def test_csv_line_numbers_count_quoted_line_ends(tmp_path):
    path = write(tmp_path / "a.csv", 'x,y\n"a\nb",1\nc,d,e\n')
    with pytest.raises(nkdata.DataError, match="line 4: 3 fields, expected 2"):
        nkdata.read_csv(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_line_numbers_count_blank_lines(tmp_path, end):
    lines = ["", "  ", 'x,"y', 'z"', "", '"a', "", 'b",1', "", "c,2", "d"]
    path = tmp_path / "a.csv"
    path.write_bytes(end.join(lines[:-1]).encode())
    assert nkdata.read_csv(path).lines == [8, 10]
    path.write_bytes(end.join(lines).encode())
    with pytest.raises(nkdata.DataError, match="line 11: 1 fields, expected 2"):
        nkdata.read_csv(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("x,y\n", "a header and no rows"),
        ("1,2\n3,4\n", "expected column names"),
        ("x,,y\n1,2,3\n", "column 2 has no name"),
        ("x,y,x\n1,2,3\n", "names column 'x' twice"),
        ("x,y\n1\n", "line 2: 1 fields, expected 2"),
        ("x\0,y\n1,2\n", "NUL"),
        ("x,y\n" + "1" * 200_000 + ",2\n", "is not a CSV file: field larger than field limit"),
    ],
)
def test_csv_that_is_none(tmp_path, text, message):
    with pytest.raises(nkdata.DataError, match=message):
        nkdata.read_csv(write(tmp_path / "a.csv", text))


def test_csv_in_another_encoding(tmp_path):
    (tmp_path / "a.csv").write_bytes("x,y\nä,1\n".encode("latin-1"))
    with pytest.raises(nkdata.DataError, match="UTF-8"):
        nkdata.read_csv(tmp_path / "a.csv")


# --- the target --------------------------------------------------------------------------------


def test_target_is_the_last_column_unless_named(tmp_path):
    table = nkdata.read_csv(write(tmp_path / "a.csv", "x,y\na,1\nb,2\na,4\n"))
    target = nkdata.choose_target(table)
    assert (target.name, target.task) == ("y", "regression")
    np.testing.assert_array_equal(target.Y, [[1, 2, 4]])
    target = nkdata.choose_target(table, "x")
    assert (target.name, target.task, target.labels) == ("x", "classification", ["a", "b"])
    np.testing.assert_array_equal(target.Y, [0, 1, 0])


@pytest.mark.parametrize(
    ("values", "task", "labels"),
    [
        (["0", "1", "1"], "classification", ["0", "1"]),
        (["-1.0", "1", "1.0"], "classification", ["-1.0", "1"]),
        (["0123", "0456", "0123"], "classification", ["0123", "0456"]),
        (["18_25", "26_35", "36_99"], "classification", ["18_25", "26_35", "36_99"]),
        (["0.5", "2", "2"], "classification", ["0.5", "2"]),
        (["1", "2", "3"], "regression", None),
        (["b", "10", "9"], "classification", ["10", "9", "b"]),
    ],
)
def test_task_of_a_column(values, task, labels):
    table = nkdata.Table({"y": values}, [2, 3, 4], "t.csv")
    target = nkdata.choose_target(table)
    assert (target.task, target.labels) == (task, labels)


def test_task_can_be_said():
    table = nkdata.Table({"y": ["10", "9", "9.0"]}, [2, 3, 4], "t.csv")
    target = nkdata.choose_target(table, task="classification")
    assert target.labels == ["9", "10"]  # numbers in numerical order
    np.testing.assert_array_equal(target.Y, [1, 0, 0])
    target = nkdata.choose_target(table, task="regression")
    np.testing.assert_array_equal(target.Y, [[10, 9, 9]])


@pytest.mark.parametrize(
    ("values", "labels", "codes"),
    [
        (["2.50", "0456", "0123"], ["2.50", "0123", "0456"], [0, 2, 1]),
        (["1.00", "1", "+1", "1e0", "3.0", "3.00"], ["1", "3.0"], [0, 0, 0, 0, 1, 1]),
        (["007", "7", "7.0", "07"], ["7", "07", "007"], [2, 0, 0, 1]),  # zeros in front make a code of it
        (["0", "-0", "0.5", "00"], ["0", "00", "0.5"], [0, 0, 2, 1]),
        (["9007199254740993", "9007199254740992"], ["9007199254740992", "9007199254740993"], [1, 0]),  # 2^53 + 1
    ],
)
def test_classes_of_numbers_have_the_names_in_the_file(values, labels, codes):
    table = nkdata.Table({"x": ["1"] * len(values), "y": values}, list(range(2, 2 + len(values))), "t.csv")
    target = nkdata.choose_target(table, task="classification")
    assert target.labels == labels
    assert target.reason == ("two values" if len(labels) == 2 else "numbers")
    np.testing.assert_array_equal(target.Y, codes)
    np.testing.assert_array_equal(nkdata.Preprocessor.fit(table, target).targets(table), codes)


def test_new_labels_may_be_written_otherwise_but_codes_not(tmp_path):
    made = fitted(nkdata.read_csv(write(tmp_path / "a.csv", "x,y\n1,01.0\n2,2.0\n3,3\n")), task="classification")
    assert made.labels == ["01.0", "2.0", "3"]
    new = nkdata.Table({"x": ["1"] * 4, "y": ["01.0", "2", "+2.00", "3.0"]}, [2, 3, 4, 5], "b.csv")
    np.testing.assert_array_equal(made.targets(new), [0, 1, 1, 2])
    for text in ("1", "02", "3_", "0_2"):
        new.columns["y"][1] = text
        with pytest.raises(nkdata.DataError, match=f"line 3: the label '{text}' is none of the model's"):
            made.targets(new)


@pytest.mark.parametrize("text", ["1_000", "1_0.5", "1e1_0", "_1"])
def test_underscores_make_no_numbers(text):
    table = nkdata.Table({"x": ["1", text], "y": ["1", "2"]}, [2, 3], "t.csv")
    assert fitted(table).columns == [["x", ["1", text]]]
    with pytest.raises(nkdata.DataError, match=f"line 3: column 'x' holds '{text}', not a number"):
        nkdata.choose_target(table, "x", "regression")


def number_of(text):
    """What one cell is: a number, nan where it is missing, None for other texts."""
    if text.lower() in ("", "na", "n/a", "nan", "null", "none", "?"):
        return np.nan
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


ODD = [
    "",
    "NA",
    "n/a",
    "NaN",
    "-nan",
    "None",
    "?",
    "inf",
    "-Infinity",
    "1_0",
    "0x1A",
    "1e400",
    "٣",
    "1.",
    "1 2",
    "٣٫٥",
    "−1",
]


@given(
    st.lists(st.one_of(st.floats().map(repr), st.integers().map(str)), max_size=12),
    st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=3)), max_size=2),
    st.randoms(use_true_random=False),
)
@example(["1"] * 9, ["1_0"], random.Random(0))
def test_columns_are_numbers_as_their_cells_are(plain, odd, shuffle):
    column = plain + odd
    shuffle.shuffle(column)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "CELLS_AT_A_TIME", 4)  # so that cells come in several blocks
        values, missing = nkdata.Table({"x": column}, list(range(len(column))), "t.csv").numbers("x")
    expected = [number_of(text) for text in column]
    assert missing.tolist() == [text.lower() in texts.MISSING for text in column]
    if None in expected:
        assert values is None
    else:
        np.testing.assert_array_equal(values, np.array(expected, float))


def test_a_changed_cell_is_parsed_anew():
    table = nkdata.Table({"x": ["1", "2"], "y": ["3", "4"]}, [2, 3], "t.csv")
    made = fitted(table)
    np.testing.assert_array_equal(made.features(table), [[-1, 1]])
    table.columns["x"][1] = "1"
    np.testing.assert_array_equal(made.features(table), [[-1, -1]])
    table.columns["x"] = ["2", "2"]
    np.testing.assert_array_equal(made.features(table), [[1, 1]])
    target = nkdata.choose_target(table, "y", "regression")
    target.Y[:] = 0  # the user's own
    np.testing.assert_array_equal(nkdata.choose_target(table, "y", "regression").Y, [[3, 4]])


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (["1", "", "3"], {}, "line 3: the target 'y' is missing"),
        (["a", "NA", "b"], {}, "line 3: the target 'y' is missing"),
        (["a", "1", "b"], {"task": "regression"}, "line 2: column 'y' holds 'a'"),
        (["1", "2", "inf"], {}, "line 4: the target 'y' is infinite"),
        (["a", "a", "a"], {}, "is 'a' in every example"),
        (["1", "2", "3"], {"name": "z"}, "no column 'z', but 'y'"),
        (["1", "2", "3"], {"task": "guess"}, "expected one of classification, regression"),
    ],
)
def test_bad_target(values, options, message):
    with pytest.raises(nkdata.DataError, match=message):
        nkdata.choose_target(nkdata.Table({"y": values}, [2, 3, 4], "t.csv"), **options)


@pytest.mark.parametrize(
    ("Y", "task", "message"),
    [
        (np.array(["a", "b", "a"]), "regression", "a.npz: regression needs numbers, Y holds text"),
        (np.array([["a", "b", "a"]]), None, r"a.npz: text labels have shape \(1, 3\), expected \(m,\)"),
    ],
)
def test_bad_target_of_arrays(Y, task, message):
    with pytest.raises(nkdata.DataError, match=message):
        nkdata.choose_target(nkdata.Arrays(np.ones((2, 3)), Y, "a.npz"), None, task)


def test_text_target_of_too_many_kinds():
    names = [f"name {i}" for i in range(MAX_CATEGORIES + 1)]
    table = nkdata.Table({"y": names}, list(range(2, len(names) + 2)), "t.csv")
    with pytest.raises(nkdata.DataError, match="201 different texts"):
        nkdata.choose_target(table)
    assert len(nkdata.choose_target(table, task="classification").labels) == 201


@pytest.mark.parametrize(
    ("Y", "task", "labels"),
    [
        (np.array([0, 1, 2]), "classification", ["0", "1", "2"]),
        (np.array([1, 2, 3], np.uint8), "classification", ["1", "2", "3"]),
        (np.array([False, True, True]), "classification", ["0", "1"]),
        (np.array([0.0, 1.0, 1.0]), "classification", ["0", "1"]),
        (np.array(["no", "yes", "no"]), "classification", ["no", "yes"]),
        (np.array([[0, 1, 0], [1, 0, 1]]), "classification", ["0", "1"]),
        (np.array([120, 340, 260]), "regression", None),
        (np.array([0, 1, 3]), "regression", None),
        (np.array([0.0, 1.0, 2.0]), "regression", None),
        (np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]), "regression", None),
    ],
)
def test_task_of_an_array(Y, task, labels):
    target = nkdata.choose_target(nkdata.Arrays(np.ones((1, 3)), Y, "a.npz"))
    assert (target.task, target.labels) == (task, labels)
    assert target.m == 3


def test_array_one_hot_and_its_labels():
    Y = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    arrays = nkdata.Arrays(np.ones((1, 3)), Y, "a.npz")
    assert nkdata.choose_target(arrays).task == "regression"
    np.testing.assert_array_equal(nkdata.choose_target(arrays, task="classification").Y, [1, 0, 1])
    arrays.Y = Y + 1
    with pytest.raises(nkdata.DataError, match="must be one-hot"):
        nkdata.choose_target(arrays, task="classification")


def test_arrays_have_no_columns_and_may_have_no_target():
    arrays = nkdata.Arrays(np.ones((1, 3)), None, "a.npz")
    with pytest.raises(nkdata.DataError, match="no array Y"):
        nkdata.choose_target(arrays)
    with pytest.raises(nkdata.DataError, match="no columns"):
        nkdata.choose_target(arrays, "price")


# --- .npz --------------------------------------------------------------------------------------


def test_npz(tmp_path):
    X, Y = np.arange(6).reshape(2, 3), np.array([[0, 1, 0]])
    np.savez(tmp_path / "a.npz", X=X, Y=Y)
    arrays = nkdata.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(arrays.X, X)
    np.testing.assert_array_equal(arrays.Y, [0, 1, 0])
    np.savez(tmp_path / "a.npz", X=X)
    assert nkdata.read(tmp_path / "a.npz").Y is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"Y": np.arange(3)}, "no array X, but Y"),
        ({"X": np.ones(3)}, r"X has shape \(3,\), expected \(n_x, m\)"),
        ({"X": np.ones((2, 0))}, "at least 1 feature and 1 example"),
        ({"X": np.array([["a"]])}, "expected numbers"),
        ({"X": np.ones((1, 1), complex)}, "expected numbers"),
        ({"X": np.array([[1, 2], [3, np.nan]])}, "X holds nan at feature 1, example 1"),
        ({"X": np.ones((3, 2)), "Y": np.arange(3)}, r"\(n_x, m\): save X\.T"),
        ({"X": np.ones((3, 2)), "Y": np.ones((3, 1))}, r"save X\.T and Y\.T"),
        ({"X": np.ones((4, 3)), "Y": np.ones((3, 2))}, r"\(n_y, m\): save Y\.T"),
        ({"X": np.ones((4, 3)), "Y": np.ones(5)}, r"m = 3 examples, but Y has shape \(5,\)"),
        ({"X": np.ones((4, 3)), "Y": np.array([1, np.inf, 2])}, r"Inf at \(1,\)"),
        ({"X": np.ones((4, 3)), "Y": np.ones((1, 1, 3))}, r"expected \(m,\) or \(n_y, m\)"),
        ({"X": np.ones((4, 3)), "Y": np.ones(3, complex)}, "numbers or text labels"),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(nkdata.DataError, match=message):
        nkdata.read_npz(tmp_path / "a.npz")


def test_npz_is_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.array([[print]], object))
    with pytest.raises(nkdata.DataError, match="not a readable"):
        nkdata.read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("keep", [0, 10, 100, 0.5, -1])
def test_truncated_npz(tmp_path, keep):
    np.savez(tmp_path / "a.npz", X=np.ones((3, 50)), Y=np.arange(50))
    whole = (tmp_path / "a.npz").read_bytes()
    keep = int(keep * len(whole)) if isinstance(keep, float) else keep
    (tmp_path / "a.npz").write_bytes(whole[:keep])
    with pytest.raises(nkdata.DataError, match=r"a\.npz is not a readable"):
        nkdata.read_npz(tmp_path / "a.npz")


# --- pictures ----------------------------------------------------------------------------------


@pytest.fixture
def image():
    return pytest.importorskip("PIL.Image", reason="reading pictures needs Pillow")


def test_picture_is_unrolled_channel_by_channel(tmp_path, image):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image.fromarray(pixels).save(tmp_path / "a.png")
    x = nkdata.picture_features(tmp_path / "a.png")
    assert x.shape == (12288,)
    assert x.dtype == np.float32
    for channel in range(3):
        for row, col in [(0, 0), (0, 1), (1, 0), (63, 63)]:
            position = channel * 64 * 64 + row * 64 + col
            assert x[position] == np.float32(pixels[row, col, channel]) / np.float32(255)


def test_picture_is_resized_and_made_rgb(tmp_path, image):
    image.new("RGB", (50, 20), (255, 51, 0)).save(tmp_path / "flat.png")
    x = nkdata.picture_features(tmp_path / "flat.png", 8)
    np.testing.assert_array_equal(x, np.repeat(np.array([255, 51, 0], np.float32), 64) / 255)
    image.new("L", (8, 8), 102).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        nkdata.picture_features(tmp_path / "grey.png", 8), np.full(192, np.float32(102) / 255)
    )


GREY16 = np.array([[0, 1, 300], [20000, 40000, 65535], [65534, 256, 255]], np.uint16)


def tiff(bits, colours, strip):
    """A TIFF of one row of grey pixels, two of them, in one strip."""
    # (tag, value) in ascending order; each an unsigned long, and the strip behind them
    tags = [(256, 2), (257, 1), (258, bits), (259, 1), (262, colours), (273, 0), (277, 1), (278, 1), (279, len(strip))]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + strip


@pytest.mark.parametrize(("name", "order"), [("a.png", "<"), ("a.pgm", "<"), ("a.tif", "<"), ("a.tif", ">")])
def test_grey_of_16_bits_is_divided_by_its_white(tmp_path, image, name, order):
    mode = {"<": "I;16", ">": "I;16B"}[order]
    image.frombytes(mode, (3, 3), GREY16.astype(f"{order}u2").tobytes()).save(tmp_path / name)
    x = nkdata.picture_features(tmp_path / name, 3)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.tile(GREY16.reshape(-1) / np.float32(65535), 3))


def test_grey_of_16_bits_of_a_small_maximum_is_stretched(tmp_path, image):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 2 1023\n" + np.array([0, 1, 512, 1023], ">u2").tobytes())
    grey = nkdata.picture_features(tmp_path / "a.pgm", 2)[:4]
    np.testing.assert_allclose(grey, np.array([0, 1, 512, 1023]) / 1023, atol=0.5 / 65535 + 2**-24)


def test_grey_of_16_bits_as_old_versions_of_pillow_open_it(tmp_path, image, monkeypatch):
    from PIL import PngImagePlugin

    image.fromarray(GREY16).save(tmp_path / "a.png")
    expected = nkdata.picture_features(tmp_path / "a.png", 3)
    monkeypatch.setitem(PngImagePlugin._MODES, (16, 0), ("I", "I;16B"))
    with image.open(tmp_path / "a.png") as opened:
        assert opened.mode == "I"
    np.testing.assert_array_equal(nkdata.picture_features(tmp_path / "a.png", 3), expected)


def test_grey_of_16_bits_is_turned_and_stays_between_black_and_white(tmp_path, image):
    pixels = np.zeros((16, 16), np.uint16)
    pixels[:5] = 65535  # an edge, at which the filter overshoots
    exif = image.Exif()
    exif[0x0112] = 3
    image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    x = nkdata.picture_features(tmp_path / "a.png", 12).reshape(3, 12, 12)
    assert (x.min(), x.max()) == (0, 1)
    assert x[0, 0, 0] == 0
    assert x[0, 11, 0] > 0.99


@pytest.mark.parametrize("mode", ["I", "F"])
def test_grey_without_a_white_is_refused(tmp_path, image, mode):
    image.new(mode, (4, 4), 100).save(tmp_path / "a.tif")
    message = rf"a\.tif is not a readable picture: its grey, of Pillow's mode {mode}, is neither of 8 nor of 16 bits"
    with pytest.raises(nkdata.DataError, match=message):
        nkdata.picture_features(tmp_path / "a.tif")


def test_tiff_of_12_bits_or_inverted_is_refused(tmp_path, image):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(16, 1, b"\x12\x34\x56\x78"))
    assert nkdata.picture_features(path, 1)[0] == pytest.approx((0x3412 + 0x7856) / 2 / 65535, rel=2**-20)
    for wrong in (tiff(12, 1, b"\x12\x34\x56"), tiff(16, 0, b"\x12\x34\x56\x78")):
        path.write_bytes(wrong)
        with pytest.raises(nkdata.DataError, match=r"mode I;16, is neither of 8 nor of 16 bits from black to white"):
            nkdata.picture_features(path)


def test_picture_is_turned_as_its_exif_says(tmp_path, image):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[0] = 255  # the top row; orientation 3 turns it by 180°
    exif = image.Exif()
    exif[0x0112] = 3
    image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    rows = nkdata.picture_features(tmp_path / "a.png", 8).reshape(3, 8, 8)[0].max(axis=1)
    np.testing.assert_array_equal(rows, [0] * 7 + [1])


def test_folder_of_classes(tmp_path, image):
    for name, colour in [("b/2.png", 2), ("b/1.jpg", 1), ("a/9.PNG", 9)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.new("RGB", (4, 4), (colour, 0, 0)).save(tmp_path / name)
    write(tmp_path / "a" / "notes.txt", "not a picture")
    write(tmp_path / "a" / ".hidden.png", "not a picture")
    (tmp_path / ".cache").mkdir()
    arrays = nkdata.read(tmp_path, size=4)
    assert arrays.files == ["a/9.PNG", "b/1.jpg", "b/2.png"]
    assert arrays.Y.tolist() == ["a", "b", "b"]
    assert arrays.X.shape == (48, 3)
    assert arrays.groups == 3
    assert arrays.X[:, 0].tolist() == [np.float32(9) / np.float32(255)] * 16 + [0] * 32
    assert nkdata.read(tmp_path / "b", size=4).Y is None
    assert nkdata.read(tmp_path / "b" / "2.png", size=4).X.shape == (48, 1)


def test_bad_folders_and_pictures(tmp_path, image):
    with pytest.raises(nkdata.DataError, match="holds no pictures"):
        nkdata.read_pictures(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image.fromarray(noise).save(tmp_path / "a" / "1.png")
    with pytest.raises(nkdata.DataError, match="class folder b holds no pictures"):
        nkdata.read_pictures(tmp_path)
    write(tmp_path / "b" / "1.png", "not a picture")
    with pytest.raises(nkdata.DataError, match=r"1\.png is not a readable picture"):
        nkdata.read_pictures(tmp_path)
    whole = (tmp_path / "a" / "1.png").read_bytes()
    (tmp_path / "b" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(nkdata.DataError, match=r"1\.png is not a readable picture"):
        nkdata.read_pictures(tmp_path)
    image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    with pytest.raises(
        nkdata.DataError, match=r"1\.png is beside the class folders, in no class: move it into one of them"
    ):
        nkdata.read_pictures(tmp_path)
    with pytest.raises(nkdata.DataError, match="at least 1"):
        nkdata.read_pictures(tmp_path / "a", size=0)


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [
        ("PIL", lambda path: nkdata.read_pictures(path), r"nnkern\[images\]"),
        ("sklearn", lambda path: nkdata.digits(), r"nnkern\[demo\]"),
    ],
)
def test_missing_package_names_its_extra(tmp_path, monkeypatch, module, call, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(nkdata.MissingPackageError, match=f"pip install '{extra}'"):
        call(tmp_path)


# --- digits ------------------------------------------------------------------------------------


def test_digits():
    datasets = pytest.importorskip("sklearn.datasets", reason="the digits are scikit-learn's")
    arrays = nkdata.read()
    np.testing.assert_array_equal(arrays.X, datasets.load_digits().data.T)
    target = nkdata.choose_target(arrays)
    assert target.labels == [str(i) for i in range(10)]
    np.testing.assert_array_equal(target.Y, datasets.load_digits().target)
    made = nkdata.Preprocessor.fit(arrays, target)
    np.testing.assert_allclose(made.mean, [arrays.X.mean()], rtol=1e-15)
    np.testing.assert_allclose(made.scale, [arrays.X.std()], rtol=1e-14)


# --- features ----------------------------------------------------------------------------------

TEXT = """size,city,rooms,price
10,Ulm,1,100
20,Bonn,1,300
30,Ulm,1,200
60,Köln,1,700
"""


def test_numbers_are_standardised_and_texts_one_hot(tmp_path):
    table = nkdata.read_csv(write(tmp_path / "a.csv", TEXT))
    made = fitted(table)
    X = made.features(table)
    size = np.array([10, 20, 30, 60])
    expected = [
        (size - 30) / np.sqrt(350),  # mean 30; squares of 20, 10, 0, 30 add up to 4 · 350
        [0, 1, 0, 0],
        [0, 0, 0, 1],
        [1, 0, 1, 0],
        [0, 0, 0, 0],  # constant: its own mean, divided by 1
    ]
    # the mean is exact here; the other eight operations round by half an eps each at most
    np.testing.assert_allclose(X, expected, rtol=4 * np.finfo(float).eps, atol=0)
    assert made.columns == [["size", None], ["city", ["Bonn", "Köln", "Ulm"]], ["rooms", None]]
    assert X.flags.f_contiguous
    assert made.features(table, np.float32).dtype == np.float32
    np.testing.assert_array_equal(made.target_mean, [325])
    Y = made.targets(table)
    np.testing.assert_allclose(Y.mean(axis=1), 0, atol=1e-16)
    np.testing.assert_allclose(Y.std(axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(made.predictions(Y), [[100, 300, 200, 700]], rtol=1e-15)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e300, 1 / 3, 5e-324])
def test_constant_feature_becomes_exactly_zero(value):
    X = np.full((1, 7), value)
    arrays = nkdata.Arrays(X, np.arange(7.0), "a.npz")
    made = fitted(arrays)
    assert made.scale.tolist() == [1.0]
    assert made.mean.tolist() == [value]
    assert not made.features(arrays).any()


@pytest.mark.parametrize("factor", [1e-300, 1.0, 1e300])
def test_scale_neither_over_nor_underflows(factor):
    x = np.array([[1.0, 2.0, 3.0, 6.0]]) * factor
    made = fitted(nkdata.Arrays(x, np.arange(4.0), "a.npz"))
    np.testing.assert_allclose(made.scale, np.sqrt(3.5) * factor, rtol=1e-15)
    np.testing.assert_allclose(made.mean, 3 * factor, rtol=1e-15)


def test_values_too_large_are_refused():
    arrays = nkdata.Arrays(np.array([[1.7e308, -1.7e308, 1.7e308]]), np.arange(3.0), "a.npz")
    with pytest.raises(nkdata.DataError, match="feature 0 holds values too large"):
        fitted(arrays)
    huge = ["1.7e308", "-1.7e308", "1.7e308"]
    table = nkdata.Table({"x": huge, "y": ["1", "2", "3"]}, [2, 3, 4], "t.csv")
    with pytest.raises(nkdata.DataError, match="column 'x' holds values too large to be standardised"):
        fitted(table)
    table = nkdata.Table({"x": ["1", "2", "3"], "y": ["1.7e308", "-1.7e308", "1.6e308"]}, [2, 3, 4], "t.csv")
    with pytest.raises(nkdata.DataError, match="the target's values are too large"):
        fitted(table)
    arrays = nkdata.Arrays(np.array([[1.0, 2.0, 3.0]]), np.arange(3.0), "a.npz")
    made = fitted(arrays)
    arrays.X = np.array([[1e300]])
    assert np.isfinite(made.features(arrays, np.float64)).all()
    with pytest.raises(nkdata.DataError, match="too far from the training data's for float32"):
        made.features(arrays, np.float32)


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    arrays = nkdata.Arrays(rng.normal(size=(48, 11)), np.arange(11.0), "a", groups=3)
    plain = nkdata.Arrays(arrays.X, arrays.Y, "a")
    whole = [(fitted(data), fitted(data).features(data)) for data in (arrays, plain)]
    monkeypatch.setattr(preprocessor, "NUMBERS_AT_A_TIME", 100)
    for data, (made, X) in zip((arrays, plain), whole, strict=True):
        assert fitted(data) == made
        np.testing.assert_array_equal(made.features(data), X)


def test_only_the_training_rows_are_learned_from(tmp_path):
    table = nkdata.read_csv(write(tmp_path / "a.csv", TEXT))
    made = fitted(table, rows=[0, 1, 2])
    np.testing.assert_array_equal(made.mean, [20, 0, 0, 1])
    np.testing.assert_array_equal(made.target_mean, [200])
    assert made.columns[1] == ["city", ["Bonn", "Ulm"]]
    with pytest.warns(nkdata.UnknownCategoryWarning, match="'city' holds 'Köln', unseen"):
        X = made.features(table)
    np.testing.assert_array_equal(X[1:3], [[0, 1, 0, 0], [1, 0, 1, 0]])


def test_channels_share_mean_and_scale():
    X = np.zeros((12, 2), np.float32)
    X[:4, 0], X[4:8, 1], X[8:] = 1, 0.5, 0.25  # red, green and blue of two 2×2 pictures
    arrays = nkdata.Arrays(X, np.array(["a", "b"]), "p", 2, [], 3)
    made = fitted(arrays)
    np.testing.assert_array_equal(made.mean, [0.5, 0.25, 0.25])
    np.testing.assert_array_equal(made.scale, [0.5, 0.25, 1])
    expected = np.repeat([[1, -1], [-1, 1], [0, 0]], 4, axis=0)
    np.testing.assert_array_equal(made.features(arrays), expected)


def test_columns_can_be_ignored_or_categorical(tmp_path):
    table = nkdata.read_csv(write(tmp_path / "a.csv", "id,zip,y\n7,01,1\n8,1,2\n9,01,3\n"))
    made = fitted(table, ignore=["id"], categorical=["zip"])
    assert made.columns == [["zip", ["01", "1"]]]
    np.testing.assert_array_equal(made.features(table), [[1, 0, 1], [0, 1, 0]])
    other = nkdata.Table({"zip": ["1.0", "01"]}, [2, 3], "b.csv")  # 1.0 is another way to write 1
    np.testing.assert_array_equal(made.features(other), [[0, 1], [1, 0]])
    for options, message in [
        ({"ignore": ["no"]}, "no column 'no'"),
        ({"categorical": ["no"]}, "no column 'no'"),
        ({"ignore": ["y"]}, "'y' can't be left out"),
        ({"ignore": ["id", "zip"]}, "no column besides the target"),
        ({"missing": "guess"}, "expected error or impute"),
    ]:
        with pytest.raises(nkdata.DataError, match=message):
            fitted(table, **options)


def test_missing_values(tmp_path):
    text = "a,b,y\n1,x,1\nNA,y,2\n4,,3\n"
    table = nkdata.read_csv(write(tmp_path / "a.csv", text))
    with pytest.raises(nkdata.DataError, match=r"line 3: column 'a' has no value.*impute"):
        fitted(table)
    with pytest.raises(nkdata.DataError, match="line 4: column 'b' has no value"):
        fitted(table, ignore=["a"])
    made = fitted(table, missing="impute")
    np.testing.assert_array_equal(made.features(table), [[-1, 0, 1], [1, 0, 0], [0, 1, 0]])
    whole = nkdata.Table({"a": ["1", "4"], "b": ["x", "y"], "y": ["1", "3"]}, [2, 3], "b.csv")
    with pytest.raises(nkdata.DataError, match="line 3: column 'a' has no value"):
        fitted(whole).features(table)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", "inf"], "line 3: column 'x' is infinite"),
        (["?", "-"], "'x' holds '-'"),
        (["", "NaN"], "'x' has no value to learn from"),
    ],
)
def test_bad_number_columns(values, message):
    table = nkdata.Table({"x": values, "y": ["1", "2"]}, [2, 3], "t.csv")
    if message.startswith("'x' holds"):  # numbers when it was trained, text now
        good = nkdata.Table({"x": ["1", "2"], "y": ["1", "2"]}, [2, 3], "t.csv")
        with pytest.raises(nkdata.DataError, match=message):
            fitted(good, missing="impute").features(table)
        return
    with pytest.raises(nkdata.DataError, match=message):
        fitted(table, missing="impute")


def test_too_many_categories():
    names = [f"name {i}" for i in range(MAX_CATEGORIES + 1)]
    table = nkdata.Table({"x": names, "y": list(map(str, range(201)))}, list(range(201)), "t.csv")
    with pytest.raises(nkdata.DataError, match="'x' has 201 different texts"):
        fitted(table)


def test_new_tables_need_the_same_columns(tmp_path):
    table = nkdata.read_csv(write(tmp_path / "a.csv", TEXT))
    made = fitted(table)
    turned = nkdata.Table(dict(reversed(table.columns.items())), table.lines, "turned.csv")
    np.testing.assert_array_equal(made.features(turned), made.features(table))
    columns = dict(table.columns)
    del columns["price"]
    made.features(nkdata.Table(columns, table.lines, "b.csv"))
    del columns["city"], columns["rooms"]
    with pytest.raises(nkdata.DataError, match=r"b\.csv lacks the model's columns 'city', 'rooms'"):
        made.features(nkdata.Table(columns, table.lines, "b.csv"))
    columns = table.columns | {"town": table.columns["city"]}
    with pytest.raises(nkdata.DataError, match="columns unknown to the model: 'town'"):
        made.features(nkdata.Table(columns, table.lines, "b.csv"))
    with pytest.raises(nkdata.DataError, match=r"expects a CSV file, not an \.npz"):
        made.features(nkdata.Arrays(np.ones((5, 2)), None, "a.npz"))


def test_new_arrays_need_the_same_features():
    arrays = nkdata.Arrays(np.eye(3, 5), np.arange(5), "a.npz")
    made = fitted(arrays)
    with pytest.raises(nkdata.DataError, match=r"X has 4 features, the model expects 3$"):
        made.features(nkdata.Arrays(np.ones((4, 2)), None, "b.npz"))
    with pytest.raises(nkdata.DataError, match=r"expects 3; one example is a column: save X\.T"):
        made.features(nkdata.Arrays(np.ones((4, 3)), None, "b.npz"))
    with pytest.raises(nkdata.DataError, match="not pictures"):
        made.features(nkdata.Arrays(np.ones((3, 2)), None, "p", 1))


def test_targets_of_new_data(tmp_path):
    table = nkdata.read_csv(write(tmp_path / "a.csv", "x,y\n1,1\n2,3\n3,3\n"))
    made = fitted(table)
    assert made.labels == ["1", "3"]
    new = nkdata.Table({"x": ["1", "2"], "y": ["3.0", "1"]}, [2, 3], "b.csv")
    np.testing.assert_array_equal(made.targets(new), [1, 0])
    new.columns["y"][1] = "2"
    with pytest.raises(nkdata.DataError, match="line 3: the label '2' is none of the model's"):
        made.targets(new)
    del new.columns["y"]
    with pytest.raises(nkdata.DataError, match="no column 'y', the target"):
        made.targets(new)
    arrays = nkdata.Arrays(np.eye(2, 4), np.arange(8.0).reshape(2, 4), "a.npz")
    made = fitted(arrays)
    np.testing.assert_allclose(made.predictions(made.targets(arrays)), arrays.Y, rtol=1e-15)
    arrays.Y = np.arange(4.0)
    with pytest.raises(nkdata.DataError, match="Y has 1 rows, the model 2"):
        made.targets(arrays)
    made = fitted(nkdata.Arrays(np.eye(2, 4), np.array(["a", "b", "b", "a"]), "a.npz"))
    with pytest.raises(nkdata.DataError, match=r"new\.npz.*no array Y"):
        made.targets(nkdata.Arrays(np.eye(2, 4), None, "new.npz"))


def test_inputs_are_left_alone(tmp_path):
    table = nkdata.read_csv(write(tmp_path / "a.csv", "a,b,y\n1,x,1\nNA,y,2\n4,,3\n"))
    before = json.dumps(table.columns)
    made = fitted(table, missing="impute")
    made.features(table)
    assert json.dumps(table.columns) == before
    X = np.random.default_rng(0).normal(size=(3, 4))
    arrays = nkdata.Arrays(X.copy(), np.arange(4.0), "a.npz")
    arrays.X.flags.writeable = arrays.Y.flags.writeable = False
    made = fitted(arrays)
    made.features(arrays, np.float64)
    made.targets(arrays)
    np.testing.assert_array_equal(arrays.X, X)


# --- to and from a dict ------------------------------------------------------------------------


def preprocessors():
    table = nkdata.Table(
        {"x": ["0.1", "1e-7", "3"], "c": ["a", "b", "a"], "i": list("123"), "y": list("aab")},
        [2, 3, 4],
        "t.csv",
    )
    X = np.random.default_rng(0).normal(size=(12, 3)) / 3
    return {
        "classes": (fitted(table, ignore=["i"]), table),
        "regression": (fitted(table, "x", missing="impute"), table),
        "array": (fitted(nkdata.Arrays(X, X[:2], "a")), nkdata.Arrays(X, X[:2], "a")),
        "pictures": (
            fitted(nkdata.Arrays(X, np.array(["a", "b", "a"]), "p", 2, [], 3)),
            nkdata.Arrays(X, None, "p", 2),
        ),
    }


@pytest.mark.parametrize("kind", ["classes", "regression", "array", "pictures"])
def test_json_round_trip_is_exact(kind):
    made, data = preprocessors()[kind]
    again = nkdata.Preprocessor.from_dict(json.loads(json.dumps(made.to_dict(), sort_keys=True)))
    assert again == made
    assert again.to_dict() == made.to_dict()
    np.testing.assert_array_equal(again.mean, made.mean)
    np.testing.assert_array_equal(again.scale, made.scale)
    np.testing.assert_array_equal(again.features(data), made.features(data))


@pytest.mark.parametrize("kind", ["classes", "regression", "array", "pictures"])
def test_damaged_records_are_refused(kind):
    record = preprocessors()[kind][0].to_dict()
    wrong = [
        None,
        "no",
        -1,
        2.5,
        [],
        {},
        [None],
        ["a"],
        [[1]],
        [float("nan")],
        float("inf"),
        10**30,
    ]
    for name in record:
        if name == "version":
            continue
        for value in wrong:
            # lists of no or other ignored columns, and another name, are as good as these
            if (name == "ignored" and value in ([], ["a"])) or (name, value) == ("target", "no"):
                continue
            with pytest.raises(nkdata.DataError, match="damaged"):
                nkdata.Preprocessor.from_dict(record | {name: value})
    for value in (None, [], "text", 3, [1]):
        with pytest.raises(nkdata.DataError, match="damaged"):
            nkdata.Preprocessor.from_dict(value)
    with pytest.raises(nkdata.DataError, match=r"^the model.s record of its data has version 99, this nnkern reads 1$"):
        nkdata.Preprocessor.from_dict(record | {"version": 99})


# --- holding out -------------------------------------------------------------------------------


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 10),
)
@example(counts=[1, 1, 5], share=0.5, seed=0)  # two classes can't give what falls to them
def test_split_is_stratified(counts, share, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    if max(counts) == 1:
        with pytest.raises(nkdata.DataError, match="too few"):
            nkdata.split(labels, share, seed)
        return
    train, held = nkdata.split(labels, share, seed)
    m = len(labels)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(m))
    assert (np.diff(train) > 0).all()
    assert (np.diff(held) > 0).all()
    wanted = min(max(round(share * m), 1), m - 1)
    assert len(held) == min(wanted, m - len(counts))
    for c, count in enumerate(counts):
        n = (labels[held] == c).sum()
        assert n <= count - 1
        assert n >= min(np.floor(count * wanted / m), count - 1)
    again = nkdata.split(labels, share, seed)
    np.testing.assert_array_equal(again[1], held)


def test_split_of_digits_sized_data():
    labels = np.arange(1797) % 10
    train, held = nkdata.split(labels, 1 / 3, 0)
    assert (len(train), len(held)) == (1198, 599)
    assert set(np.bincount(labels[held])) == {59, 60}
    assert (nkdata.split(labels, 1 / 3, 1)[1] != held).any()


def test_split_without_strata_and_without_share():
    train, held = nkdata.split(10, 0.25, 0)
    assert (len(train), len(held)) == (8, 2)
    train, held = nkdata.split(10, 0)
    assert (len(train), len(held)) == (10, 0)
    for strata, share in [(1, 0.5), (10, 1.0), (10, -0.1), (10, float("nan"))]:
        with pytest.raises(nkdata.DataError, match=r"too few|expected 0 <= share < 1"):
            nkdata.split(strata, share)


@given(
    counts=st.lists(st.integers(2, 30), min_size=1, max_size=5),
    k=st.integers(2, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_folds_hold_every_example_out_once(counts, k, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    m = len(labels)
    if k > m:
        with pytest.raises(nkdata.DataError, match="the number of folds"):
            nkdata.folds(labels, k, seed)
        return
    parts = nkdata.folds(labels, k, seed)
    assert len(parts) == k
    for train, held in parts:
        assert np.array_equal(np.sort(np.concatenate([train, held])), np.arange(m))
        assert (np.diff(train) > 0).all()
        assert (np.diff(held) > 0).all()
        assert set(labels[train]) == set(labels)  # of every class there is one to learn
        assert len(held) in (m // k, m // k + 1)
        for c, count in enumerate(counts):
            assert (labels[held] == c).sum() in (count // k, count // k + 1)
    assert np.array_equal(np.sort(np.concatenate([held for _, held in parts])), np.arange(m))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(parts, nkdata.folds(labels, k, seed), strict=True))


def test_folds_of_numbers_are_drawn_from_all_alike():
    parts = nkdata.folds(10, 3, 0)
    assert sorted(len(held) for _, held in parts) == [3, 3, 4]
    assert not np.array_equal(parts[0][1], nkdata.folds(10, 3, 1)[0][1])


@pytest.mark.parametrize(
    ("strata", "k", "message"),
    [
        (10, 1, "the number of folds is 1, expected 2 to 10"),
        (10, 11, "the number of folds is 11, expected 2 to 10"),
        (10, 2.0, "the number of folds is 2.0"),
        ([0, 0, 1], 2, "a class has a single example"),
    ],
)
def test_folds_that_cannot_be(strata, k, message):
    with pytest.raises(nkdata.DataError, match=message):
        nkdata.folds(strata, k)


def test_counts_may_be_of_numpy():
    for own, numpys in zip(nkdata.split(10, 0.2), nkdata.split(np.int64(10), 0.2), strict=True):
        np.testing.assert_array_equal(own, numpys)
    for own, numpys in zip(nkdata.folds(10, 2), nkdata.folds(np.uint8(10), np.int64(2)), strict=True):
        np.testing.assert_array_equal(own, numpys)


def test_take_gives_contiguous_examples():
    X = np.arange(12.0).reshape(3, 4)
    part = nkdata.take(X, [2, 0])
    np.testing.assert_array_equal(part, X[:, [2, 0]])
    assert part.flags.f_contiguous
    np.testing.assert_array_equal(nkdata.take(np.arange(4), [2, 0]), [2, 0])


# --- the module itself -------------------------------------------------------------------------


def test_importing_nnkern_loads_neither_this_nor_the_command_line():
    code = (
        "import sys, nnkern; "
        "print([name for name in sys.modules if name in "
        "('nnkern.data', 'nnkern.cli', 'argparse', 'PIL', 'sklearn', 'matplotlib')])"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_reading_a_csv_loads_no_optional_package(tmp_path):
    path = write(tmp_path / "a.csv", TEXT)
    code = (
        "import sys; from nnkern import data; "
        f"data.read({str(path)!r}); "
        "print([name for name in sys.modules if name in ('PIL', 'sklearn', 'matplotlib')])"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
