"""In which settings runs differ."""

import json


def without_row(recipe, run: dict) -> dict:
    """The run's settings but those in which some rows of the table differ from others."""
    varied = {
        "network": {name for row in recipe.rows for name in row.settings},
        "training": {name for row in recipe.rows for name in row.training},
    }
    return run["settings"] | {
        part: {name: value for name, value in run["settings"][part].items() if name not in names}
        for part, names in varied.items()
    }


def of_network(runs: list[dict], network: str) -> list[dict]:
    """The settings of the runs of one network."""
    return [run["settings"] for run in runs if run["network"] == network]


def differences(settings: list[dict]) -> str:
    """The names and values in which these differ, "" where they do not."""
    told = [flat(s) for s in settings]
    names = differing(told)
    return "; ".join(f"{name}: {', '.join(sorted({str(one.get(name)) for one in told}))}" for name in names)


def differing(told: list[dict]) -> list[str]:
    """The names whose values are not the same everywhere."""
    names = sorted({name for one in told for name in one})
    return [name for name in names if len({json.dumps(one.get(name)) for one in told}) > 1]


def flat(settings: dict) -> dict:
    """{"network": {"hidden": 64}} as {"network hidden": 64}."""
    inner = {f"{part} {k}": v for part, of in settings.items() if isinstance(of, dict) for k, v in of.items()}
    return inner | {k: v for k, v in settings.items() if not isinstance(v, dict)}
