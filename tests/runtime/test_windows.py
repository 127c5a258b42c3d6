from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flavr_runtime.errors import UsageError
from flavr_runtime.windows import plan_stages, windows


@given(st.integers(0, 30))
def test_every_interval_has_its_window_with_end_frames_repeated(count: int) -> None:
    found = list(windows(range(count)))
    last = count - 1
    assert found == [(max(i - 1, 0), i, i + 1, min(i + 2, last)) for i in range(count - 1)]


def test_windows_pull_no_further_ahead_than_they_need() -> None:
    pulled = []

    def frames() -> object:
        for i in range(10):
            pulled.append(i)
            yield i

    stream = windows(frames())  # type: ignore[var-annotated, arg-type]
    next(stream)
    assert pulled == [0, 1, 2]


@pytest.mark.parametrize(
    ("factor", "native", "stages"),
    [(1, 2, ()), (2, 2, (2,)), (4, 2, (2, 2)), (8, 2, (2, 2, 2)), (2, 4, (2,)), (8, 4, (4, 2)), (8, 8, (8,)),
     (4, 8, (4,)), (16, 8, (8, 2)), (3, 3, (3,)), (9, 3, (3, 3)), (3, 6, (3,)),
     (12, 6, (6, 2)), (5, 5, (5,))],
)  # fmt: skip
def test_the_fewest_passes_are_planned(factor: int, native: int, stages: tuple[int, ...]) -> None:
    assert sorted(plan_stages(factor, native)) == sorted(stages)


@given(st.integers(2, 8), st.integers(2, 64))
def test_a_plan_makes_the_factor_asked_for_or_is_refused(native: int, factor: int) -> None:
    try:
        stages = plan_stages(factor, native)
    except UsageError:
        primes = {p for p in (2, 3, 5, 7) if native % p == 0}
        rest = factor
        for prime in primes:
            while rest % prime == 0:
                rest //= prime
        assert rest > 1  # truly impossible
    else:
        assert math.prod(stages) == factor
        assert all(native % stage == 0 for stage in stages)


def test_an_impossible_factor_names_the_possible_ones() -> None:
    with pytest.raises(UsageError, match=r"^factor 3 cannot be made by a 2x model; it makes 2, 4, 8, 16$"):
        plan_stages(3, 2)


@pytest.mark.parametrize("factor", [-1, 0, 65])
def test_a_factor_out_of_range_is_refused(factor: int) -> None:
    with pytest.raises(UsageError, match=rf"^factor {factor} is out of range: 1 to 64$"):
        plan_stages(factor, 2)
