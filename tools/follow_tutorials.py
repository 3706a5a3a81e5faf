"""The tutorials, followed as a newcomer would: with the page's own words, in an empty folder, in an environment of its own.

    python -m venv fresh && fresh/bin/pip install -r requirements.txt && fresh/bin/pip install "dist/….whl[baselines,dask]"
    python tools/follow_tutorials.py --python fresh/bin/python [NAME …]

Each `sh` block of a tutorial is given to a shell and each visible cell to one Python, in the order of the page, with the
environment's programs first on the PATH. What no newcomer can do on one machine without a network (ELSEWHERE) is left out, and
said. Times and the ends of what was shown go to nbs/results/tutorials.json, from where the pages quote them.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = ("first_forecast", "own_data", "fine_tune", "scale_out")
RESULTS = ROOT / "nbs/results/tutorials.json"
# A block with one of these is not run here.
ELSEWHERE = {
    r"^pip install": "the environment is there",
    r"tcp://": "needs a cluster",
    r"--nproc-per-node 8": "needs eight GPUs",
}
SH = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
FLAG = re.compile(r"^\s*#\s*\|\s*(.+?)\s*$", re.MULTILINE)

# Runs in the environment that is tried: a step after the other, as JSON lines in and out.
DRIVER = r"""
import ast, contextlib, io, json, os, resource, subprocess, sys, time

def cpu():
    return sum(getattr(resource.getrusage(who), name) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN) for name in ("ru_utime", "ru_stime"))

def shown(value):
    if hasattr(value, "savefig"):  # as JupyterLab does it
        value.savefig(io.BytesIO(), format="png")
        return ""
    return "" if value is None else value.to_string() if hasattr(value, "to_string") else repr(value)

names = {"__name__": "__main__"}
for line in sys.stdin:
    step = json.loads(line)
    began, used, said = time.monotonic(), cpu(), io.StringIO()
    if step["kind"] == "sh":
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", step["source"]], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        if done.returncode:
            sys.exit(f"exit {done.returncode} from\n{step['source']}\n{done.stdout}")
        text = done.stdout
    else:
        tree = ast.parse(step["source"])
        last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(said):
            exec(compile(tree, "<cell>", "exec"), names)
            text = shown(eval(compile(last, "<cell>", "eval"), names)) if last else ""
        text = said.getvalue() + text
    print(json.dumps({"seconds": round(time.monotonic() - began, 2), "cpu_seconds": round(cpu() - used, 2), "text": text}), flush=True)
