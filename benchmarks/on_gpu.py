"""Everything that runs on a GPU, checked and measured in one call of at most eight minutes on one card, without network.

    python benchmarks/on_gpu.py [--minutes 8] [--into docs/benchmarks/gpu]
    python benchmarks/on_gpu.py --dry-run      # on a CPU, in Triton's interpreter, with tiny sizes

First every operator is compared on the device with its form on the CPU (``gpu_checks.py``), bad input is tried, and the
tests marked ``cuda`` run; then training steps are measured (``gpu_cases.py``) beside what the card itself can move and
compute. Every section is a process of its own with its own share of the time and writes each row as it comes: one that
crashes, hangs or runs out of memory loses no more than the row it was at. The rows go to one JSON file and one table in
Markdown, both named after the card. The exit status is 1 where something was not equal, failed or did not come to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
Row = dict[str, object]
Section = Callable[[argparse.Namespace], Iterator[Row]]

# of the whole time; what a section leaves is the next one's
SHARES = {
    "limits": 0.05,
    "checks": 0.36,
    "bad input": 0.05,
    "tests": 0.1,
    "neurons": 0.08,
    "delays": 0.12,
    "eventprop": 0.24,
}


# ------------------------------------------------------------------------------------------------ sections


def _device(args: argparse.Namespace):
    import torch

    return torch.device("cpu" if args.dry_run else "cuda")


def _limits(args: argparse.Namespace) -> Iterator[Row]:
    import gpu_cases

    for what, rate in gpu_cases.limits(_device(args), args.dry_run):
        yield {"limit": what, "per second": rate}


def _checks(args: argparse.Namespace) -> Iterator[Row]:
    """Those that this worker does: compiling takes most of the time, so that several share the card."""
    import gpu_checks
    import torch

    device = "interpreter" if args.dry_run else "cuda"
    if args.only and not any(args.only in name for name in gpu_checks.CHECKS):
        yield {"check": args.only, "equal": False, "error": f"no check has {args.only!r} in its name"}
        return
    for n, (name, dtype, shape, seed) in enumerate(_jobs(args)):
        if n < args.done:
            continue
        try:
            yield gpu_checks.check(name, device, getattr(torch, dtype), seed, args.dry_run, shape)
        except Exception as error:
            row = {"check": name, "dtype": dtype, "equal": False, "error": _said(error)}
            if not _device_is_lost(args):
                yield row
                continue
            yield row | {"device lost": True}
            sys.exit("the device is lost to this process")  # section_rows starts another one


def _jobs(args: argparse.Namespace) -> list[tuple[str, str, tuple[int, int, int], int]]:
    """Name, dtype, shape and seed of a worker's checks."""
    import gpu_checks

    names = [x for n, x in enumerate(gpu_checks.CHECKS) if n % args.workers == args.worker and (args.only or "") in x]
    shapes, jobs = [(9, 2, 3)] if args.dry_run else [(100, 4, 70), (33, 3, 130)], []
    for k, shape in enumerate(shapes):
        for n, name in enumerate(names):
            both = ["float64", "float32"]  # without a card they take twice the time for the same instructions: in turns
            jobs += [(name, x, shape, args.seed + k) for x in (both[n % 2 :][:1] if args.dry_run else both)]
    return jobs


def _bad_input(args: argparse.Namespace) -> Iterator[Row]:
    import gpu_bad_input

    for row in gpu_bad_input.tried("interpreter" if args.dry_run else "cuda"):
        yield row | {"device lost": _device_is_lost(args)}


def _tests(args: argparse.Namespace) -> Iterator[Row]:
    """Tests that need a device: those marked ``cuda``. A dry run has those that it would run collected alone."""
    if find_spec("pytest") is None:
        yield {"tests": "pytest is not installed", "passed": False}
        return
    files = sorted(map(str, (CHECKOUT / "tests" / "kernels").glob("test_*triton*.py")))
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", *files]
    command += ["--collect-only"] * args.dry_run
    try:  # they would go on when this process is ended, and share the card with what is measured next
        run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, timeout=max(1.0, args.seconds - 5))
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode(errors="replace")
        yield {"tests": "stopped: their time was over", "passed": False, "output": said[-4000:]}
        return
    said = run.stdout.decode(errors="replace")
    last = (said.strip().splitlines() or ["no output"])[-1]
    yield {"tests": last, "passed": run.returncode == 0} | ({} if run.returncode == 0 else {"output": said[-4000:]})


