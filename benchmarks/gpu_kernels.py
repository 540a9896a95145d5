"""Registers, spills, shared memory and occupancy of every Triton kernel, from the compiler, without a card.

    python benchmarks/gpu_kernels.py [--only NAME] [--processes 2]

``benchmarks/on_gpu.py --dry-run`` is run with every launch written down: kernel, types of the arguments, constants, warps.
Each is then compiled for sm_80 and sm_90 and what the assembler says of it is read: what is compiled is what is launched.
Written to docs/benchmarks/gpu/kernels.json, and the table to the terminal.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
CAPABILITIES = (80, 90)
_THREADS, _REGISTERS, _BLOCKS = 2048, 65536, 32  # of a processor of sm_80 and sm_90
_SHARED = {80: 164 * 1024, 90: 228 * 1024}
_TYPES = {"float32": "*fp32", "float64": "*fp64", "int32": "*i32", "int64": "*i64", "bool": "*i1"}


def written_down(file: Path) -> None:
    """From now on every launch in the interpreter adds a line to the file."""
    import inspect

    import torch
    from triton.runtime import interpreter

    run, seen = interpreter.InterpretedFunction.run, set()

    def run_and_write(self, *args, grid, warmup, **kwargs):
        options = {name: kwargs[name] for name in ("num_warps", "enable_fp_fusion", "maxnreg") if name in kwargs}
        given = {name: value for name, value in kwargs.items() if name in self.arg_names}
        bound = inspect.signature(self.fn).bind(*args, **given).arguments
        types, constants = {}, {}
        for name, value in bound.items():
            if "constexpr" in str(inspect.signature(self.fn).parameters[name].annotation):
                types[name], constants[name] = "constexpr", value
            elif isinstance(value, torch.Tensor):
                types[name] = _TYPES[str(value.dtype).removeprefix("torch.")]
            else:
                types[name] = "fp32" if isinstance(value, float) else "i32"
        launch = {
            "module": self.fn.__module__,
            "kernel": self.fn.__name__,
            "types": types,
            "constants": constants,
        } | options
        line = json.dumps(launch, sort_keys=True)
        if line not in seen:
            seen.add(line)
            with file.open("a") as lines:
                lines.write(line + "\n")
        return run(self, *args, grid=grid, warmup=warmup, **kwargs)

    interpreter.InterpretedFunction.run = run_and_write


def launches(file: Path) -> list[dict]:
    """One of each kernel and constants: those of layers of a realistic size, and of no more than two dtypes."""
    found = {}
    for line in file.read_text().splitlines():
        launch = json.loads(line)
        constants = launch["constants"]
        if "recurrent" in launch["kernel"] or constants.get("RECURRENT"):  # a program owns the layer, few in tests
            constants["BLOCK"], launch["num_warps"] = 256, 8
        found[json.dumps(launch, sort_keys=True)] = launch
    return list(found.values())


def compiled(launch: dict, capability: int) -> dict:
    """What the assembler says. Pointers are aligned as torch aligns them."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    function = getattr(importlib.import_module(launch["module"]), launch["kernel"])
    aligned = {(n,): [["tt.divisibility", 16]] for n, name in enumerate(function.arg_names) if "*" in launch["types"][name]}
    source = ASTSource(function, launch["types"], launch["constants"], aligned)
    options = {name: launch[name] for name in ("num_warps", "enable_fp_fusion", "maxnreg") if name in launch}
    kernel = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    warps, shared = kernel.metadata.num_warps, kernel.metadata.shared
    registers, spilled = _resources(kernel.asm["cubin"])
    assembly = kernel.asm["ptx"]
    width = {1: "", 2: "v2.", 4: "v4."}
    loads = {n: len(re.findall(rf"ld\.global\.(?:\w+\.)*?{w}[bfus]\d+", assembly)) for n, w in width.items()}
    return {
        "registers": registers, "spilled bytes": spilled, "shared": shared, "warps": warps,
        "occupancy": round(occupancy(registers, shared, warps, capability), 2),
        "vector loads": loads[2] + loads[4], "atomics": len(re.findall(r"\b(?:atom|red)\.", assembly)),
    }  # fmt: skip


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes that it keeps in local memory."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"REG:(\d+)", said)[1]), max(map(int, re.findall(r"(?:STACK|LOCAL):(\d+)", said)), default=0)


