"""A recognizer by a tiny ONNX network whose embedding is known: the mean of each quadrant of a crop."""

import hashlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tenth.core.errors import DataError, ModelError
from tenth.core.types import Face
from tenth.evaluation.extractors import face_recognizer as module
from tenth.evaluation.extractors.face_recognizer import (
    DlibRecognizer,
    OnnxFaceRecognizer,
    load_detector,
    load_recognizer,
    similarity_transform,
)
from tenth.evaluation.extractors.recognizer_config import DetectorConfig, read_recognizer_config
from toy_onnx import POINTS, quadrants


def write(folder: Path, change=("", ""), content: bytes | None = None) -> Path:
    """A described recognizer; `change` replaces one text of the TOML file by another."""
    network = quadrants() if content is None else content
    (folder / "tiny.onnx").write_bytes(network)
    text = f"""
name = "tiny"
model = "tiny.onnx"
sha256 = "{hashlib.sha256(network).hexdigest()}"
input = "face"
output = "embedding"
size = [16, 16]
order = "RGB"
mean = 0
scale = 1.0
template = {POINTS}
flip = false
border = 0

[detector]
type = "dlib"
"""
    assert change[0] in text
    (folder / "tiny.toml").write_text(text.replace(*change))
    return folder / "tiny.toml"


def tiny(folder: Path, change=("", ""), offset=(0, 0), faces=1) -> OnnxFaceRecognizer:
    """With a detector that sees `faces` faces, its points the template's moved by `offset` (x, y), and remembers the shape."""
    settings = read_recognizer_config(write(folder, change))

    def detector(pixels):
        detector.saw = pixels.shape
        return [Face((0, 0, 16, 16), np.array(POINTS) + offset)] * faces * int(pixels.max() > 0)

    return OnnxFaceRecognizer(settings, detector=detector)


def picture(seed=0, height=40, width=40):
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8)


def means(crop):
    """Quadrant means in the network's order: channel, then row, then column."""
    return crop.astype(float).reshape(2, 8, 2, 8, 3).mean((1, 3)).transpose(2, 0, 1).ravel()


def unit(vector):
    return vector / np.linalg.norm(vector)


def test_row_is_the_unit_embedding_of_the_face_where_the_detector_saw_it(tmp_path):
    pixels = picture()
    rows = tiny(tmp_path, offset=(4, 6))([pixels])
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows, [unit(means(pixels[6:22, 4:20]))], atol=1e-6)  # float32 in the network


def test_flip_puts_the_mirror_image_beside_it(tmp_path):
    crop = picture()[:16, :16]
    rows = tiny(tmp_path, ("flip = false", "flip = true"))([picture()])
    np.testing.assert_allclose(rows, [unit(np.concatenate([means(crop), means(crop[:, ::-1])]))], atol=1e-6)


def test_mean_scale_and_order_are_the_described_ones(tmp_path):
    changed = tiny(tmp_path, ('order = "RGB"\nmean = 0\nscale = 1.0', 'order = "BGR"\nmean = 100\nscale = 50'))
    np.testing.assert_allclose(changed([picture()]), [unit((means(picture()[:16, :16, ::-1]) - 100) / 50)], atol=1e-6)


def test_no_face_is_a_nan_row_and_moves_no_other(tmp_path):
    recognizer = tiny(tmp_path)
    rows = recognizer([picture(1), np.zeros((20, 20, 3), np.uint8), picture(2, 30, 50)])
    assert np.isnan(rows[1]).all()
    np.testing.assert_array_equal(rows[[0, 2]], np.concatenate([recognizer([picture(1)]), recognizer([picture(2, 30, 50)])]))


def test_more_than_a_batch_is_the_same_as_one_by_one(tmp_path, monkeypatch):
    recognizer, pictures = tiny(tmp_path), [picture(seed) for seed in range(5)]
    alone = np.concatenate([recognizer([each]) for each in pictures])
    monkeypatch.setattr(module, "BATCH_IMAGES", 2)
    np.testing.assert_allclose(recognizer(pictures), alone, atol=1e-7)


def test_nothing_in_nothing_out(tmp_path):
    assert tiny(tmp_path)([]).shape == (0, 12)