def _measured(args: argparse.Namespace, cases, of) -> Iterator[Row]:
    import gpu_cases

    for case in cases:
        row: Row = {"case": case.name, "bytes": case.bytes, "operations": case.operations, "in": case.of}
        try:
            yield row | gpu_cases.timed(case.step, _device(args), of.repeats)
        except Exception as error:
            yield row | {"error": _said(error)}


def _neurons(args: argparse.Namespace) -> Iterator[Row]:
    import gpu_cases

    of = gpu_cases.TINY if args.dry_run else gpu_cases.FULL
    yield from _measured(args, gpu_cases.neurons(_device(args), of, "triton"), of)


def _delays(args: argparse.Namespace) -> Iterator[Row]:
    import gpu_cases

    of = gpu_cases.TINY if args.dry_run else gpu_cases.FULL
    yield from _measured(args, gpu_cases.delays(_device(args), of, "triton"), of)


def _eventprop(args: argparse.Namespace) -> Iterator[Row]:
    """Steps, the longest delay's share in them, an epoch of SHD's size, and dilated convolutions with cuDNN on and off."""
    import gpu_cases
    import torch

    device, of = _device(args), gpu_cases.TINY if args.dry_run else gpu_cases.FULL
    inputs, labels = gpu_cases.clips(device, of, of.batch, 0)
    lengths = (2.0,) if args.dry_run else (512.0, 64.0, 1000.0)
    for hidden in of.widths:
        for scheme in ("grid", "exact"):
            for longest in lengths if hidden == of.widths[0] else lengths[:1]:
                row: Row = {"case": f"EventProp step, {scheme}, 2 x {hidden}, delays up to {longest:g}"}
                try:
                    torch.manual_seed(0)
                    training = gpu_cases.Training(gpu_cases.Network(of, hidden, longest, scheme), device)
                    row |= gpu_cases.timed(lambda t=training: t.step(inputs, labels), device, of.repeats, 8.0)
                    moved, done = gpu_cases.eventprop_needs(of, hidden, training.spikes)
                    yield row | {"bytes": moved, "operations": done, "in": "float64", "spikes": training.spikes}
                except Exception as error:
                    yield row | {"error": _said(error)}
        yield from _epoch(device, of, hidden, lengths[0])
    yield from _workspaces(device, of, lengths[0], inputs, labels)
    yield from _peers(device, of, int(lengths[0]), inputs, labels)


def _workspaces(device, of, longest: float, inputs, labels) -> Iterator[Row]:
    """The same step with smaller and larger groups of samples."""
    import gpu_cases
    import torch

    from snn_delay_plugins.kernels.eventprop.triton import tables

    before = tables.SHARE_OF_CARD
    for share in (1 / 256, 1 / 8):
        row: Row = {"case": f"EventProp step, grid, 2 x {of.widths[0]}, buffers of 1/{1 / share:g} of the card's memory"}
        try:
            tables.SHARE_OF_CARD = share
            torch.manual_seed(0)
            training = gpu_cases.Training(gpu_cases.Network(of, of.widths[0], longest, "grid"), device)
            yield row | gpu_cases.timed(lambda t=training: t.step(inputs, labels), device, of.repeats, 4.0)
        except Exception as error:
            yield row | {"error": _said(error)}
        finally:
            tables.SHARE_OF_CARD = before


