"""In which settings runs differ, from each other and from their recipe."""

import json
from collections.abc import Collection


def without_row(recipe, run: dict) -> dict:
    """The run's settings but those in which some rows of the table differ from others."""
    varied = {
        "network": {name for row in recipe.rows for name in row.settings},
        "training": {name for row in recipe.rows for name in row.training},
    }
    for row in recipe.rows:
        for part, values in row.data.items():
            varied.setdefault(part, set()).update(values)
    return run["settings"] | {
        part: {name: value for name, value in run["settings"].get(part, {}).items() if name not in names}
        for part, names in varied.items()
    }


def with_recipe(recipe, runs: list[dict], but: Collection[str] = ()) -> list[str]:
    """The settings of these runs, ``but`` for some, that are not the recipe's, which stand in brackets: "learning_rate 0.5
    (0.01)"; those of some networks alone with their names behind them."""
    rows = {row.key: row for row in recipe.rows}
    networks = list(dict.fromkeys(run["network"] for run in runs))
    of_recipe = {key: _plain(recipe.settings_of(rows[key])) for key in networks}
    told: dict[str, list[str]] = {}
    for run in runs:
        expected = flat(of_recipe[run["network"]])
        for name, value in flat({part: of for part, of in run["settings"].items() if isinstance(of, dict)}).items():
            if name not in but and (name not in expected or value != expected[name]):
                known = _text(expected[name]) if name in expected else "not in the recipe"
                short = name.removeprefix("network ").removeprefix("training ")
                of_these = told.setdefault(f"{short} {_text(value)} ({known})", [])
                if run["network"] not in of_these:
                    of_these.append(run["network"])
    return [text if len(of) == len(networks) else f"{text} for {' and '.join(of)}" for text, of in told.items()]


def _plain(settings: dict) -> dict:
    """As a result keeps them."""
    return json.loads(json.dumps(settings))


def _text(value: object) -> str:
    """As ``--set`` takes it; of a number all digits that tell it from others."""
    if isinstance(value, float) and float(short := f"{value:g}") == value:
        return short
    return value if isinstance(value, str) else json.dumps(value)


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
