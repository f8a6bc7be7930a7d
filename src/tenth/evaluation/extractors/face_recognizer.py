"""Face embeddings by a recognizer that no method is conditioned on: (N, D), NaN where no face is found."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from tenth.core.errors import DataError, ModelError
from tenth.core.types import Face, FeatureArray, Photo, Pixels
from tenth.data.faces.descriptors import encoder_name, face_descriptor
from tenth.data.faces.detection import Detector, find_faces
from tenth.evaluation.extractors.recognizer_config import (
    HELP,
    DetectorConfig,
    RecognizerConfig,
    read_model,
    read_recognizer_config,
)
from tenth.models.pocket.loader import read_statistics
from tenth.models.pocket.paths import MODEL_DIR, STATISTICS_PATH

BATCH_IMAGES = 16  # crops per run of the network


class FaceEmbedder(Protocol):
    """Images (H, W, 3) -> (N, D) float64 embeddings of length 1, NaN where no face is found. name: "name@digest".

    threshold: the least cosine of two faces accepted as one person; None: unknown. licence: of the weights, "" for our own.
    """

    name: str
    feature_dim: int
    threshold: float | None
    licence: str

    def __call__(self, pixels: Sequence[Pixels]) -> FeatureArray: ...


def load_recognizer(path: Path) -> OnnxFaceRecognizer:
    """The recognizer that a TOML file describes (recognizer_config.py).

    Raises ModelError if the file is invalid, a model is missing or another one, or `tenth[recognizer]` is not installed.
    """
    settings = read_recognizer_config(path)
    return OnnxFaceRecognizer(settings, detector=load_detector(settings.detector))


def load_detector(settings: DetectorConfig) -> Detector:
    """YuNet from its verified file, or dlib's detector. Raises ModelError as load_recognizer does."""
    return find_faces if settings.type == "dlib" else YuNet(settings)


