"""GPUs, energy and the environment, told by files and programs as vendors' own tell them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from flavr_benchmarks import environment
from flavr_benchmarks.energy import Meters, PolledPower, Rapl, find_meters, per_window
from flavr_benchmarks.gpus import TOOLS, device_memory, find_gpus

NVIDIA_SMI = """
case "$1" in
  --query-gpu=name*) echo "NVIDIA H200, 580.65.06, 143771, 1980, 3"
                        echo "NVIDIA T4, 580.65.06, [N/A], [N/A], 0";;
  --query-gpu=power.draw) echo "70.50"; echo "9.50";;
  --query-compute-apps*) echo "4242, 1024"; echo "77, 10";;
esac
"""
ROCM = {
    "card0": {
        "Card Series": "AMD Instinct MI300X",
        "Card Model": "0x74a1",
        "VRAM Total Memory (B)": "206141652992",
        "VRAM Total Used Memory (B)": "297000000",
        "GPU use (%)": "4",
        "Current Socket Graphics Package Power (W)": "142.0",
    },
    "system": {"Driver version": "6.12.12", "PID4242": "python, 1, 2147483648, 0, 0"},
}


def install(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_nvidia_gpus_their_memory_and_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "nvidia-smi", NVIDIA_SMI, monkeypatch)
    first, second = find_gpus()
    assert (first.name, first.driver, first.memory_bytes) == ("NVIDIA H200", "580.65.06", 143771 * 2**20)
    assert (first.clock_mhz, second.clock_mhz, second.memory_bytes) == (1980, None, None)
    assert device_memory(4242) == 1024 * 2**20
    assert device_memory(1) is None
    power = PolledPower(TOOLS[0])
    assert power.works
    now = time.monotonic()
    assert power.joules((now, now + 2)) == pytest.approx(160)


def test_amd_gpus_their_memory_and_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "rocm-smi", f"cat <<'END'\n{json.dumps(ROCM)}\nEND", monkeypatch)
    (gpu,) = find_gpus()
    assert (gpu.name, gpu.driver, gpu.memory_bytes) == ("AMD Instinct MI300X", "6.12.12", 206141652992)
    assert device_memory(4242) == 2147483648
    power = PolledPower(TOOLS[1])
    assert power.works
    now = time.monotonic()
    assert power.joules((now - 1, now)) == pytest.approx(142)


@pytest.mark.parametrize("script", ["exit 9", "echo garbage", "echo '{'", "echo '[1]'", ":"])
@pytest.mark.parametrize("tool", ["nvidia-smi", "rocm-smi"])
def test_a_vendor_program_that_fails_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, script: str
) -> None:
    install(tmp_path, tool, script, monkeypatch)
    assert find_gpus() == []
    assert device_memory(1) is None
    assert find_meters().gpu is None


def rapl_zone(root: Path, name: str, microjoules: int, limit: int = 10_000_000) -> Path:
    zone = root / name
    zone.mkdir(parents=True)
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    (zone / "max_energy_range_uj").write_text(f"{limit}\n")
    return zone / "energy_uj"


def test_rapl_counts_all_packages_across_the_end_of_their_counters(tmp_path: Path) -> None:
    first = rapl_zone(tmp_path, "intel-rapl:0", 9_000_000)
    second = rapl_zone(tmp_path, "intel-rapl:1", 0)
    rapl_zone(tmp_path, "intel-rapl:0:0", 5)  # a part of the first, which would count twice
    meter = Rapl(tmp_path)
    assert meter.works
    begin = time.monotonic()
    meter.read()
    time.sleep(0.05)
    first.write_text("1000000")  # 2 J, past its end
    second.write_text("3000000")  # 3 J
    meter.read()
    end = time.monotonic()
    spent = meter.joules((begin, end))
    assert spent == pytest.approx(5, rel=0.3)
    assert per_window(meter, [(begin, end)], 10) == pytest.approx((spent or 0) / 10)


def test_without_a_counter_there_is_no_energy(tmp_path: Path) -> None:
    meter = Rapl(tmp_path)
    assert not meter.works
    assert meter.joules((0, 1)) is None
    assert per_window(meter, [(0, 1)], 3) is None


def test_meters_are_read_in_the_background(tmp_path: Path) -> None:
    counter = rapl_zone(tmp_path, "intel-rapl:0", 0)
    meter = Rapl(tmp_path)
    with Meters(cpu=meter, gpu=None):
        begin = time.monotonic()
        time.sleep(0.25)
        counter.write_text("4000000")
        time.sleep(0.45)
        end = time.monotonic()
    assert meter.joules((begin, end)) == pytest.approx(4, rel=0.5)


def test_the_environment_says_what_a_reader_needs() -> None:
    found = environment.examine()
    assert found.cpu
    assert found.usable_cores >= 1
    assert found.memory_bytes > found.free_memory_bytes > 0
    assert len(found.load_average) == 3
    assert {"torch", "numpy"} <= found.libraries.keys()
