"""How a head is turned, from the five landmarks of its face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Where the base of the nose is from the middle between the eyes, in distances of the eyes: below it, and towards the camera.
NOSE_BELOW = 0.80  # the median of LFW's validation people, which is taken to be a level head
NOSE_BEFORE = 0.45  # about that of an adult


@dataclass(frozen=True)
class HeadPose:
    """Angles in degrees. yaw: above 0 where the nose points to the right of the image. pitch: above 0 where the chin is up.

    roll: above 0 where the head is turned clockwise in the image.
    """

    yaw: float
    pitch: float
    roll: float

    def distance(self, other: HeadPose) -> float:
        """How differently two heads are turned away from the camera, in degrees. Roll turns only the picture."""
        return float(np.hypot(self.yaw - other.yaw, self.pitch - other.pitch))


def head_pose(landmarks: npt.NDArray[np.float64]) -> HeadPose:
    """The pose of a face of five landmarks (5, 2), as `Face` has them.

    Three points, the eyes and the base of the nose, seen without perspective: a head turned by yaw, then by pitch, has the nose
    at NOSE_BEFORE tan(yaw) beside the middle of the eyes, and at (NOSE_BELOW cos(pitch) - NOSE_BEFORE cos(yaw) sin(pitch)) /
    cos(yaw) below it, in distances of the eyes as they appear. Both are solved for the angles. Of a head turned in both ways
    the line of the eyes is taken for its roll: both are up to nine degrees off at 25 and 15. Proportions are taken to be
    everybody's: differences between photos of one person are more certain than the angles themselves.
    """
    # The eyes' middles span the frame of the face.
    right, left = landmarks[0:2].mean(0), landmarks[2:4].mean(0)  # in the image
    across = right - left
    distance = max(float(np.hypot(*across)), 1e-6)
    x_axis = across / distance
    beside, below = ((landmarks[4] - (left + right) / 2) @ np.array([x_axis, (-x_axis[1], x_axis[0])]).T / distance).tolist()

    # Beside: yaw alone. Below: a cosine, shifted by the angle at which the nose stands out.
    yaw = np.arctan(beside / NOSE_BEFORE)
    before = NOSE_BEFORE * np.cos(yaw)
    turned = np.arccos(np.clip(below * np.cos(yaw) / np.hypot(NOSE_BELOW, before), -1, 1))
    pitch = turned - np.arctan2(before, NOSE_BELOW)
    return HeadPose(*(float(np.degrees(angle)) for angle in (yaw, pitch, np.arctan2(x_axis[1], x_axis[0]))))
