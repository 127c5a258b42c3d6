"""Residual blocks that do nothing any more: found, told of in training, and given back to it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flavr import CheckpointError, Flavr, FlavrConfig, load_checkpoint, save_checkpoint
from flavr.idle import idle_blocks, watched
from flavr.revive import revive, still
from flavr.training.run import train
from tiny_runs import NewConfig

SMALL = FlavrConfig(width=4, encoder_bias=True)
SHUT, WITHHELD = "encoder.layer4.1", "encoder.layer1.0"


def collapsed(config: FlavrConfig = SMALL) -> Flavr:
    """One block shuts every gate, another withholds a channel and shuts the others."""
    torch.manual_seed(0)
    network = Flavr(config).eval()
    with torch.no_grad():
        shut(network, SHUT)
        if config.encoder_bias:
            shut(network, WITHHELD)
            network.get_parameter(f"{WITHHELD}.fg.attn_layer.0.bias")[2] = 50
            network.get_parameter(f"{WITHHELD}.conv2.0.weight")[2] = 0
            network.get_parameter(f"{WITHHELD}.conv2.0.bias")[2] = -50
    return network


@torch.no_grad()
def shut(network: Flavr, block: str, bias: float = -50) -> None:
    network.get_parameter(f"{block}.fg.attn_layer.0.bias").fill_(bias)


@pytest.fixture
def frames() -> Tensor:
    return torch.rand(3, 3, 4, 32, 40, generator=torch.Generator().manual_seed(1))


def test_blocks_that_do_nothing_are_found_and_no_others(frames: Tensor) -> None:
    network = collapsed()
    with watched(network) as uses, torch.inference_mode():
        network(frames)
    assert idle_blocks(uses) == (WITHHELD, SHUT)
    assert len(uses) == 8
    assert uses[WITHHELD].withheld == [2]
    assert uses[WITHHELD].opened.tolist() == [0, 0, 3, 0]
    assert {use.windows for use in uses.values()} == {3}
    with torch.inference_mode():
        network(frames)
    assert uses[SHUT].windows == 3, "it went on counting after it was told to stop"


def test_a_block_at_work_on_one_window_alone_is_not_idle(frames: Tensor) -> None:
    network = collapsed()
    with watched(network) as uses, torch.inference_mode():
        network(frames)
        shut(network, SHUT, bias=0)
        network(frames[:1])
    assert idle_blocks(uses) == (WITHHELD,)


def test_nothing_is_said_of_a_network_that_no_window_went_through() -> None:
    with watched(collapsed()) as uses:
        pass
    assert idle_blocks(uses) == ()
    assert not any(use.idle for use in uses.values())


def test_several_processes_are_idle_together_or_not(frames: Tensor) -> None:
    network = collapsed()
    with watched(network) as uses, torch.inference_mode():
        network(frames)
    other = [3.0, 0.0] * 7 + [3.0, 5.0]  # windows and uses of every block: the last is at work elsewhere
    summed = idle_blocks(uses, lambda counts: [a + b for a, b in zip(counts, other, strict=True)])
    assert summed == (WITHHELD,)


@pytest.mark.parametrize("bias", [True, False])
def test_a_revived_block_hardly_changes_the_frames_and_learns_again(frames: Tensor, bias: bool) -> None:
    network = collapsed(replace(SMALL, encoder_bias=bias))
    with watched(network) as uses, torch.inference_mode():
        before = network(frames)
    revived = revive(network, uses)
    assert [each.name for each in revived] == ([WITHHELD, SHUT] if bias else [SHUT])
    with watched(network) as uses:
        after = network(frames)
    assert idle_blocks(uses) == ()
    torch.testing.assert_close(after, before, rtol=0, atol=5e-3)
    after.square().mean().backward()
    for each in revived:
        second = network.get_parameter(f"{each.name}.conv2.0.weight").grad
        assert second is not None
        learning = second.flatten(1).abs().amax(dim=1) > 0
        assert bool(learning[uses[each.name].seen > 0].all()), f"{each.name}: channels without a gradient"
    assert not bias or revived[0].withheld == 1


def test_a_still_block_has_no_weights_and_the_frames_are_the_same(frames: Tensor) -> None:
    network = collapsed()
    with watched(network) as uses, torch.inference_mode():
        before = network(frames)
    assert [each.name for each in still(network, uses)] == [WITHHELD, SHUT]
    with torch.inference_mode():
        torch.testing.assert_close(network(frames), before, rtol=0, atol=1e-6)
    for name in (WITHHELD, SHUT):
        for part in ("conv1.0.weight", "conv2.0.weight", "fg.attn_layer.0.weight"):
            assert not network.get_parameter(f"{name}.{part}").any()

    with watched(network) as uses, torch.inference_mode():
        network(frames)
    assert idle_blocks(uses) == (WITHHELD, SHUT)
    assert uses[WITHHELD].withheld == [2]
    revive(network, uses)
    with watched(network) as uses, torch.inference_mode():
        torch.testing.assert_close(network(frames), before, rtol=0, atol=5e-3)
    assert idle_blocks(uses) == ()


def test_what_is_withheld_without_a_bias_cannot_be_still(frames: Tensor) -> None:
    network = collapsed(replace(SMALL, encoder_bias=False))
    with watched(network) as uses, torch.inference_mode():
        network(frames)
    uses[SHUT].seen[3] = 0
    with pytest.raises(CheckpointError, match=r"layer4\.1 withholds channels, which takes a bias"):
        still(network, uses)


def test_the_same_seed_revives_to_the_same_weights(frames: Tensor) -> None:
    made = []
    for seed in (0, 0, 1):
        network = collapsed()
        with watched(network) as uses, torch.inference_mode():
            network(frames)
        revive(network, uses, seed=seed)
        made.append(network.get_parameter(f"{SHUT}.conv1.0.weight").detach())
    torch.testing.assert_close(made[0], made[1], rtol=0, atol=0)
    assert not torch.equal(made[0], made[2])


def test_a_block_that_cannot_begin_anew_is_named(frames: Tensor) -> None:
    network = collapsed()
    shut(network, "encoder.layer2.0")
    with watched(network) as uses, torch.inference_mode():
        network(frames)
    with pytest.raises(CheckpointError, match=r"layer2\.0 does nothing, and a block with a projection"):
        revive(network, uses)


def test_training_tells_of_a_block_that_does_nothing_once(
    new_config: NewConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "collapsed.pth", collapsed())
    train(new_config("told", load_from=tmp_path / "collapsed.pth", encoder_bias=True))
    told = [line for line in "".join(capsys.readouterr()).splitlines() if "did nothing" in line]
    assert len(told) == 1
    assert told[0].startswith(f"note: {WITHHELD}, {SHUT} did nothing on any window")


def program(*args: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "flavr.revive", *map(str, args)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_program_revives_a_checkpoint_and_says_what_it_cost(tiny_vimeo: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "old.pth", collapsed())
    old, new = tmp_path / "old.pth", tmp_path / "new.pth"
    done = program(old, "--data-root", tiny_vimeo, "-o", new, "--windows", 2)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, cost, following = done.stdout.splitlines()
    assert first == f"{WITHHELD} begins anew: 3 channels never passed its gate, 1 never left it"
    assert second.startswith(f"{SHUT} begins anew: 32 channels never passed its gate, ")
    assert cost.startswith("PSNR on 2 windows: ")
    assert following == f"Next: flavr-train --load-from {new}"
    assert load_checkpoint(new).config == SMALL

    again = program(new, "--data-root", tiny_vimeo, "-o", tmp_path / "more.pth")
    assert again.returncode == 0
    assert "every block does something" in again.stdout
    assert not (tmp_path / "more.pth").exists()


def test_the_program_takes_the_weights_out(tiny_vimeo: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "old.pth", collapsed())
    new = tmp_path / "new.pth"
    done = program(tmp_path / "old.pth", "--data-root", tiny_vimeo, "-o", new, "--still", "--windows", 2)
    assert (done.returncode, done.stderr) == (0, "")
    first, _, cost, following = done.stdout.splitlines()
    assert first == f"{WITHHELD} has no weights now: 3 channels never passed its gate, 1 never left it"
    before, after = (part.split()[-1] for part in cost.split(" dB")[:2])
    assert before == after
    moved = re.search(r"frames differ by (\S+) code values at most$", cost)
    assert moved is not None
    assert float(moved[1]) < 1e-2
    assert following == f"Next: flavr-export --ckpt {new}"


def test_the_program_refuses_to_write_over_a_file(tiny_vimeo: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "old.pth", collapsed())
    done = program(tmp_path / "old.pth", "--data-root", tiny_vimeo, "-o", tmp_path / "old.pth")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'old.pth'} exists; choose another name\n"
    done = program(tmp_path / "old.pth", "--data-root", tiny_vimeo, "-o", tmp_path / "new.safetensors")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_seed_that_is_too_long_is_refused(tiny_vimeo: Path, tmp_path: Path) -> None:
    done = program("old.pth", "--data-root", tiny_vimeo, "-o", tmp_path / "new.pth", "--seed", 2**63)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "9223372036854775808 is not in the range" in done.stderr
