"""What the vendors' own programs tell of GPUs: one row per program."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from flavr_benchmarks.schema import Gpu

_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Tool:
    """A vendor's program, what to ask it, and how to understand the answers."""

    program: str
    gpus: tuple[str, ...]
    parse_gpus: Callable[[str], list[Gpu]]
    watts: tuple[str, ...]
    parse_watts: Callable[[str], float | None]  # of all GPUs together
    memory: tuple[str, ...]
    parse_memory: Callable[[str, int], int | None]  # bytes that a process holds

    def ask(self, arguments: tuple[str, ...]) -> str | None:
        """The program's output; None where it is missing or fails."""
        path = shutil.which(self.program)
        if path is None:
            return None
        try:
            done = subprocess.run(
                [path, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout


def find_gpus() -> list[Gpu]:
    """All that the installed programs tell of."""
    answers = ((tool, tool.ask(tool.gpus)) for tool in TOOLS)
    return [gpu for tool, answer in answers if answer for gpu in tool.parse_gpus(answer)]


def device_memory(pid: int) -> int | None:
    """Bytes of GPU memory that a process holds now."""
    for tool in TOOLS:
        answer = tool.ask(tool.memory)
        held = tool.parse_memory(answer, pid) if answer else None
        if held is not None:
            return held
    return None


def _number(text: object) -> float | None:
    try:
        return float(str(text).strip())
    except ValueError:  # "N/A", "[Not Supported]"
        return None


def _nvidia_gpus(text: str) -> list[Gpu]:
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 5:
            name, driver, memory, clock, load = fields
            mib = _number(memory)
            found.append(
                Gpu(
                    name=name,
                    driver=driver,
                    memory_bytes=None if mib is None else int(mib * 2**20),
                    clock_mhz=_number(clock),
                    load_percent=_number(load),
                )
            )
    return found


def _nvidia_watts(text: str) -> float | None:
    watts = [value for line in text.splitlines() if (value := _number(line)) is not None]
    return sum(watts) if watts else None


def _nvidia_memory(text: str, pid: int) -> int | None:
    rows = [line.split(",") for line in text.splitlines()]
    held = [_number(row[1]) for row in rows if len(row) == 2 and row[0].strip() == str(pid)]
    known = [mib for mib in held if mib is not None]
    return int(sum(known) * 2**20) if known else None


def _json(text: str) -> dict[str, dict[str, object]]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    cards = content.items() if isinstance(content, dict) else ()
    return {name: card for name, card in cards if isinstance(card, dict)}


def _first(card: dict[str, object], *words: str) -> object:
    """The value whose name has all the words: they change from one version of rocm-smi to the next."""
    return next((v for k, v in card.items() if all(word in k.lower() for word in words)), None)


def _amd_gpus(text: str) -> list[Gpu]:
    content = _json(text)
    driver = str(_first(content.get("system", {}), "driver", "version") or "")
    found = []
    for name, card in content.items():
        if name.startswith("card"):
            memory = _number(_first(card, "vram", "total memory"))
            found.append(
                Gpu(
                    name=str(_first(card, "card", "series") or _first(card, "product", "name") or name),
                    driver=driver,
                    memory_bytes=None if memory is None else int(memory),
                    load_percent=_number(_first(card, "gpu use")),
                )
            )
    return found


def _amd_watts(text: str) -> float | None:
    cards = [card for name, card in _json(text).items() if name.startswith("card")]
    watts = [value for card in cards if (value := _number(_first(card, "power", "(w)"))) is not None]
    return sum(watts) if watts else None


def _amd_memory(text: str, pid: int) -> int | None:
    entry = _json(text).get("system", {}).get(f"PID{pid}")
    fields = str(entry).split(",") if entry is not None else []
    held = _number(fields[2]) if len(fields) > 2 else None  # name, GPUs, bytes of VRAM, ...
    return None if held is None else int(held)


TOOLS: tuple[Tool, ...] = (
    Tool(
        "nvidia-smi",
        (
            "--query-gpu=name,driver_version,memory.total,clocks.current.graphics,utilization.gpu",
            "--format=csv,noheader,nounits",
        ),
        _nvidia_gpus,
        ("--query-gpu=power.draw", "--format=csv,noheader,nounits"),
        _nvidia_watts,
        ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"),
        _nvidia_memory,
    ),
    Tool(
        "rocm-smi",
        ("--showproductname", "--showdriverversion", "--showmeminfo", "vram", "--showuse", "--json"),
        _amd_gpus,
        ("--showpower", "--json"),
        _amd_watts,
        ("--showpids", "--json"),
        _amd_memory,
    ),
)