def occupancy(registers: int, shared: int, warps: int, capability: int) -> float:
    """Share of the threads that a processor of sm_80 or sm_90 can hold; registers go to warps in units of 256."""
    per_warp = -(-max(registers, 1) * 32 // 256) * 256
    by_registers = _REGISTERS // per_warp // warps
    by_shared = _SHARED[capability] // (shared + 1024)
    return min(by_registers, by_shared, _BLOCKS, _THREADS // (32 * warps)) * 32 * warps / _THREADS


def _row(job: tuple[dict, int]) -> dict:
    launch, capability = job
    pointers = sorted({t[1:] for t in launch["types"].values() if t.startswith("*fp")})
    chosen = {k: v for k, v in launch["constants"].items() if isinstance(v, bool) or k == "BLOCK"}
    row = {"kernel": _name(launch), "sm": capability, "in": "/".join(pointers), "constants": chosen}
    try:
        return row | compiled(launch, capability)
    except Exception as error:
        return row | {"error": f"{type(error).__name__}: {str(error)[:300]}"}


def _name(launch: dict) -> str:
    return name(launch["module"], launch["kernel"])


def name(module: str, kernel: str) -> str:
    """As the table has it."""
    short = module.removeprefix("snn_delay_plugins.kernels.").replace(".triton", "").replace("_kernels", "")
    return f"{short}.{kernel.strip('_').removesuffix('_kernel')}"


def in_the_source() -> set[str]:
    """Names of all kernels: functions that are called as ``kernel[grid](...)`` somewhere in the package."""
    package, found = CHECKOUT / "snn_delay_plugins", set()
    trees = {file: ast.parse(file.read_text()) for file in package.rglob("*.py")}
    functions = {file: {x.name for x in tree.body if isinstance(x, ast.FunctionDef) and x.decorator_list}
                 for file, tree in trees.items()}  # fmt: skip
    for file, tree in trees.items():
        modules = {  # of the same folder, by the name that this file gives them
            x.asname or x.name: file.with_name(f"{x.name}.py")
            for imported in ast.walk(tree) if isinstance(imported, ast.ImportFrom) and not imported.module
            for x in imported.names
        }  # fmt: skip
        for call in ast.walk(tree):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Subscript)):
                continue
            called = call.func.value
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                home, kernel = modules.get(called.value.id), called.attr
            else:
                home, kernel = file, getattr(called, "id", "")
            if home in functions and kernel in functions[home]:
                module = ".".join(home.relative_to(CHECKOUT).with_suffix("").parts)
                found.add(name(module, kernel))
    return found


def table(rows: list[dict]) -> str:
    """The worst of every kernel: most registers."""
    worst: dict[str, dict[int, dict]] = {}
    for row in rows:
        if "registers" in row:
            of = worst.setdefault(f"{row['kernel']} ({row['in']})", {})
            if row["sm"] not in of or row["registers"] > of[row["sm"]]["registers"]:
                of[row["sm"]] = row
    lines = ["| kernel | warps | registers sm_80 / sm_90 | spilled bytes | shared bytes | occupancy sm_80 / sm_90 |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for name, of in sorted(worst.items()):
        each = [of[c] for c in CAPABILITIES if c in of]
        cells = (" / ".join(str(row[key]) for row in each) for key in ("registers", "spilled bytes", "shared", "occupancy"))
        lines.append(f"| {name} | {each[0]['warps']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="kernels whose name has this in it; the rows of others stay")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--launches", type=Path, help="of a dry run that was written down before")
    args = parser.parse_args()
    file = args.launches or Path(tempfile.mkdtemp()) / "launches.jsonl"
    if not file.exists():
        dry = [
            sys.executable,
            str(CHECKOUT / "benchmarks" / "on_gpu.py"),
            "--dry-run",
            "--sections",
            "checks",
            "--minutes",
            "30",
        ]
        environment = {**os.environ, "LAUNCHES": str(file)}
        subprocess.run([*dry, "--into", str(file.parent)], check=True, env=environment, stdout=subprocess.DEVNULL)
    jobs = [(launch, c) for launch in launches(file) for c in CAPABILITIES if args.only in _name(launch)]
    os.environ.pop("TRITON_INTERPRET", None)
    into = CHECKOUT / "docs" / "benchmarks" / "gpu"
    into.mkdir(parents=True, exist_ok=True)
    file = into / "kernels.json"
    rows = [row for row in json.loads(file.read_text()) if args.only not in row["kernel"]] if file.exists() else []
    with ProcessPoolExecutor(args.processes) as pool:
        for row in pool.map(_row, jobs):
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
            file.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
