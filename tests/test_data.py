"""nnkern.data: reading, choosing the target, preparing features, holding out."""

import importlib.util
import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from nnkern import data as nkdata
from nnkern.data import preprocessor


def fitted(data, task=None, **options):
    return nkdata.Preprocessor.fit(data, nkdata.choose_target(data, task), **options)


@pytest.mark.parametrize(
    ("Y", "task", "message"),
    [
        (np.array(["a", "b", "a"]), "regression", "a.npz: regression needs numbers, Y holds text"),
        (np.array([["a", "b", "a"]]), None, r"a.npz: text labels have shape \(1, 3\), expected \(m,\)"),
    ],
)
def test_bad_target_of_arrays(Y, task, message):
    with pytest.raises(nkdata.DataError, match=message):
        nkdata.choose_target(nkdata.Arrays(np.ones((2, 3)), Y, "a.npz"), task)


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


def test_arrays_may_have_no_target_and_one_class_is_none():
    arrays = nkdata.Arrays(np.ones((1, 3)), None, "a.npz")
    with pytest.raises(nkdata.DataError, match="no array Y"):
        nkdata.choose_target(arrays)

    with pytest.raises(nkdata.DataError, match="is 1 in every example"):
        nkdata.choose_target(nkdata.Arrays(np.ones((1, 3)), np.ones(3), "a.npz"), "classification")
    with pytest.raises(nkdata.DataError, match="expected one of classification, regression"):
        nkdata.choose_target(arrays, "guess")


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
    (tmp_path / "a" / "notes.txt").write_text("not a picture")
    (tmp_path / "a" / ".hidden.png").write_text("not a picture")
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
    (tmp_path / "b" / "1.png").write_text("not a picture")
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
    arrays = nkdata.Arrays(np.array([[1.0, 2.0, 3.0]]), np.array([1.7e308, -1.7e308, 1.6e308]), "a.npz")
    with pytest.raises(nkdata.DataError, match="the target's values are too large"):
        fitted(arrays)
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


def test_channels_share_mean_and_scale():
    X = np.zeros((12, 2), np.float32)
    X[:4, 0], X[4:8, 1], X[8:] = 1, 0.5, 0.25  # red, green and blue of two 2×2 pictures
    arrays = nkdata.Arrays(X, np.array(["a", "b"]), "p", 2, [], 3)
    made = fitted(arrays)
    np.testing.assert_array_equal(made.mean, [0.5, 0.25, 0.25])
    np.testing.assert_array_equal(made.scale, [0.5, 0.25, 1])
    expected = np.repeat([[1, -1], [-1, 1], [0, 0]], 4, axis=0)
    np.testing.assert_array_equal(made.features(arrays), expected)


def test_new_arrays_need_the_same_features():
    arrays = nkdata.Arrays(np.eye(3, 5), np.arange(5), "a.npz")
    made = fitted(arrays)
    with pytest.raises(nkdata.DataError, match=r"X has 4 features, the model expects 3$"):
        made.features(nkdata.Arrays(np.ones((4, 2)), None, "b.npz"))
    with pytest.raises(nkdata.DataError, match=r"expects 3; one example is a column: save X\.T"):
        made.features(nkdata.Arrays(np.ones((4, 3)), None, "b.npz"))
    with pytest.raises(nkdata.DataError, match="not pictures"):
        made.features(nkdata.Arrays(np.ones((3, 2)), None, "p", 1))


def test_targets_of_new_data():
    made = fitted(nkdata.Arrays(np.ones((1, 3)), np.array([1, 3, 3]), "a.npz"), "classification")
    assert made.labels == ["1", "3"]
    new = nkdata.Arrays(np.ones((1, 2)), np.array([3.0, 1.0]), "b.npz")
    np.testing.assert_array_equal(made.targets(new), [1, 0])
    new.Y[1] = 2
    with pytest.raises(nkdata.DataError, match=r"b\.npz, example 1: the label '2' is none of the model's: '1', '3'"):
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


def test_inputs_are_left_alone():
    X = np.random.default_rng(0).normal(size=(3, 4))
    arrays = nkdata.Arrays(X.copy(), np.arange(4.0), "a.npz")
    arrays.X.flags.writeable = arrays.Y.flags.writeable = False
    made = fitted(arrays)
    made.features(arrays, np.float64)
    made.targets(arrays)
    np.testing.assert_array_equal(arrays.X, X)