def test_small_images_are_enlarged_and_every_image_gets_a_border(tmp_path):
    recognizer = tiny(tmp_path, ("border = 0", "border = 0.25\nupsize_below = 250\nupsize_to = 256"))
    recognizer([picture(0, 128, 128)])
    assert recognizer.detector.saw == (384, 384, 3)
    recognizer([picture(0, 260, 300)])
    assert recognizer.detector.saw == (390, 430, 3)


def test_the_border_repeats_the_edge(tmp_path):
    pixels = picture()
    rows = tiny(tmp_path, ("border = 0", "border = 0.1"))([pixels])  # the crop begins four pixels outside
    np.testing.assert_allclose(rows, [unit(means(np.pad(pixels, ((4, 0), (4, 0), (0, 0)), mode="edge")[:16, :16]))], atol=1e-6)


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_another_array_is_refused(tmp_path, bad):
    with pytest.raises(DataError, match="uint8 RGB is needed"):
        tiny(tmp_path)([bad])


def test_name_carries_the_models_digest(tmp_path):
    name = load_recognizer(write(tmp_path)).name
    assert re.fullmatch(r"tiny@[0-9a-f]{16}", name)
    (tmp_path / "elsewhere").mkdir()
    assert load_recognizer(write(tmp_path / "elsewhere")).name == name
    assert load_recognizer(write(tmp_path, ("border = 0", "border = 0.5"))).name != name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('order = "RGB"', 'oder = "RGB"'), "tiny.toml: 'oder' is not a key; known keys: name, model, sha256"),
        (('type = "dlib"', 'type = "dlib"\nscore = 1'), "'detector.score' is not a key; known keys: type, model"),
        (("mean = 0", ""), "'mean' is missing"),
        (("size = [16, 16]", "size = [16]"), "'size.1' is missing"),
        (("scale = 1.0", "scale = 0"), "scale is 0; needed: greater than or equal to 0.000001"),
        (("flip = false", "flip = 1"), "flip is 1; needed: a valid boolean"),
        (("[[4.0, 4.0], ", "["), "five"),
        (('type = "dlib"', 'type = "dlip"'), "detector.type is 'dlip'; needed: 'yunet' or 'dlib'"),
        (('type = "dlib"', 'type = "yunet"'), "type is 'yunet'; needed: model and sha256 beside 'yunet'"),
        (('type = "dlib"', 'type = "dlib"\nmodel = "a.onnx"'), "neither beside 'dlib'"),
        (("[detector]", "[detector"), "is not TOML"),
        (('"tiny.onnx"', '"gone.onnx"'), "gone.onnx does not exist"),
        (('sha256 = "', f'sha256 = "{"0" * 64}"  # '), f"names one with the sha256 {'0' * 64}"),
        (('"face"', '"photo"'), r"does not fit.*photo: N, 3, 16, 16"),
        (('"embedding"', '"row"'), "does not fit"),
        (("size = [16, 16]", "size = [24, 16]"), "does not fit.*3, 16, 24"),
    ],
)
def test_a_file_that_does_not_fit_says_what_does(tmp_path, change, message):
    with pytest.raises(ModelError, match=message):
        load_recognizer(write(tmp_path, change))


