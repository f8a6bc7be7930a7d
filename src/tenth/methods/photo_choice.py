"""Which of a person's photos a model takes as context: of one person, near to all of them together, sharp, differently posed.

Of k photos S out of K the choice is the largest of

    cos(mean of S, consensus of all) + SHARPNESS mean of min(0, log(sharpness / ENOUGH_SHARPNESS))
                                     + POSE mean over pairs in S of min(1, angle / FULL_TURN)

with embeddings of the faces, and angles between their poses. What it is worth was measured: benchmarks/context_photos.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch

from tenth.core.types import Photo
from tenth.data.faces.descriptors import FaceDescriptor
from tenth.data.faces.detection import crop_face, sharpness
from tenth.data.faces.head_pose import head_pose
from tenth.data.faces.majority_person import find_majority_person
from tenth.data.photo_folder import SAME_PERSON
from tenth.models.aggregators.pooling import consensus_weights
from tenth.models.pocket.loader import read_statistics
from tenth.models.pocket.paths import MODEL_DIR, STATISTICS_PATH

SHARPNESS, POSE = 0.02, 0.03  # 0.06 and more of pose: further from the held-out photos
ENOUGH_SHARPNESS = 160.0  # the median of LFW's photos: beyond it a sharper photo is no better
FULL_TURN = 40.0  # degrees between two poses, beyond which they differ no more
MAX_SUBSETS = 20_000  # that are compared one by one: any 4 of 27. Of more photos the best swap is taken until none is left

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FaceFeatures:
    """What photos are chosen by. descriptors: dlib's (K, 128). sharpness: (K,), of detection.py. poses: (K, 2), yaw, pitch."""

    descriptors: Array
    sharpness: Array
    poses: Array

    @classmethod
    def of(cls, photos: Sequence[Photo], descriptor: FaceDescriptor) -> FaceFeatures:
        """Of photos in which a face is located."""
        faces = [(photo, photo.face) for photo in photos if photo.face is not None]
        poses = [head_pose(face.landmarks) for _, face in faces]
        return cls(
            np.array([descriptor(photo) for photo, _ in faces], np.float64).reshape(-1, 128),
            np.array([sharpness(crop_face(photo.pixels, face)) for photo, face in faces], np.float64),
            np.array([(pose.yaw, pose.pitch) for pose in poses], np.float64).reshape(-1, 2),
        )

    def rows(self, indices: Sequence[int]) -> FaceFeatures:
        """Those of some of the photos."""
        some = list(indices)
        return FaceFeatures(self.descriptors[some], self.sharpness[some], self.poses[some])


@dataclass(frozen=True, eq=False)
class PhotoChoice:
    """indices: of the photos that are taken, the most typical first. left_out: why each other one is not, by its index."""

    indices: tuple[int, ...]
    left_out: Mapping[int, str] = field(default_factory=dict)