# --- to and from a dict ------------------------------------------------------------------------


def preprocessors():
    X = np.random.default_rng(0).normal(size=(12, 3)) / 3
    return {
        "classes": (fitted(nkdata.Arrays(X, np.array(["a", "b", "a"]), "a")), nkdata.Arrays(X, None, "a")),
        "array": (fitted(nkdata.Arrays(X, X[:2], "a")), nkdata.Arrays(X, X[:2], "a")),
        "pictures": (
            fitted(nkdata.Arrays(X, np.array(["a", "b", "a"]), "p", 2, [], 3)),
            nkdata.Arrays(X, None, "p", 2),
        ),
    }


@pytest.mark.parametrize("kind", ["classes", "array", "pictures"])
def test_json_round_trip_is_exact(kind):
    made, data = preprocessors()[kind]
    again = nkdata.Preprocessor.from_dict(json.loads(json.dumps(made.to_dict(), sort_keys=True)))
    assert again == made
    assert again.to_dict() == made.to_dict()
    np.testing.assert_array_equal(again.mean, made.mean)
    np.testing.assert_array_equal(again.scale, made.scale)
    np.testing.assert_array_equal(again.features(data), made.features(data))


@pytest.mark.parametrize("kind", ["classes", "array", "pictures"])
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
            with pytest.raises(nkdata.DataError, match="damaged"):
                nkdata.Preprocessor.from_dict(record | {name: value})
    for value in (None, [], "text", 3, [1]):
        with pytest.raises(nkdata.DataError, match="damaged"):
            nkdata.Preprocessor.from_dict(value)
    with pytest.raises(nkdata.DataError, match="of a table and from an older nnkern: train it again"):
        nkdata.Preprocessor.from_dict(record | {"kind": "table", "columns": []})
    with pytest.raises(nkdata.DataError, match=r"^the model.s record of its data has version 99, this nnkern reads 1$"):
        nkdata.Preprocessor.from_dict(record | {"version": 99})


# --- holding out -------------------------------------------------------------------------------

drawing = pytest.mark.skipif(not importlib.util.find_spec("sklearn"), reason="scikit-learn draws what is held out")


@drawing
def test_split_is_stratified_and_keeps_a_classs_only_example():
    labels = np.random.default_rng(0).permutation(np.repeat(["a", "b", "c", "d"], [60, 30, 10, 1]))
    train, held = nkdata.split(labels, 0.2, 3)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(101))
    assert (np.diff(train) > 0).all()
    assert (np.diff(held) > 0).all()
    assert [(labels[held] == label).sum() for label in "abcd"] == [12, 6, 2, 0]
    np.testing.assert_array_equal(nkdata.split(labels, 0.2, 3)[1], held)
    assert (nkdata.split(labels, 0.2, 4)[1] != held).any()


@drawing
def test_split_of_digits_sized_data():
    labels = np.arange(1797) % 10
    train, held = nkdata.split(labels, 1 / 3, 0)
    assert (len(train), len(held)) == (1198, 599)
    assert set(np.bincount(labels[held])) == {59, 60}


@drawing
def test_split_without_strata_and_without_share():
    train, held = nkdata.split(np.int64(10), 0.2, 0)
    assert (len(train), len(held)) == (8, 2)
    train, held = nkdata.split(10, 0)
    assert (len(train), len(held)) == (10, 0)
    for strata, share in [(1, 0.5), (10, 1.0), (10, -0.1), (10, float("nan"))]:
        with pytest.raises(ValueError, match=r"train set will be empty|expected 0 <= share < 1"):
            nkdata.split(strata, share)


@drawing
@pytest.mark.parametrize("strata", [31, np.arange(31) % 3])
def test_folds_hold_every_example_out_once(strata):
    parts = nkdata.folds(strata, 4, 0)
    assert sorted(len(held) for _, held in parts) == [7, 8, 8, 8]
    for train, held in parts:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(31))
        if np.ndim(strata):
            assert np.ptp(np.bincount(strata[held], minlength=3)) <= 1
    np.testing.assert_array_equal(np.sort(np.concatenate([held for _, held in parts])), np.arange(31))
    for one, same in zip(parts, nkdata.folds(strata, 4, 0), strict=True):
        np.testing.assert_array_equal(one[1], same[1])
    assert any((one[1] != other[1]).any() for one, other in zip(parts[1:], nkdata.folds(strata, 4, 1)[1:], strict=True))


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