def test_a_missing_file_and_a_foreign_model_are_model_errors(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        load_recognizer(tmp_path / "gone.toml")
    with pytest.raises(ModelError, match="does not fit"):
        load_recognizer(write(tmp_path, content=b"no network"))


@pytest.mark.parametrize(
    ("absent", "change"), [("onnxruntime", ("", "")), ("cv2", ("border = 0", "border = 0\nupsize_below = 250"))]
)
def test_a_missing_extra_says_how_to_install_it(tmp_path, monkeypatch, absent, change):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(ModelError, match=rf"{absent} is not installed.*pip install 'tenth\[recognizer\]'"):
        tiny(tmp_path, change)([picture()])


def test_similarity_transform_finds_the_turn_scale_and_move():
    angle, points = 0.3, np.array(POINTS)
    turn = 1.7 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = similarity_transform(points, points @ turn.T + [5, -2])
    np.testing.assert_allclose(found, np.column_stack([turn, [5, -2]]), atol=1e-12)


def test_similarity_transform_is_the_least_squares_one_and_never_a_mirror_image():
    points, aim = np.array(POINTS), np.array(POINTS) * [-1, 1] + [16, 0]
    matrix = similarity_transform(points, aim)
    assert np.linalg.det(matrix[:, :2]) > 0

    def distance(change):
        scale_cos, scale_sin, x, y = np.array([matrix[0, 0], matrix[1, 0], matrix[0, 2], matrix[1, 2]]) + change
        return ((points @ np.array([[scale_cos, -scale_sin], [scale_sin, scale_cos]]).T + [x, y] - aim) ** 2).sum()

    steps = 1e-3 * np.concatenate([np.eye(4), -np.eye(4)])
    assert all(distance(step) > distance(np.zeros(4)) for step in steps)


def test_landmarks_in_one_point_are_refused():
    with pytest.raises(DataError, match="one point"):
        similarity_transform(np.ones((5, 2)), np.array(POINTS))


def test_yunet_gives_the_largest_face_first_and_reads_blue_green_red(tmp_path, monkeypatch):
    small, large = np.arange(15, dtype=np.float32), np.arange(15, dtype=np.float32) + 20
    seen = {}

    def detect(pixels):
        seen["pixels"] = pixels
        return 1, np.array([small, large])

    net = SimpleNamespace(setInputSize=lambda size: seen.update(size=size), detect=detect)
    log, before = cv2.utils.logging, cv2.utils.logging.getLogLevel()
    monkeypatch.setattr(cv2, "FaceDetectorYN", SimpleNamespace(create=lambda *_: seen.update(level=log.getLogLevel()) or net))
    (tmp_path / "yunet.onnx").write_bytes(b"any")
    detector = load_detector(DetectorConfig("yunet", str(tmp_path / "yunet.onnx"), hashlib.sha256(b"any").hexdigest()))
    assert (seen["level"], log.getLogLevel()) == (log.LOG_LEVEL_SILENT, before)  # it warns of nothing that is wrong
    first, second = detector(picture(0, 20, 30))
    assert first.box == (20, 21, 42, 44)  # left, top, left + width, top + height
    np.testing.assert_array_equal(first.landmarks, np.arange(24, 34).reshape(5, 2))
    assert second.box == (0, 1, 2, 4)
    assert seen["size"] == (30, 20)
    np.testing.assert_array_equal(seen["pixels"], picture(0, 20, 30)[..., ::-1])


def test_yunet_without_a_face_and_with_a_foreign_file(tmp_path, monkeypatch):
    (tmp_path / "yunet.onnx").write_bytes(b"any")
    settings = DetectorConfig("yunet", str(tmp_path / "yunet.onnx"), hashlib.sha256(b"any").hexdigest())
    with pytest.raises(ModelError, match="YuNet's ONNX file is needed"):
        load_detector(settings)
    net = SimpleNamespace(setInputSize=lambda _: None, detect=lambda _: (1, None))
    monkeypatch.setattr(cv2, "FaceDetectorYN", SimpleNamespace(create=lambda *_: net))
    assert load_detector(settings)(picture()) == []


def test_dlib_rows_are_centred_units_and_nan_without_a_face(monkeypatch):
    descriptor, centre = np.arange(128.0), np.full(128, 3.0)
    monkeypatch.setattr(module, "face_descriptor", lambda photo: descriptor)
    monkeypatch.setattr(module, "find_faces", lambda pixels: [Face((0, 0, 9, 9), np.array(POINTS))] * int(pixels.max() > 0))
    rows = DlibRecognizer(centre)([picture(), np.zeros((8, 8, 3), np.uint8)])
    np.testing.assert_allclose(rows[0], unit(descriptor - 3))
    assert np.isnan(rows[1]).all()


def test_dlib_sees_no_face_in_a_blank_image():
    assert np.isnan(DlibRecognizer(np.zeros(128))([np.full((64, 64, 3), 128, np.uint8)])).all()


def test_a_centre_of_another_width_is_refused():
    with pytest.raises(DataError, match=r"\(128,\) is needed"):
        DlibRecognizer(np.zeros(12))
