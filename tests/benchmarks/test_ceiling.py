"""The machine's ceiling, and how much arithmetic a network is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flavr_benchmarks import ceiling
from flavr_benchmarks.flops import gflop, useful_gflop
from flavr_benchmarks.variants import NetworkFacts


def facts(arch: str, width: int) -> NetworkFacts:
    return NetworkFacts("net", arch, width, "")


def test_the_best_matrix_product_is_measured_in_another_process() -> None:
    found = ceiling.measure("cpu", 1, seconds=0.02)
    assert found.keys() == ceiling.METHODS.keys()
    fp32 = found["fp32"]
    assert isinstance(fp32, float)
    assert 1 < fp32 < 100_000


@pytest.mark.skipif(torch.cuda.is_available(), reason="this PyTorch has a GPU")
def test_a_gpu_that_pytorch_cannot_use_has_no_ceiling_rather_than_the_cpus() -> None:
    found = ceiling.measure("cuda", 1, seconds=0.02)
    assert found.keys() == ceiling.METHODS.keys()
    assert set(found.values()) == {f"PyTorch {torch.__version__} finds no GPU"}


def test_the_better_of_two_measurements_counts_and_a_failure_is_kept() -> None:
    made = {
        one.precision: one
        for one in ceiling.ceilings("cpu", {"fp32": 80.0, "int8": "no kernel"}, {"fp32": 90.0, "int8": 5.0})
    }
    assert (made["fp32"].gflop_per_second, made["fp32"].before, made["fp32"].after) == (90, 80, 90)
    assert made["int8"].failure == "no kernel"
    assert made["bf16"].failure == "not measured"


def test_a_network_is_as_much_arithmetic_as_its_layers() -> None:
    # counted by hand from the published layers at 256x256: 532.1 GFLOP
    assert gflop(facts("unet_18", 64), 2, (256, 256)) == pytest.approx(532.1, rel=1e-3)
    assert gflop(facts("unet_18", 16), 2, (128, 128)) == pytest.approx(
        gflop(facts("unet_18", 16), 2, (121, 125))
    )
    with pytest.raises(ValueError, match="resnet with concat and transpose is not known"):
        gflop(facts("resnet", 16), 2, (64, 64))


def test_networks_of_other_variants_are_counted_as_they_are() -> None:
    size = 256, 448
    plain = gflop(facts("unet_18", 64), 2, size)
    assert plain == pytest.approx(931.2, rel=1e-3)
    # as PyTorch counts them on these networks
    assert gflop(replace(facts("unet_18", 64), join="add"), 2, size) == pytest.approx(815.7, rel=1e-3)
    assert gflop(replace(facts("unet_18", 64), join="none"), 2, size) == pytest.approx(815.7, rel=1e-3)
    assert gflop(replace(facts("unet_18", 64), upmode="upsample"), 2, size) == pytest.approx(765.9, rel=1e-3)


def test_products_with_the_zeros_at_the_ends_of_time_are_no_useful_work() -> None:
    # By hand: of 532.1 GFLOP at 256x256, all but those of the 1x1x1 and the last two convolutions lie in
    # kernels over time, whose four steps see ten frames instead of twelve.
    net, size = facts("unet_18", 64), (256, 256)
    last = 2 * 256**2 * (256 * 64 + 64 * 3 * 49) / 1e9
    shortcuts = 2 * 4 * (64**2 * 64 * 128 + 32**2 * 128 * 256 + 32**2 * 256 * 512) / 1e9
    assert useful_gflop(net, 2, size) == pytest.approx(
        (532.1 - last - shortcuts) * 10 / 12 + last + shortcuts, rel=1e-3
    )
