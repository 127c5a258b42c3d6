"""The names that the packages promise are there."""

from __future__ import annotations

from types import ModuleType

import pytest

import flavr
import flavr_export


@pytest.mark.parametrize("package", [flavr, flavr_export])
def test_every_public_name_can_be_imported(package: ModuleType) -> None:
    assert sorted(package.__all__) == sorted(package._HOMES)
    for name in package.__all__:
        value = getattr(package, name)
        assert getattr(value, "__name__", name) == name


@pytest.mark.parametrize("package", [flavr, flavr_export])
def test_a_name_that_is_not_there_is_named(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        _ = package.nothing
