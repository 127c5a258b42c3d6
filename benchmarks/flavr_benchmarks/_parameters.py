"""Kinds of values on the command line."""

from __future__ import annotations

import click


class Listed(click.ParamType[tuple[str, ...]]):
    """Words with commas between them; each must be one of the known, if any are."""

    name = "LIST"

    def __init__(self, known: tuple[str, ...] = ()) -> None:
        self._known = known

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        words = tuple(dict.fromkeys(word.strip() for word in str(value).split(",") if word.strip()))
        if not words:
            self.fail("it is empty", param, ctx)
        for word in words:
            if self._known and word not in self._known:
                self.fail(f"{word!r} is not one of {', '.join(self._known)}", param, ctx)
        return words


class Gate(click.ParamType[tuple[str, float]]):
    """NAME=NUMBER."""

    name = "NAME=NUMBER"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        from flavr_benchmarks.gates import GATES

        name, _, number = str(value).partition("=")
        try:
            limit = float(number.removesuffix("%"))
        except ValueError:
            limit = float("nan")
        if name not in GATES or limit != limit:
            self.fail(f"{value!r}: write one of {', '.join(GATES)} and a number, such as psnr=30", param, ctx)
        return name, limit


FAIL_BELOW = click.option(
    "--fail-below",
    "gates",
    type=Gate(),
    multiple=True,
    metavar="NAME=NUMBER",
    help="Exit with code 3 where a network misses this; repeatable. psnr, ssim: at least (8-bit pictures); "
    "loss: dB of PSNR against fp32 PyTorch, at most; slowdown: percent against the other report, at most "
    "(compare).",
)