def _epoch(device, of, hidden: int, longest: float) -> Iterator[Row]:
    """All clips once, drawn on the device."""
    import gpu_cases
    import torch

    row: Row = {"case": f"EventProp epoch, grid, 2 x {hidden}, delays up to {longest:g}, {of.clips} clips"}
    try:
        torch.manual_seed(0)
        training = gpu_cases.Training(gpu_cases.Network(of, hidden, longest, "grid"), device)
        training.step(*gpu_cases.clips(device, of, of.batch, 0))
        start = time.perf_counter()
        for first in range(0, of.clips, of.batch):
            training.step(*gpu_cases.clips(device, of, min(of.batch, of.clips - first), first))
        if device.type == "cuda":
            torch.cuda.synchronize()
        yield row | {"ms": 1e3 * (time.perf_counter() - start), "repeats": 1}
    except Exception as error:
        yield row | {"error": _said(error)}


def _peers(device, of, longest: int, inputs, labels) -> Iterator[Row]:
    """DCLS + SpikingJelly, the network of Hammouamri et al.; in smaller batches where the card's memory needs it."""
    import gpu_cases
    import torch

    hidden = of.widths[0]
    name = f"DCLS + SpikingJelly step, 2 x {hidden}, delays up to {longest}"
    try:
        sys.path.append(str(CHECKOUT))
        from recipes.eventprop.cost import DilatedConvolutions
    except ImportError as error:
        yield {"case": name, "skipped": _said(error)}
        return
    for enabled in (True, False):
        batch = of.batch
        while True:
            row: Row = {"case": f"{name}, cuDNN {'on' if enabled else 'off, as published'}", "batch": batch}
            try:
                with gpu_cases.cudnn(enabled):
                    network = DilatedConvolutions([of.inputs, hidden, hidden, of.classes], longest)
                    training = gpu_cases.Training(network, device)
                    dense = torch.zeros(int(of.duration), batch, of.inputs, device=device)
                    sample = inputs.samples()
                    kept = sample < batch
                    dense[inputs.times[kept].long().clamp(max=int(of.duration) - 1), sample[kept], inputs.units[kept]] = 1.0
                    yield row | gpu_cases.timed(lambda t=training, x=dense: t.step(x, labels[: len(x[0])]), device, 3, 12.0)
                break
            except torch.OutOfMemoryError as error:
                training = dense = None
                torch.cuda.empty_cache()
                yield row | {"skipped": _said(error)}
                if batch < 2 or batch <= of.batch // 16:
                    break
                batch //= 4
            except Exception as error:
                yield row | {"error": _said(error)}
                break


SECTIONS: dict[str, Section] = {
    "limits": _limits, "checks": _checks, "bad input": _bad_input, "tests": _tests, "neurons": _neurons,
    "delays": _delays, "eventprop": _eventprop,
}  # fmt: skip


def _said(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {first[:300]}"


def _device_is_lost(args: argparse.Namespace) -> bool:
    """Whether the process can no longer compute there, as after a device-side assert."""
    import torch

    try:
        return float(torch.ones(2, device=_device(args)).sum()) != 2.0
    except RuntimeError:
        return True


def run_section(args: argparse.Namespace) -> None:
    """In its own process: rows, as they come, to a file of lines of JSON."""
    if args.dry_run:
        sys.path.insert(0, str(Path(__file__).parent))
        import triton_interpreter  # before anything imports triton

        from snn_delay_plugins.kernels.device import interpreted

        if "LAUNCHES" in os.environ:  # gpu_kernels.py wants to know what is launched
            import gpu_kernels

            gpu_kernels.written_down(Path(os.environ["LAUNCHES"]))
        else:
            triton_interpreter.expm1_of_numpy()
        context = interpreted()
        if args.section not in ("checks", "bad input"):  # which compare with the CPU's own
            context.__enter__()
    warnings.simplefilter("ignore")
    with Path(args.rows).open("a") as file:
        for row in SECTIONS[args.section](args):
            file.write(json.dumps(row) + "\n")
            file.flush()
        file.write(json.dumps({"end": True}) + "\n")


# ------------------------------------------------------------------------------------------------ the whole


def section_rows(name: str, args: argparse.Namespace, seconds: float) -> list[Row]:
    """Rows of a section, by as many workers as it can have, within its time."""
    workers, end = args.jobs if name == "checks" else 1, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda n: _worker_rows(name, args, n, workers, end, Path(folder)), range(workers))
        return [row for rows in found for row in rows]


