"""The roofline counts launches as torch makes them, and its text is what the formulas say."""

import pytest

from bench import roofline, roofline_paper, workloads
from bench.contenders import ADAM, SGD_, Family

# Sizes, family, launches, and why.
LAUNCHES = [
    ([(4096, 4096)], ADAM, 1, "256 chunks"),
    ([(4096, 5120)], ADAM, 1, "exactly 320 chunks"),
    ([(4096, 5121)], ADAM, 2, "one chunk more"),
    ([(4096, 5121)] + [(16, 16)] * 35, ADAM, 2, "the split tensor and 35 fill the second"),
    ([(4096, 5121)] + [(16, 16)] * 36, ADAM, 3, "the split tensor takes a place there as well"),
    ([(16, 16)] * 36, ADAM, 1, "exactly 36 tensors"),
    ([(16, 16)] * 37, ADAM, 2, "one tensor more"),
    ([(16, 16)] * 48, SGD_, 1, "SGD has one state less, so room for more tensors"),
    ([(16, 16)] * 1000, ADAM, 28, "1000 / 36"),
]


@pytest.mark.parametrize(
    ("shapes", "family", "launches"), [c[:3] for c in LAUNCHES], ids=[c[3] for c in LAUNCHES]
)
def test_launches_of_the_anchor(
    shapes: list[tuple[int, ...]], family: Family, launches: int
) -> None:
    """The roofline counts torch's launches as its source divides the work."""
    weights = tuple(workloads.Weight(shape) for shape in shapes)
    assert roofline.step_launches(workloads.Workload("", "", "", weights), family) == launches


def test_roofline_paper_is_up_to_date() -> None:
    """The committed text is what the formulas say."""
    assert roofline_paper.PAPER.read_text(encoding="utf-8") == roofline_paper.paper()
