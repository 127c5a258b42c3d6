"""Every error that flavr_export raises on purpose.

ExportError
├── UnsupportedError      something that cannot be written, or that the target provider cannot run
├── CalibrationError      nothing to calibrate 8 bits with, or they cost too much quality
├── MismatchError         the written graph does not compute what PyTorch computes
└── MissingPackageError   a package that the export needs is not installed

Each message is one line that says what is wrong, with which value, and what to do about it.
"""

__all__ = ["CalibrationError", "ExportError", "MismatchError", "MissingPackageError", "UnsupportedError"]


class ExportError(Exception):
    """Root of the tree: catch it to catch everything flavr_export raises on purpose."""


class UnsupportedError(ExportError):
    """An opset, size or option that cannot be written, or a node that the target provider cannot run."""


class CalibrationError(ExportError):
    """Frames to calibrate 8 bits with are missing or too few, or the quantised network loses too much."""


class MismatchError(ExportError):
    """The exported graph's output differs from PyTorch's by more than the precision allows."""


class MissingPackageError(ExportError):
    """A package that the export needs is not installed."""