class OnnxFaceRecognizer:
    """A face recognizer in an ONNX file: find the largest face, align it by five points, embed it and its mirror image.

    Raises ModelError if the file is not the one described, or does not map (N, 3, height, width) to (N, D).
    """

    def __init__(self, settings: RecognizerConfig, *, detector: Detector) -> None:
        self.settings, self.detector = settings, detector
        self.name = f"{settings.name}@{settings.digest}"
        self.threshold, self.licence = settings.accept_threshold, settings.licence
        self._session = _load_session(settings)
        (entry, *more), (leaving, *others) = self._session.get_inputs(), self._session.get_outputs()
        if (more and not settings.input) or (others and not settings.output):
            raise _model_mismatch(settings, "it has several inputs or outputs")
        self._input, self._output = settings.input or entry.name, settings.output or leaving.name
        self._one_at_a_time = entry.shape[:1] == [1]  # as some files say
        width, height = settings.size
        self.feature_dim = self._embed(np.zeros((1, height, width, 3), np.uint8)).shape[1]

    def __call__(self, pixels: Sequence[Pixels]) -> FeatureArray:
        """N images (H, W, 3) uint8 RGB of any sizes -> (N, D) embeddings of length 1. Raises DataError for another array."""
        return l2_normalize(self.outputs(pixels))

    def outputs(self, pixels: Sequence[Pixels]) -> FeatureArray:
        """The same rows as the network gives them, of any length."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # detection, and a batch, for each core
            crops = list(pool.map(self.crop, pixels))
            detected = [(place, crop) for place, crop in enumerate(crops) if crop is not None]
            size = 1 if self._one_at_a_time else BATCH_IMAGES  # whatever the number of threads: the same rows
            batches = [detected[start : start + size] for start in range(0, len(detected), size)]
            embedded = pool.map(self._embed, [np.stack([crop for _, crop in batch]) for batch in batches])
            rows = np.full((len(crops), self.feature_dim), np.nan)  # (N, D)
            for batch, found in zip(batches, embedded, strict=True):
                rows[[place for place, _ in batch]] = found
        return rows

    def crop(self, pixels: Pixels) -> Pixels | None:
        """The largest face, aligned as the network expects it, (height, width, 3) RGB, or None."""
        cv2, side, pixels = import_optional("cv2"), self.settings.upsize_to, validate_image(pixels)
        if min(pixels.shape[:2]) < self.settings.upsize_below:
            pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC)
        border = round(self.settings.border * pixels.shape[0])
        framed = np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="edge")
        faces = self.detector(framed)
        return align(framed, faces[0].landmarks, self.settings) if faces else None

    def _embed(self, crops: Pixels) -> FeatureArray:
        ordered = crops if self.settings.order == "RGB" else crops[..., ::-1]
        batch = ((ordered.astype(np.float32) - self.settings.mean) / self.settings.scale).transpose(0, 3, 1, 2)  # (N, 3, H, W)
        views = [batch, batch[..., ::-1]] if self.settings.flip else [batch]
        return np.concatenate([self._run(side) for side in views], axis=1)  # (N, D)

    def _run(self, batch: npt.NDArray[np.float32]) -> FeatureArray:
        feed = {self._input: np.ascontiguousarray(batch, np.float32)}
        try:
            output = np.asarray(self._session.run([self._output], feed)[0], np.float64)
        except Exception as error:  # onnxruntime raises its own types, one per status code
            raise _model_mismatch(self.settings, str(error).splitlines()[0]) from error
        if output.ndim != 2 or len(output) != len(batch):
            raise _model_mismatch(self.settings, f"it gave {output.shape} for {batch.shape}")
        return output


class YuNet:
    """OpenCV's YuNet: largest face first; two eyes, nose and two mouth corners, each pair from left to right in the image.

    Source: Wu et al. 2023, "YuNet: a tiny millisecond-level face detector", doi:10.1007/s11633-023-1423-y.
    """

    def __init__(self, settings: DetectorConfig) -> None:
        self.settings = settings
        self._content = np.frombuffer(read_model(Path(settings.model), settings.sha256), np.uint8)
        self._of_thread = threading.local()  # a network holds the size of the image that it searches
        self._thread_network()

    def _thread_network(self) -> Any:
        if not hasattr(self._of_thread, "network"):
            cv2, nothing = import_optional("cv2"), np.empty(0, np.uint8)
            try:
                with _quiet(cv2):
                    self._of_thread.network = cv2.FaceDetectorYN.create(
                        "onnx", self._content, nothing, (320, 320), self.settings.threshold
                    )
            except cv2.error as error:
                found = f"{self.settings.model} does not open ({error})"
                raise ModelError(found, "YuNet's ONNX file is needed", "Correct `model`") from error
        return self._of_thread.network

    def __call__(self, pixels: Pixels) -> list[Face]:
        network = self._thread_network()
        network.setInputSize((pixels.shape[1], pixels.shape[0]))
        _, found = network.detect(np.ascontiguousarray(pixels[..., ::-1]))  # (F, 15): box, five points, score
        rows = [] if found is None else sorted(found.astype(np.float64), key=lambda row: -float(row[2] * row[3]))
        corners = [(left, top, left + width, top + height) for left, top, width, height in (row[:4] for row in rows)]
        boxes = [(round(x1), round(y1), round(x2), round(y2)) for x1, y1, x2, y2 in corners]
        return [Face(box, row[4:14].reshape(5, 2)) for box, row in zip(boxes, rows, strict=True)]


class DlibRecognizer:
    """dlib's descriptors, centered and of length 1, as the pocket model's own encoder gives them: for model selection only.

    center: (128,), the mean descriptor of training people; without it impostors' cosines are near 0.9.
    """

    feature_dim = 128
    threshold: float | None = None
    licence = ""

    def __init__(self, center: FeatureArray) -> None:
        if center.shape != (self.feature_dim,):
            found = f"a centre of shape {center.shape}"
            raise DataError(found, f"({self.feature_dim},) is needed", "Average descriptors over people")
        digest = hashlib.sha256(encoder_name().encode() + np.ascontiguousarray(center, np.float64).tobytes()).hexdigest()
        self.center, self.name = center, f"dlib-resnet-centred@{digest[:16]}"

    def __call__(self, pixels: Sequence[Pixels]) -> FeatureArray:
        rows = np.full((len(pixels), self.feature_dim), np.nan)  # (N, 128)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # the detector holds no lock of Python's, the descriptor does
            found = list(pool.map(lambda image: find_faces(validate_image(image)), pixels))
        for row, (image, faces) in enumerate(zip(pixels, found, strict=True)):
            if faces:
                rows[row] = face_descriptor(Photo(image, "", face=faces[0])) - self.center
        return l2_normalize(rows)


def dlib_recognizer() -> DlibRecognizer:
    """dlib's, around the pocket model's centre: what compares folders where no recognizer is given."""
    return DlibRecognizer(read_statistics(MODEL_DIR / STATISTICS_PATH)[0].double().numpy())


def similarity_transform(source: FeatureArray, target: FeatureArray) -> FeatureArray:
    """The (2, 3) matrix that rotates, scales and translates points (P, 2) onto others with the least squared distance.

    Source: Umeyama 1991, doi:10.1109/34.88573, eqs. 38-43. Raises DataError if all source points are equal.
    """
    source_centered, target_centered = source - source.mean(0), target - target.mean(0)
    variance = (source_centered**2).sum() / len(source)
    if variance == 0:
        raise DataError("all landmarks are one point", "at least two different ones are needed", "Check the detector")
    left, values, right = np.linalg.svd(target_centered.T @ source_centered / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])  # never a mirror image
    rotation = (values * signs).sum() / variance * (left * signs) @ right  # (2, 2)
    return np.column_stack([rotation, target.mean(0) - rotation @ source.mean(0)])


def align(pixels: Pixels, landmarks: FeatureArray, settings: RecognizerConfig) -> Pixels:
    """The face at the template's position, bilinear: (height, width, 3). landmarks: (5, 2) pixels, in the template's order."""
    cv2 = import_optional("cv2")
    matrix = similarity_transform(landmarks, np.array(settings.template))
    return np.asarray(cv2.warpAffine(pixels, matrix, settings.size, flags=cv2.INTER_LINEAR), np.uint8)


def l2_normalize(rows: FeatureArray) -> FeatureArray:
    """Rows (N, D) scaled to length 1; NaN rows stay NaN."""
    lengths: FeatureArray = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / lengths


def validate_image(pixels: Pixels) -> Pixels:
    """The same array. Raises DataError if it is not (H, W, 3) uint8."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
        raise DataError(f"an image of shape {pixels.shape}, {pixels.dtype}", "(H, W, 3) uint8 RGB is needed", "Convert it")
    return pixels


def import_optional(module: str) -> Any:
    """A module of the extra `recognizer`. Raises ModelError if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ModelError(
            f"{module} is not installed", "the recognizer needs it", "Run `pip install 'tenth[recognizer]'`"
        ) from error


@contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
    """Without OpenCV's warning, each time, that its newer engine runs only on the CPU; errors are raised."""
    logging = cv2.utils.logging
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


def _load_session(settings: RecognizerConfig) -> Any:
    content, onnxruntime = read_model(Path(settings.model), settings.sha256), import_optional("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the same rows on any number of cores; aligning takes longer than embedding
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own types, one per status code
        raise _model_mismatch(settings, str(error).splitlines()[0]) from error


def _model_mismatch(settings: RecognizerConfig, problem: str) -> ModelError:
    width, height = settings.size
    needed = f"({settings.input}: N, 3, {height}, {width}) -> ({settings.output}: N, D) is what its TOML file says"
    return ModelError(
        f"{settings.model} does not fit: {problem}", needed, f"Correct input, output or size, or the file; {HELP}"
    )
