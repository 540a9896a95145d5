"""The card of a model: what it is, what it was trained on, what it reaches, how it is used and where it ends."""

from pathlib import Path

from ..results import models

_TEMPLATE = """# {title}

{what}

| | |
|---|---|
| recipe, network, seed | `{recipe}`, `{network}`, {seed} |
| parameters | {parameters:,d} |
| input | {inputs} channels{input_note} |
| classes | {classes} |
| trained on | {data} |
| licence of the data | {licence} |
| epoch chosen on | {validation} |
| accuracy in the training | {reached} |
| accuracy of these weights | {measured} |
| delays | {delays} |
| size of the weights | {size} |
| made with | snn_delay_plugins {version}, torch {torch} |

## Use

```bash
python -m recipes predict {folder} {file} --csv all.csv
```

```python
from snn_delay_plugins.recipes import load

model = load("{folder}")
probabilities, labels = model.predict("{file}")
```

`weights.pt` is a state dict (`torch.load(path, weights_only=True)`), `model.json` has all settings.

## Limits

{limits}
"""


def text(described: dict, *, title: str, what: str, name: str, licence: str | None, folder: Path) -> str:
    """Of what :func:`recipes.engine.results.models.describe` says, and ``export`` adds. ``folder`` holds the
    weights and will be called ``name``."""
    data, chosen, settings = described["data"], described["chosen"], described["settings"]
    names = data.get("class_names", [])
    samples = ", ".join(f"{count} {name}" for name, count in data["samples"].items())
    return _TEMPLATE.format(
        title=title,
        what=f"{what}: a spiking network, trained on {data['name']}.",
        recipe=described["recipe"],
        network=described["network"],
        seed=described["seed"],
        parameters=described["parameters"],
        inputs=data["inputs"],
        input_note=_input_note(settings),
        classes=f"{data['classes']}" + (f": {', '.join(map(str, names))}" if names else " (the data do not name them)"),
        data=f"{data['name']} ({samples} samples)",
        licence=licence or "not stated",
        validation=f"{data['validation']}, protocol {settings['protocol']}",
        reached="; ".join(
            f"{name} {chosen[f'{name}_accuracy']:.2f} %" for name in ("valid", "test") if f"{name}_accuracy" in chosen
        )
        + f" (epoch {chosen['epoch']}{_precision(settings)})",
        measured=_measured(described.get("accuracy")),
        delays=_delays(described),
        size=f"{(folder / models.WEIGHTS).stat().st_size / 1000:.0f} kB",
        version=described["versions"].get("snn_delay_plugins", "?"),
        torch=described["versions"].get("torch", "?"),
        folder=name,
        file="recording" + _suffix(settings),
        limits=f"Trained on {data['name']} alone: other speakers, recorders and words, and other rates or encodings of the "
        "input, were not tried. The probabilities are not calibrated, and a recording of none of the classes gets one of "
        "them all the same. One seed: the spread over seeds is in the table of the recipe.",
    )


def _input_note(settings: dict) -> str:
    binning = settings.get("binning")
    if binning and "dt" in binning:  # of events of any source
        return f": events in steps of {binning['dt']:g} ms"
    if binning:
        step = 1000 * binning["duration"] / binning["steps"]
        return (
            f": {binning['units']} units, {binning['group']} summed, in {binning['steps']} steps of {step:g} ms "
            f"({binning['duration']:g} s; later spikes are cut off)"
        )
    if sampling := settings.get("sampling"):
        return f": events of {sampling['units']} units in {sampling['duration']:g} ms"
    if features := settings.get("features"):
        return f": mel bands of {features['duration']:g} s of audio"
    return ""


def _suffix(settings: dict) -> str:
    """Of a file that the network takes."""
    return ".wav" if "features" in settings else ".npz" if "braille" in settings else ".h5"


def _precision(settings: dict) -> str:
    return f", in {settings['precision']}" if "precision" in settings else ""


def _measured(accuracy: dict | None) -> str:
    if accuracy is None:
        return "not measured"
    reached = "; ".join(f"{what} {value:.2f} %" for what, value in accuracy["percent"].items())
    return f"{reached} ({accuracy['split']}, {accuracy['samples']} samples)"


def _delays(described: dict) -> str:
    longest = max(layer["longest_delay"] for layer in described["layers"])
    if longest == 0:
        return "none"
    steps = {layer["step_ms"] for layer in described["layers"] if "step_ms" in layer}
    of = f" of {steps.pop():g} ms" if len(steps) == 1 else ""
    return f"{described['delays']}, up to {longest} steps{of}"
