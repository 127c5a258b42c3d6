"""The ways of writing FLAVR's layers, by the name that `--graph` gives them."""

from __future__ import annotations

from flavr_export._conv2d import Conv2dForm
from flavr_export._conv3d import Conv3dForm
from flavr_export._form import Form
from flavr_export._winograd import WinogradForm
from flavr_export.spec import GraphForm

FORMS: dict[GraphForm, type[Form]] = {
    "conv2d": Conv2dForm,
    "conv3d": Conv3dForm,
    "winograd": WinogradForm,
}