class Objective:
    """How well some of K photos stand for the person. weights: (K,), above 0, how much each counts in the consensus."""

    def __init__(self, features: FaceFeatures, weights: Array) -> None:
        centered = features.descriptors - read_statistics(MODEL_DIR / STATISTICS_PATH)[0].double().numpy()
        embeddings = centered / np.linalg.norm(centered, axis=1, keepdims=True)  # (K, 128)
        consensus = consensus_weights(torch.from_numpy(embeddings), torch.from_numpy(weights)).numpy() @ embeddings
        self.agreement: Array = embeddings @ consensus / np.linalg.norm(consensus)  # (K,), cosines
        self.products: Array = embeddings @ embeddings.T  # (K, K)
        self.quality: Array = np.minimum(0, np.log(np.maximum(features.sharpness, 1e-3) / ENOUGH_SHARPNESS))
        between = np.linalg.norm(features.poses[:, None] - features.poses[None], axis=2)
        self.turns: Array = np.minimum(1, between / FULL_TURN)  # (K, K)

    def __call__(self, subsets: npt.NDArray[np.intp]) -> Array:
        """N subsets of k photos by index, (N, k) -> (N,), larger is better."""
        count = subsets.shape[1]
        rows, columns = subsets[:, :, None], subsets[:, None, :]
        length = np.sqrt(self.products[rows, columns].mean((1, 2)))  # of the mean embedding
        near = self.agreement[subsets].mean(1) / np.maximum(length, 1e-9)
        turns = self.turns[rows, columns].sum((1, 2)) / max(1, count * (count - 1))
        result: Array = near + SHARPNESS * self.quality[subsets].mean(1) + POSE * turns
        return result

    def best(self, fixed: Sequence[int], among: Sequence[int], count: int) -> list[int]:
        """The best `count` of the photos `among` beside those that are fixed: of all subsets, or of many photos by swaps."""
        if math.comb(len(among), count) <= MAX_SUBSETS:
            subsets = np.array([[*fixed, *some] for some in combinations(among, count)], np.intp)
            return [int(index) for index in subsets[np.argmax(self(subsets)), len(fixed) :]]

        # One after the other, then the best swap as long as it helps.
        chosen: list[int] = []
        while len(chosen) < count:
            rest = [index for index in among if index not in chosen]
            chosen.append(rest[int(np.argmax(self(np.array([[*fixed, *chosen, index] for index in rest], np.intp))))])
        best = float(self(np.array([[*fixed, *chosen]], np.intp))[0])
        while True:
            rest = [index for index in among if index not in chosen]
            swaps = [[new if index == old else index for index in chosen] for old in chosen for new in rest]
            values = self(np.array([[*fixed, *swap] for swap in swaps], np.intp))
            if float(values.max()) <= best + 1e-12:
                return chosen
            chosen, best = swaps[int(values.argmax())], float(values.max())


def choose_photos(
    photos: Sequence[Photo], count: int, descriptor: FaceDescriptor, weights: Sequence[float] | None = None
) -> PhotoChoice:
    """At most `count` of the photos. The order in which they are given changes nothing, nor does a copy among them.

    descriptor: a photo with its face -> dlib's (128,). weights: (K,): 0 leaves a photo out, and a larger one is taken before a
    smaller; among equals a photo with a face before one without, and of faces the best subset. A face that is somebody else's
    than in most photos is left out.
    """
    given = [1.0] * len(photos) if weights is None else list(weights)
    left_out: dict[int, str] = {}

    # Those that count, each once, in an order of their own.
    usable: list[int] = []
    for index in sorted(range(len(photos)), key=lambda index: (photos[index].digest, -given[index])):
        if given[index] == 0:
            left_out[index] = "its weight is 0"
        elif usable and photos[usable[-1]].digest == photos[index].digest:
            left_out[index] = "it is a copy of another one"
        else:
            usable.append(index)

    # Faces of the person.
    faces = [index for index in usable if photos[index].face is not None]
    features = FaceFeatures.of([photos[index] for index in faces], descriptor)
    majority = find_majority_person([row[None] for row in features.descriptors], SAME_PERSON) if len(faces) > 1 else None
    own = [row for row in range(len(faces)) if majority is None or majority.face_indices[row] is not None]
    left_out |= {faces[row]: "its face seems to be somebody else's" for row in range(len(faces)) if row not in own}
    faces = [faces[row] for row in own]
    objective = Objective(features.rows(own), np.array([given[index] for index in faces])) if faces else None
    position = {index: row for row, index in enumerate(faces)}

    # From the largest weight down: a group that does not fit is chosen from.
    rank = {index: (-given[index], index not in position) for index in usable if index not in left_out}
    chosen: list[int] = []
    for value in sorted(set(rank.values())):
        group, room = [index for index in rank if rank[index] == value], count - len(chosen)
        if 0 < room < len(group) and objective is not None and group[0] in position:
            fixed = [position[index] for index in chosen if index in position]
            best = objective.best(fixed, [position[index] for index in group], room)
            group = [faces[row] for row in best]
        chosen += group[:room]
    others = "others show the person better, or differently"
    left_out |= {index: others if index in position else "it has no face located" for index in rank if index not in chosen}

    def typical(index: int) -> tuple[float, float]:
        return -given[index], -float(objective.agreement[position[index]]) if objective and index in position else 2.0

    return PhotoChoice(tuple(sorted(chosen, key=typical)), dict(sorted(left_out.items())))