"""
ABOUT = "import json; from chronos_dysts.evaluation import environment; import chronos_dysts; print(json.dumps([environment(), chronos_dysts.__file__]))"


def steps(name, root=ROOT):
    """What there is to do on a page, in its order: (kind, source, why it is left out or None); kind is "sh" or "python"."""
    found = []
    for cell in json.loads((root / f"nbs/tutorials/{name}.ipynb").read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for block in SH.findall(source):
                why = next((reason for pattern, reason in ELSEWHERE.items() if re.search(pattern, block, re.MULTILINE)), None)
                found.append(("sh", re.sub(r"\s*\\\n\s*", " ", block.strip()), why))  # a command over several lines is one
        elif cell["cell_type"] == "code":
            flags = {flag.replace(" ", "") for flag in FLAG.findall(source)}
            if not flags & {"hide", "echo:false"}:
                found.append(("python", FLAG.sub("", source).strip(), None))
    return found


def end_of(kind, text, lines=4):
    """The last lines of what a command said; all that a cell shows."""
    said = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(said[-lines:] if kind == "sh" else said)


def follow(name, python, root=ROOT):
    """Do what the page says; returns what each step took and showed. Exits with the step at which a newcomer would be stuck."""
    with tempfile.TemporaryDirectory() as folder:
        env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        env |= {"PATH": f"{python.parent}{os.pathsep}{env['PATH']}", "MPLBACKEND": "agg", "HF_HUB_OFFLINE": "1"}
        driver = subprocess.Popen([python, "-c", DRIVER], cwd=folder, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        done = []
        for kind, source, why in steps(name, root):
            step = {"kind": kind, "source": source}
            if why is None:
                driver.stdin.write(json.dumps(step) + "\n")
                driver.stdin.flush()
                answer = driver.stdout.readline()
                if not answer:
                    driver.wait()
                    sys.exit(f"{name}: a newcomer gets stuck at\n{source}")
                answer = json.loads(answer)
                step |= {"seconds": answer["seconds"], "cpu_seconds": answer["cpu_seconds"], "shown": end_of(kind, answer["text"])}
                print(f"{name}: {answer['seconds']:7.1f} s, {answer['cpu_seconds']:6.1f} s of the processor: {source.splitlines()[0][:90]}", flush=True)
            else:
                step["left_out"] = why
            done.append(step)
        driver.stdin.close()
        driver.wait()
    return done


def clock(seconds):
    """So many seconds in words."""
    return f"{seconds:.0f} seconds" if seconds < 99.5 else f"{seconds / 60:.1f} minutes"


def sentence(record):
    """What a page says of its own time."""
    ran = [step for step in record["steps"] if "seconds" in step]
    least, most = record["load"]
    slowest = max(ran, key=lambda step: step["seconds"])
    lines = slowest["source"].splitlines()
    what = f"`{lines[0][:60]}{' …' * (len(lines[0]) > 60)}`" if slowest["kind"] == "sh" else "the imports" if lines[-1].startswith(("from ", "import ")) else f"the cell that ends with `{lines[-1][:60]}{' …' * (len(lines[-1]) > 60)}`"
    load = f"{least:.0f}" if f"{least:.0f}" == f"{most:.0f}" else f"{least:.0f} to {most:.0f}"
    busy = f" that other work kept busy (load {load})" if most > 2.5 else ""
    left = sorted({step["left_out"] for step in record["steps"] if "left_out" in step} - {ELSEWHERE["^pip install"]})
    return (f"*All of this page took **{clock(record['seconds'])}** by the clock and {clock(record['cpu_seconds'])} of the processor, when it was followed as a newcomer would: in an empty folder and a fresh environment "
            f"(Python {record['python']}, the tested versions, the package as it is installed and not as it lies in the repository), each command and each visible cell in its order, on {record['hardware']}{busy}, without a GPU or a network. "
            f"The longest part was {what}, {clock(slowest['seconds'])}.{' Left out: what ' + ' and what '.join(left) + '.' if left else ''}*")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(TUTORIALS)} (default: all)")
    parser.add_argument("--python", type=Path, required=True, help="the Python of the environment in which they are followed")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(TUTORIALS):
        parser.error(f"there is no tutorial {', '.join(sorted(unknown))}; there are {', '.join(TUTORIALS)}")
    # Not resolved: the Python of an environment is a link to that which made it.
    python = Path(os.path.abspath(args.python))
    with tempfile.TemporaryDirectory() as folder:
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        about, module = json.loads(subprocess.run([python, "-c", ABOUT], cwd=folder, env=env, text=True, capture_output=True, check=True).stdout)
    if Path(module).is_relative_to(ROOT) and "site-packages" not in Path(module).parts:
        parser.error(f"that environment takes chronos_dysts from {ROOT.name}/, as no newcomer's does: install the wheel into it")
    for name in args.names or TUTORIALS:
        load = [os.getloadavg()[0]]
        done = follow(name, python)
        load.append(os.getloadavg()[0])
        record = {"python": about["python"], "hardware": about["hardware"], "versions": about["versions"], "load": [round(min(load), 1), round(max(load), 1)],
                  "seconds": round(sum(step.get("seconds", 0) for step in done), 1), "cpu_seconds": round(sum(step.get("cpu_seconds", 0) for step in done), 1), "steps": done}
        records = json.loads(args.output.read_text(encoding="utf-8")) if args.output.exists() else {}
        records[name] = record | {"sentence": sentence(record)}
        text = json.dumps(dict(sorted(records.items())), indent=1, ensure_ascii=False) + "\n"
        partial = args.output.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(args.output)
        print(f"{name}: {record['seconds']} s, {record['cpu_seconds']} s of the processor", flush=True)


if __name__ == "__main__":
    main()