def _worker_rows(name: str, args: argparse.Namespace, worker: int, workers: int, end: float, folder: Path) -> list[Row]:
    """Of a worker, until all is done or its time is over. One that crashes has a row that says so; where rows do not hang
    together, another process goes on with what comes after it."""
    rows: list[Row] = []
    while True:
        file, log = folder / f"{worker}-{len(rows)}.jsonl", folder / f"{worker}.log"
        command = [sys.executable, __file__, "--section", name, "--workers", str(workers), "--worker", str(worker)]
        command += ["--seed", str(args.seed), "--rows", str(file), "--done", str(len(rows))]
        command += ["--seconds", f"{end - time.monotonic():.1f}"]
        command += ["--dry-run"] * args.dry_run + (["--only", args.only] if args.only else [])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])}
        if args.dry_run:  # what is tiny runs sooner than it compiles
            environment["NUMBA_DISABLE_JIT"] = "1"
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=CHECKOUT)
            try:
                status = process.wait(max(0.1, end - time.monotonic()))
                why = f"exit status {status}"
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                why = "stopped: its time was over"
        lines = file.read_text().split("\n")[:-1] if file.exists() else []  # the last may have been cut
        found = [json.loads(line) for line in lines]
        if found and "end" in found[-1]:
            return rows + found[:-1]
        rows += found
        if not (found and found[-1].get("device lost")):
            rows.append({"incomplete": name, "error": why, "output": log.read_text()[-2000:]})
        if name != "checks" or why.startswith("stopped") or len(rows) > _MOST_ROWS:
            return rows


_MOST_ROWS = 1000


def card(dry_run: bool) -> dict[str, object]:
    """Its name, memory and processors; versions; nothing of the machine around it."""
    import torch

    versions = {"python": sys.version.split()[0], "torch": torch.__version__}
    for package in ("triton", "numba", "spikingjelly"):
        try:
            versions[package] = __import__("importlib.metadata", fromlist=["version"]).version(package)
        except Exception:
            continue
    if dry_run:
        return {"card": "none (dry run in Triton's interpreter)", "versions": versions}
    of = torch.cuda.get_device_properties(0)
    return {"card": of.name, "memory GiB": round(of.total_memory / 2**30), "processors": of.multi_processor_count,
            "capability": f"sm_{of.major}{of.minor}", "cuda": torch.version.cuda, "versions": versions}  # fmt: skip


def missing(dry_run: bool) -> list[str]:
    """What the whole needs and this machine lacks; better known before than after eight minutes."""
    import torch

    lacks = [name for name in ("triton", "numba", "numpy") if find_spec(name) is None]
    if dry_run:
        return lacks
    if not torch.cuda.is_available():
        lacks.append("a CUDA device that torch sees")
    if not any(shutil.which(x) for x in (os.environ.get("CC", "cc"), "gcc", "clang")):
        lacks.append("a C compiler, with which Triton builds what launches a kernel")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        lacks.append("Python.h (python3-dev), for the same")
    return lacks


def with_shares(results: dict[str, list[Row]]) -> None:
    """To every measured row: the two least times, and their share of the measured one."""
    most = {row["limit"]: row["per second"] for row in results.get("limits", []) if "limit" in row}
    for rows in results.values():
        for row in rows:
            if not (row.get("ms") and row.get("bytes") and {"bytes", row["in"]} <= set(most)):
                continue
            moving, computing = 1e3 * row["bytes"] / most["bytes"], 1e3 * row["operations"] / most[row["in"]]
            row |= {"ms at bandwidth": moving, "ms at arithmetic": computing, "share": max(moving, computing) / row["ms"]}


def wrong(results: dict[str, list[Row]]) -> list[Row]:
    """Rows that say that something is not as it should be."""

    def bad(row: Row) -> bool:
        return bool(row.get("error")) or False in (row.get("equal"), row.get("refused"), row.get("passed")) or bool(
            row.get("device lost")
        )  # fmt: skip

    return [row for rows in results.values() for row in rows if bad(row)]


