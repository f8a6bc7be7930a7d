"""The pose of a head, from landmarks that a known rotation puts where they are."""

from __future__ import annotations

import numpy as np
import pytest

from tenth.data.faces.head_pose import NOSE_BEFORE, NOSE_BELOW, HeadPose, head_pose

# Right eye in the image, outer and inner corner; left eye; base of the nose. x to the right, y down, z towards the camera.
HEAD = np.array([(0.75, 0, 0), (0.25, 0, 0), (-0.75, 0, 0), (-0.25, 0, 0), (0, NOSE_BELOW, NOSE_BEFORE)])


def seen(yaw: float, pitch: float, roll: float = 0.0) -> np.ndarray:
    """Landmarks (5, 2) of a head turned by these degrees, seen from far away, 60 pixels between the eyes at (200, 100)."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return (HEAD @ (about_z @ about_x @ about_y).T)[:, :2] * 60 + (200, 100)


@pytest.mark.parametrize("yaw", [-40, -15, 0, 15, 40])
@pytest.mark.parametrize("roll", [-20, 0, 30])
def test_yaw_and_roll_of_a_level_head_are_exact(yaw: float, roll: float) -> None:
    pose = head_pose(seen(yaw, 0, roll))
    assert (pose.yaw, pose.pitch, pose.roll) == pytest.approx((yaw, 0, roll), abs=1e-6)


@pytest.mark.parametrize("pitch", [-20, -10, 10, 25])
def test_pitch_of_a_head_that_looks_ahead_is_exact(pitch: float) -> None:
    pose = head_pose(seen(0, pitch))
    assert (pose.yaw, pose.pitch, pose.roll) == pytest.approx((0, pitch, 0), abs=1e-6)


def test_both_together_are_told_within_some_degrees() -> None:
    pose = head_pose(seen(25, 15))
    assert pose.yaw == pytest.approx(25, abs=9)
    assert pose.pitch == pytest.approx(15, abs=9)


def test_a_mirrored_photo_is_turned_the_other_way() -> None:
    landmarks = seen(20, 5, 10)
    mirrored = (landmarks * (-1, 1) + (400, 0))[[2, 3, 0, 1, 4]]
    one, other = head_pose(landmarks), head_pose(mirrored)
    assert (one.yaw, one.pitch, one.roll) == pytest.approx((-other.yaw, other.pitch, -other.roll), abs=1e-6)


def test_roll_is_no_distance_and_equal_points_are_no_fault() -> None:
    assert HeadPose(3, 4, 50).distance(HeadPose(0, 0, 0)) == 5
    assert np.isfinite(head_pose(np.ones((5, 2))).yaw)
