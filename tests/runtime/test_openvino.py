"""OpenVINO for real, on a CPU: these run where onnxruntime-openvino is installed in place of onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from flavr_runtime.cli import command
from flavr_runtime.errors import ProviderError
from flavr_runtime.frames import Rgb
from flavr_runtime.interpolator import Interpolator
from flavr_runtime.providers import probe, select


@pytest.fixture(autouse=True)
def openvino(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried = probe("openvino")
    if not tried.ok:
        pytest.skip(f"openvino does not work here: {tried.reason}")
    monkeypatch.setenv("FLAVR_CACHE_DIR", str(tmp_path / "cache"))


def pictures(height: int, width: int) -> list[Rgb]:
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [127 + 90 * np.sin((columns + 2 * t) / 5) * np.cos(rows / 7) for t in range(4)]
    return [np.repeat(wave[..., None], 3, axis=2).astype(np.uint8) for wave in waves]


@pytest.mark.parametrize("size", [(48, 64), (45, 61), None])
def test_it_computes_what_the_cpu_does_and_finds_what_it_compiled(
    size: tuple[int, int] | None, tmp_path: Path
) -> None:
    frames = pictures(*(size or (45, 61)))
    (expected,) = Interpolator(provider="cpu").between(*frames)
    for _ in range(2):
        interpolator = Interpolator(provider="openvino", size=size, threads=1, strict=True)
        interpolator.warm_up()
        (made,) = interpolator.between(*frames)
        assert np.abs(made.astype(int) - expected).max() <= 1
        assert interpolator.notices == []
        assert len(list(tmp_path.glob("cache/engines/*/*.blob"))) == 1


def test_a_damaged_engine_is_compiled_again(tmp_path: Path) -> None:
    frames = pictures(48, 64)
    (expected,) = Interpolator(provider="openvino", size=(48, 64), threads=1).between(*frames)
    (blob,) = tmp_path.glob("cache/engines/*/*.blob")
    blob.write_bytes(blob.read_bytes()[:5000])
    (made,) = Interpolator(provider="openvino", size=(48, 64), threads=1).between(*frames)
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"device_type": "NPU"}, "Device NPU is not available"),
        ({"load_config": "no.json"}, ": JSON parsing error"),
        ({"load_config": '{"CPU": {"NOPE": "1"}}'}, ": NotFound: Unsupported property NOPE by CPU plugin;"),
        ({"device_type": "TPU"}, "with device_type=TPU: it took none of the work"),
    ],
)
def test_what_it_cannot_do_it_says_itself(given: dict[str, str], reason: str) -> None:
    with pytest.raises(ProviderError) as caught:
        select("openvino", given)
    message = str(caught.value)
    assert message.startswith("provider openvino does not work here with ")
    assert reason in message
    assert "\n" not in message


def test_a_clip_goes_through_it(clip_plain: Path, tmp_path: Path) -> None:
    arguments = [str(clip_plain), "-o", str(tmp_path / "out.mp4"), "--provider", "openvino", "--strict"]
    result = CliRunner().invoke(command, [*arguments, "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "provider: openvino (OpenVINOExecutionProvider: " in result.stderr
    assert (tmp_path / "out.mp4").exists()
