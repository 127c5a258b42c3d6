"""Training FLAVR: `flavr.training.run.train` is the Python interface behind `flavr-train`.

`config` holds every option, `run` puts the parts together, `loop` is the loop, and each remaining file is a
part: `batches` (where data comes from), `schedule`, `ema`, `state` (what a resumed run needs), `files` (how
it is written), `distributed`, `stopping`, `validation`, `reporting`, `strips`, `summary` and `pretrained`.
"""
