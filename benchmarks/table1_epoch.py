"""Epoch time of the five networks of Deckers et al., Table 1: kernels against the plain PyTorch form.

    python benchmarks/table1_epoch.py DATA_DIR

Trains every network of the recipe on each batch of one epoch (data in SHD's format, DATA_DIR): forward, loss, backward,
optimizer step. Every batch is trained on with each form in turn, by networks of their own with equal initial values.
Forms: the kernels, with everything else that the recipe brings (dropout from random bits, linear layers over spikes); the
plain form, what plain PyTorch has (SNN_DELAY_PLUGINS_METHOD=torch: neurons step by step, delays as products per frequency,
torch's own Dropout and Linear); the reference (=direct: the same, with delays as dense convolutions).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import measure
import numpy as np
import torch
from torch import nn

from recipes.deckers_table1 import RECIPE
from recipes.engine.training import machine
from recipes.engine.training.objectives import SummedSoftmax

FORMS = {"kernels": None, "plain": "torch", "reference": "direct"}
NETWORKS = ("lif", "adlif", "adlif-plus", "lif-delays", "adlif-plus-delays")


def use(form: str) -> None:
    if FORMS[form] is None:
        os.environ.pop("SNN_DELAY_PLUGINS_METHOD", None)
    else:
        os.environ["SNN_DELAY_PLUGINS_METHOD"] = FORMS[form]


def epoch(row, splits, forms: tuple[str, ...], most: int | None) -> dict[str, dict]:
    """Per form, seconds by the clock and of the processor, summed over the batches of an epoch."""
    trainings = {}
    for form in forms:
        torch.manual_seed(0)
        network = RECIPE.network(splits.inputs, splits.classes, **RECIPE.network_settings | row.settings)
        if form != "kernels":
            for layer in network.hidden:
                layer.dropout = nn.Dropout(layer.dropout.p)
        objective = SummedSoftmax(network, RECIPE.training)
        trainings[form] = objective, objective.optimizer()
    order = np.random.default_rng(0).permutation(len(splits.train))
    size = RECIPE.training.batch_size
    parts = [order[k : k + size] for k in range(0, len(order), size)][:most]
    clock, cpu = ({form: [] for form in forms} for _ in range(2))
    for number, part in enumerate([parts[0], *parts]):  # the first batch twice: warm-up
        inputs, labels = splits.train.batch(part, np.random.default_rng(0))
        for form, (objective, optimizer) in trainings.items():
            use(form)
            start, working = time.perf_counter(), time.process_time()
            optimizer.zero_grad()
            objective.measure(inputs, labels).loss.backward()
            optimizer.step()
            if number:
                clock[form].append(time.perf_counter() - start)
                cpu[form].append(time.process_time() - working)
    whole = len(order) / sum(map(len, parts))  # of the epoch, where not all batches were used
    return {form: {"clock": sum(clock[form]) * whole, "cpu": sum(cpu[form]) * whole} for form in forms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--batches", type=int, help="of the epoch, all by default; times are scaled to the epoch")
    parser.add_argument("--only", help="networks, separated by commas")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS, metavar="FORM")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine.keep_freed_memory()  # as every recipe does, for all forms alike
    splits = RECIPE.source_of_data.load(args.data_dir, "clean")
    rows = []
    for row in RECIPE.rows:
        if row.key not in (args.only.split(",") if args.only else NETWORKS):
            continue
        forms = epoch(row, splits, tuple(args.forms), args.batches)
        rows.append({"network": row.name, "samples": len(splits.train), **forms})
        print(rows[-1], flush=True)
    measure.write("table1_epoch", {**measure.setting(), "batches": args.batches, "rows": rows})
    report(rows)


def report(rows: list[dict]) -> None:
    table = [
        {
            "network": row["network"],
            **{f"{form}, s (CPU)": f"{row[form]['clock']:.2f} ({row[form]['cpu']:.2f})" for form in FORMS if form in row},
            **{
                f"{form} / kernels (CPU)": f"{row[form]['clock'] / row['kernels']['clock']:.2f} "
                f"({row[form]['cpu'] / row['kernels']['cpu']:.2f})"
                for form in FORMS if form != "kernels" and form in row
            },
        }
        for row in rows
    ]  # fmt: skip
    measure.show("seconds per training epoch", table)
    print(measure.markdown(table))


if __name__ == "__main__":
    main()
