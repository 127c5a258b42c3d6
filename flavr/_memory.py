"""Telling want of memory from other errors, whoever it was that asked for it. Imports no PyTorch."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """The system's, a device's (torch.OutOfMemoryError), torch's CPU allocator's, or for mapping a file."""
    return any(is_out_of_memory_text(kind.__name__, str(error)) for kind in type(error).__mro__)


def is_out_of_memory_text(kind: str, message: str) -> bool:
    """The same of an error that another process has put into words: its type's name, and what it said."""
    return kind.endswith("MemoryError") or _is_said(message)


def _is_said(message: str) -> bool:
    return any(words in message.lower() for words in ("can't allocate memory", "cannot allocate memory"))