def markdown(about: dict[str, object], results: dict[str, list[Row]]) -> str:
    """One table of everything."""
    checks, bad = results.get("checks", []), results.get("bad input", [])
    equal = sum(row.get("equal") is True for row in checks)
    lines = [f"# {about['card']}", "", f"{about}", "", f"Checks: {equal} of {len(checks)} equal. "
             f"Bad input: {sum(row.get('refused') is True for row in bad)} of {len(bad)} refused, the device still there. "
             f"Tests: {'; '.join(str(row.get('tests', row.get('error'))) for row in results.get('tests', [])) or 'none'}.",
             "", "| case | ms | MiB | GB | Gop | ms at bandwidth | ms at arithmetic | share of the limit |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in (row for rows in results.values() for row in rows if "case" in row):
        wrongly = row.get("error") or row.get("skipped")
        cells = [wrongly] + [""] * 6 if wrongly else [
            _number(row.get("ms")), _number(row.get("mib")), _number(row.get("bytes"), 1e9),
            _number(row.get("operations"), 1e9), _number(row.get("ms at bandwidth")), _number(row.get("ms at arithmetic")),
            _number(row.get("share")),
        ]  # fmt: skip
        batch = f", batch {row['batch']}" if "batch" in row else ""
        lines.append("| " + " | ".join([f"{row['case']}{batch}", *map(str, cells)]) + " |")
    failed = wrong(results)
    lines += [
        "",
        *(["Not as it should be:", ""] if failed else []),
        *(f"- `{json.dumps(row)[:600]}`" for row in failed),
        "",
    ]
    return "\n".join(lines)


def _number(value, unit: float = 1.0) -> str:
    return "" if value is None else f"{value / unit:.3g}"


def save(args: argparse.Namespace, about: dict, results: dict[str, list[Row]]) -> None:
    """What there is so far."""
    with_shares(results)
    args.into.mkdir(parents=True, exist_ok=True)
    name = "dry_run" if args.dry_run else re.sub(r"[^a-z0-9]+", "_", str(about["card"]).lower()).strip("_")
    for suffix, text in ((".json", json.dumps({**about, **results}, indent=1) + "\n"), (".md", markdown(about, results))):
        partial = args.into / f"{name}{suffix}.tmp"
        partial.write_text(text)
        partial.replace(args.into / f"{name}{suffix}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, in Triton's interpreter, with tiny sizes")
    parser.add_argument("--minutes", type=float, default=7.5, help="at most, of all sections together")
    parser.add_argument("--into", type=Path, default=CHECKOUT / "docs" / "benchmarks" / "gpu", help="folder of the results")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--only", help="checks whose name has this in it")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()) % 10**6, help="of the checks' inputs; default: fresh ones"
    )
    parser.add_argument(
        "--jobs", type=int, default=max(1, min(12, 3 * (os.cpu_count() or 1) // 4)), help="processes that check"
    )
    for name in ("--section", "--rows"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--worker", "--workers", "--done"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)  # that a section has
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: one process at least")
    if args.section:
        run_section(args)
        return 0
    if lacks := missing(args.dry_run):
        sys.exit(f"nothing was run, there is no {', no '.join(lacks)}")
    start, about, results = time.monotonic(), card(args.dry_run), {}
    about |= {"seed": args.seed, "command": " ".join(["python", "benchmarks/on_gpu.py", *sys.argv[1:]])}
    ahead = sum(SHARES[name] for name in args.sections)
    for name in args.sections:
        left = 60 * args.minutes - (time.monotonic() - start)
        began = time.monotonic()
        results[name] = section_rows(name, args, max(5.0, left * SHARES[name] / ahead))
        ahead -= SHARES[name]
        save(args, about, results)
        print(f"{name}: {len(results[name])} rows in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(markdown(about, results))
    return 1 if wrong(results) else 0


if __name__ == "__main__":
    sys.exit(main())
