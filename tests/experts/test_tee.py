import numpy as np
import pytest

from jaxrl.experts import tee


def test_the_outline_is_that_of_the_simulator():
    shapes = pytest.importorskip("gym_pusht.envs.pusht").PushTEnv()
    shapes.reset(seed=0)
    corners = {tuple(v) for shape in shapes._block_shapes for v in shape.get_vertices()}
    # Where bar and stem meet, both rectangles have corners, which the outline has once.
    assert {tuple(v) for v in tee.OUTLINE} == corners
    np.testing.assert_array_equal(tee.GOAL, shapes.goal_pose)


def test_errors_are_mean_distances_of_corners():
    moved = tee.GOAL + [3, 4, 0]
    turned = tee.GOAL + [0, 0, np.pi]
    expected = 2 * np.linalg.norm(tee.OUTLINE, axis=1).mean()
    found = tee.errors(np.stack([tee.GOAL, moved, turned]))
    np.testing.assert_allclose(found, [0, 5, expected], atol=1e-9)


def area_inside(point):
    """Whether a point is in the block at the origin."""
    x, y = point
    return (abs(x) < 60 and 0 < y < 30) or (abs(x) < 15 and 30 <= y < 120)


def test_pushes_begin_outside_and_go_in():
    start, direction = tee.pushes()
    np.testing.assert_allclose(np.linalg.norm(direction, axis=1), 1)
    contact = start + (tee.AGENT + tee.GAP) * direction
    assert not any(map(area_inside, contact - 0.5 * direction))
    assert all(map(area_inside, contact + 0.5 * direction))
    assert len({tuple(p) for p in contact.round(3)}) == len(contact) // len(tee.LEANS)


def test_pushes_go_with_the_block():
    pose = np.array([100, 50, np.pi / 2])
    here, there = tee.pushes(), tee.pushes().at(pose)
    x, y = here.start.T
    np.testing.assert_allclose(there.start, np.stack([100 - y, 50 + x], 1))
    np.testing.assert_allclose(there.direction[:, 0], -here.direction[:, 1], atol=1e-9)


def test_corners_around_are_at_a_distance_from_both_edges():
    gap = tee.AGENT + tee.GAP
    expected = tee.OUTLINE + gap * np.array(
        [(-1, -1), (1, -1), (1, 1), (1, 1), (1, 1), (-1, 1), (-1, 1), (-1, 1)]
    )
    np.testing.assert_allclose(tee.around(), expected, atol=1e-9)


def wall(a, b):
    """Free but for a wall on x = 100 from y = 50 to y = 200."""
    if (a[0] - 100) * (b[0] - 100) >= 0:
        return True
    y = a[1] + (b[1] - a[1]) * (100 - a[0]) / (b[0] - a[0])
    return not 50 < y < 200


CORNERS = np.array([[100.0, 210], [100, 40], [100, 2], [400, 400]])


def test_routes_are_the_shortest_that_are_free():
    start, end = np.array([50.0, 100]), np.array([150.0, 100])
    found = tee.route(start, end, CORNERS, wall)
    np.testing.assert_array_equal(found, [start, [100, 40], end])
    np.testing.assert_array_equal(tee.route(start, end, CORNERS, lambda a, b: True), [start, end])


def test_routes_stay_in_the_arena_and_are_straight_where_there_is_none():
    start, end = np.array([50.0, 100]), np.array([150.0, 100])
    found = tee.route(start, end, CORNERS[2:3], wall)
    np.testing.assert_array_equal(found, [start, end])


def test_paces_are_even_and_reach_the_end():
    way = np.array([[0.0, 0], [30, 0], [30, 15]])
    np.testing.assert_allclose(tee.paced(way, 15), [[15, 0], [30, 0], [30, 15]])
    assert len(tee.paced(way, 14)) == 4
    np.testing.assert_array_equal(tee.paced(way[:1].repeat(2, 0), 5), way[:1])
