"""Rectangles and regions."""

from hypothesis import given
from hypothesis import strategies as st

from esxiproxy.sim.screen.region import MAX_RECTS, Rect, Region

small = st.integers(0, 12)
rects = st.builds(Rect, small, small, st.integers(1, 8), st.integers(1, 8))


def cells(*some: Rect) -> list[tuple[int, int]]:
    return sorted((x, y) for r in some for x in range(r.x, r.right) for y in range(r.y, r.bottom))


@given(rects, rects)
def test_a_cut_leaves_exactly_the_cells_outside(one: Rect, other: Rect) -> None:
    """The pieces do not overlap, and they are the difference."""
    assert cells(*one.without(other)) == sorted(set(cells(one)) - set(cells(other)))


@given(st.lists(rects, max_size=6), rects)
def test_a_region_gives_each_cell_once(some: list[Rect], window: Rect) -> None:
    """The cells that were added inside the window are taken, and the others stay."""
    region = Region()
    for rect in some:
        region.add(rect)
    everything = {cell for rect in some for cell in cells(rect)}
    assert cells(*region.take(window)) == sorted(everything & set(cells(window)))
    assert cells(*region) == sorted(everything - set(cells(window)))


def test_a_region_is_bounded() -> None:
    """Many scattered rectangles become their bounding box."""
    region = Region()
    for place in range(10 * MAX_RECTS):
        region.add(Rect(2 * place, 0, 1, 1))
        assert len(list(region)) <= MAX_RECTS
    region.add(Rect(0, 0, 0, 5))
    assert min(rect.x for rect in region) == 0
