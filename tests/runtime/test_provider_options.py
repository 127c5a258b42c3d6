"""What a session is given: providers in their order, with the options that are theirs, checked by name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fake_onnxruntime import FakeOrt, Install
from flavr_runtime import providers
from flavr_runtime._provider_options import overridden
from flavr_runtime.errors import ProviderError, UsageError
from flavr_runtime.interpolator import Interpolator
from flavr_runtime.providers import PROVIDER_CHOICES, PROVIDERS, select, session_providers

# --- what a session is given


def test_the_cpu_is_in_the_session_only_where_it_is_the_choice(fake_ort: Install) -> None:
    fake_ort(
        *(engine.name for row in PROVIDERS.values() for engine in row.engines if engine.name[:3] != "CPU")
    )
    for name in PROVIDERS:
        names = [provider for provider, _ in session_providers(select(name))]
        assert ("CPUExecutionProvider" in names) == (name == "cpu")


def test_what_tensorrt_leaves_goes_to_cuda(fake_ort: Install) -> None:
    fake_ort("TensorrtExecutionProvider", "CUDAExecutionProvider")
    names = [provider for provider, _ in session_providers(select("tensorrt"))]
    assert names == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]


def test_compiled_models_go_to_the_folder_that_was_given_and_nowhere_without_one(fake_ort: Install) -> None:
    fake_ort("TensorrtExecutionProvider")
    chosen = select("tensorrt")
    assert session_providers(chosen)[0] == ("TensorrtExecutionProvider", {})
    options = session_providers(chosen, Path("models", "ab{12}"))[0][1]
    assert options["trt_engine_cache_enable"] == "1"
    assert options["trt_engine_cache_path"] == str(Path("models", "ab{12}"))


# --- options


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=PROVIDERS)
def test_every_engine_takes_its_own_defaults_and_argues_them(row: providers.Provider) -> None:
    for engine in row.engines:
        said = engine.options.for_session()
        assert overridden(engine.options, said, row.name) == engine.options
        assert all(isinstance(value, str) for value in said.values())
        if said:
            assert engine.options.__doc__
            assert all(name in engine.options.__doc__ for name in said)


def test_an_option_goes_before_the_default_and_into_the_trial(fake_ort: Install) -> None:
    fake = fake_ort("CUDAExecutionProvider")
    chosen = select("cuda", {"cudnn_conv_algo_search": "HEURISTIC", "device_id": "1", "use_tf32": "false"})
    expected = {
        "device_id": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
    }
    assert session_providers(chosen) == [("CUDAExecutionProvider", expected)]
    assert fake.made[0][0] == [("CUDAExecutionProvider", expected)]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("cuda", {"devic_id": "1"}, r"^provider cuda has no option 'devic_id'; it has device_id, cudnn_conv"),
        ("cuda", {"device_id": "one"}, r"^cuda's device_id is a whole number; 'one' is none$"),
        ("cuda", {"use_tf32": "maybe"}, r"^cuda's use_tf32 is true or false; 'maybe' is neither$"),
        (
            "cuda",
            {"cudnn_conv_algo_search": "BEST"},
            r"^cuda's cudnn_conv_algo_search is one of EXHAUSTIVE, HEURISTIC, DEFAULT; 'BEST' is none",
        ),
        ("cpu", {"device_id": "0"}, r"^provider cpu has no option 'device_id'; it has none$"),
        ("auto", {"device_id": "0"}, r"^option 'device_id' belongs to one provider: name that one instead"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused_before_anything_is_tried(
    name: str, given: dict[str, str], message: str, fake_ort: Install
) -> None:
    fake = fake_ort("CUDAExecutionProvider")
    with pytest.raises(UsageError, match=message):
        select(name, given)
    assert fake.made == []


def test_each_engine_of_a_provider_is_asked_for_its_own_options(
    amd_plugin: Callable[[str], FakeOrt],
) -> None:
    amd_plugin("/plugin.so")
    assert select("rocm", {"exhaustive_tune": "on"}).options == {"exhaustive_tune": "1"}
    with pytest.raises(ProviderError, match="has no option 'migraphx_fp16_enable'; it has device_id, fp16"):
        select("rocm", {"migraphx_fp16_enable": "1"})  # an option of the build that is not installed


def test_openvino_is_told_true_and_false_as_it_wants_them(fake_ort: Install) -> None:
    fake_ort("OpenVINOExecutionProvider")
    chosen = select("openvino", {"disable_dynamic_shapes": "1"})
    assert chosen.options == {"device_type": "CPU", "disable_dynamic_shapes": "true"}


# --- the table


def test_the_choices_are_the_names_in_the_order_of_auto() -> None:
    assert list(PROVIDER_CHOICES) == ["auto", *PROVIDERS]
    assert PROVIDER_CHOICES[-1] == "cpu"


@pytest.mark.parametrize("name", PROVIDERS)
def test_each_row_can_be_installed_as_it_says(name: str) -> None:
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    row = PROVIDERS[name]
    match = re.search(r"flavr\[(\w+)\]", row.pip[0].command)
    assert match
    requirements = [re.split(r"[\[<>=]", requirement)[0] for requirement in extras[match[1]]]
    assert set(requirements) & set(row.wheels)


def test_the_provider_behind_tensorrt_runs_on_the_same_gpu(fake_ort: Install) -> None:
    fake_ort("TensorrtExecutionProvider", "CUDAExecutionProvider")
    chosen = select("tensorrt", {"device_id": "1"})
    assert [options["device_id"] for _, options in session_providers(chosen)] == ["1", "1"]


def test_options_from_python_may_be_numbers_and_truth_values_and_are_never_dropped() -> None:
    chosen: Any = overridden(PROVIDERS["cuda"].engines[0].options, {"device_id": 2}, "cuda")
    assert chosen.for_session()["device_id"] == "2"
    with pytest.raises(UsageError, match="a whole number; 'None' is none"):
        overridden(PROVIDERS["cuda"].engines[0].options, {"device_id": None}, "cuda")
    with pytest.raises(UsageError, match="provider_options are for a provider by name"):
        Interpolator(provider=select("cpu"), provider_options={"x": "y"})
