"""Training: our step against the public Chronos recipe's loop, and against a bare loop on tensors that are ready; on a GPU also how much of the chip is used.

    python benchmarks/training.py [--size nano] [--batch 8] [--context 512] [--horizon 64] [--steps 12] [--rounds 3] [--precision fp32] [--makers 0] [--compile] [--json FILE]

speed  A T5 of the same size, batch and precision, trained in three ways that take turns, `rounds` times; a ratio is the median over the turns of the ratio of median times a step, least and most in brackets.
         public  The loop of the public recipe: its loader and its tokenising, one window at a time, in one worker (one Arrow file is one worker), Trainer with its settings. Written from its documentation.
         ours    `ChronosTrainer` on a `StoreSource` of the same trajectories, with an augmentation on every second window.
         bare    Forward, backward, clipping and a fused AdamW on one batch that is ready: the limit.
       Beside that the share of the time that our loop waits for data.
chip   On a GPU: samples a second, the share of the chip's dense bf16 peak (floating-point operations are counted product by product, attention included), and memory, for `small` models of the three families at context 512 in bf16, each beside
       its bare loop, with the seconds of a bare step that kernels of attention, of other products and of the rest take, the T5 also beside the public recipe. Batches are those of --chip-batches, halved where the memory does not suffice. Without a GPU it says so; --anyway runs it on the CPU on `nano` models, to see that it works.

--makers is the number of processes that make our batches, 0 for a thread. On a GPU steps are timed by its own events, without a stop between them; on the CPU in processor time of the training process, so that a busy machine disturbs less (the worker
of the public loader is a process of its own and does not count; our thread does). Waiting is by the clock.
"""

import argparse
import gc
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import torch
from torch.autograd import DeviceType
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import profile
from torch.utils.data import IterableDataset
from torch.utils.flop_counter import FlopCounterMode
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from windows import public, write_store

from chronos_dysts.augmentations import Mixture, RandomAffineTransform, RandomConvexCombinationTransform
from chronos_dysts.models import FAMILIES, build, for_training, model_inputs
from chronos_dysts.store import open_store, write_json
from chronos_dysts.training import ChronosTrainer
from chronos_dysts.windows import StoreSource

PEAKS = {"H100 PCIe": 756, "H100": 989, "H200": 989, "B200": 2250, "A100": 312, "L40S": 362, "L4": 121, "A10G": 70, "RTX 4090": 165}
"""Dense bf16 peak in TFLOP/s by the maker's data sheets, by what the name of the device holds."""
KERNELS = {"attention": ("flash", "fmha", "sdpa", "cudnn"), "products": ("nvjet", "gemm", "gemv", "cutlass", "xmma", "cublas")}
"""What the names of kernels hold; a kernel is of the first kind that fits, and of "the rest" where none does."""
SKIPPED = 3  # steps at the start of a round that are not timed


def mark(device: torch.device):
    """A moment: an event among what the GPU has to do, else seconds of the processor."""
    if device.type != "cuda":
        return time.process_time()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def step_seconds(marks: list) -> float:
    """Median seconds between the marks at the ends of steps."""
    if isinstance(marks[0], float):
        return statistics.median(b - a for a, b in zip(marks[SKIPPED - 1:], marks[SKIPPED:]))
    marks[-1].synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in zip(marks[SKIPPED - 1:], marks[SKIPPED:])) / 1e3


def settle(device: torch.device) -> None:
    """Give back what the model before has used."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


class Clock(TrainerCallback):
    """When steps end."""

    def __init__(self, device: torch.device):
        self.device, self.marks, self.clock = device, [], []

    def on_step_end(self, args, state, control, **kwargs):
        self.marks.append(mark(self.device))
        self.clock.append(time.perf_counter())

    def step(self) -> float:
        return step_seconds(self.marks)


class PublicWindows(IterableDataset):
    def __init__(self, folder: Path, context: int, horizon: int):
        self.arguments = folder, context, horizon, False

    def __iter__(self):
        return public(*self.arguments)


def arguments(args, folder: str, batch: int, **more) -> TrainingArguments:
    return TrainingArguments(output_dir=folder, max_steps=args.steps + SKIPPED, per_device_train_batch_size=batch, learning_rate=1e-3, lr_scheduler_type="linear", optim="adamw_torch_fused", report_to=[], disable_tqdm=True, save_strategy="no",
                             logging_steps=500, bf16=args.precision == "bf16", use_cpu=not torch.cuda.is_available(), torch_compile=args.compile, remove_unused_columns=False, **more)


def fresh(family: str, size: str, args):
    return build(family, size, context_length=args.context, prediction_length=args.horizon)


def with_public(folder: Path, size: str, batch: int, args) -> float:
    """Median seconds a step."""
    with tempfile.TemporaryDirectory() as place:
        settings = arguments(args, place, batch, dataloader_num_workers=1)
        clock = Clock(settings.device)
        trainer = Trainer(model=fresh("chronos-t5", size, args), args=settings, train_dataset=PublicWindows(folder, args.context, args.horizon), callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.step()


def with_ours(folder: Path, family: str, size: str, batch: int, args) -> tuple[float, float]:
    """Median seconds a step, and the share of them that is waiting."""
    augmentation = Mixture([RandomAffineTransform(), RandomConvexCombinationTransform()], [0.25, 0.25])
    source = StoreSource(open_store(folder / "files"), args.context, args.horizon, batch, augmentation=augmentation, channels="joint" if family == "chronos-2" else "one")
    with tempfile.TemporaryDirectory() as place:
        settings = arguments(args, place, batch, ignore_data_skip=True, label_names=["target"], logging_nan_inf_filter=False, dataloader_num_workers=args.makers)
        clock = Clock(settings.device)
        trainer = ChronosTrainer(fresh(family, size, args), settings, source, {}, callbacks=[Waiting(clock), clock])
        trainer.remove_callback(PrinterCallback)
        clock.trainer = trainer
        trainer.train()
        trainer.close()
    return clock.step(), (trainer.waited - clock.waited) / (clock.clock[-1] - clock.clock[SKIPPED - 1])


class Waiting(TrainerCallback):
    """What was waited for up to the first step that is timed."""

    def __init__(self, clock: Clock):
        self.clock = clock

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == SKIPPED:
            self.clock.waited = self.clock.trainer.waited


def bare(folder: Path, family: str, size: str, batch: int, args) -> tuple[float, dict[str, float]]:
    """Median seconds a step on one batch that is ready, and those of the GPU's kernels in one more step, by kind."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = for_training(fresh(family, size, args)).to(device).train()
    source = StoreSource(open_store(folder / "files"), args.context, args.horizon, batch, channels="joint" if family == "chronos-2" else "one")
    inputs = {name: x.to(device) if torch.is_tensor(x) else x for name, x in model_inputs(model, source.batch(0)).items()}
    source.close()
    optimiser, forward = torch.optim.AdamW(model.parameters(), 1e-3, fused=True), torch.compile(model) if args.compile else model

    def step():
        with torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16"):
            loss = forward(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    times = []
    for _ in range(args.steps + SKIPPED):
        step()
        times.append(mark(device))
    seconds = step_seconds(times)
    return seconds, kernel_seconds(step) if device.type == "cuda" else {}


def kernel_seconds(step) -> dict[str, float]:
    """Seconds of a step that the GPU spends in attention, in other products and in the rest."""
    with profile() as profiler:
        step()
        torch.cuda.synchronize()
    found = dict.fromkeys([*KERNELS, "the rest"], 0.0)
    for event in profiler.key_averages():
        if event.device_type == DeviceType.CUDA and event.self_device_time_total:
            found[next((kind for kind, parts in KERNELS.items() if any(part in event.key.lower() for part in parts)), "the rest")] += event.self_device_time_total / 1e6
    return found


def spread(values: list[float]) -> dict:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def speed_part(folder: Path, args, keep) -> None:
    rows = []
    for batch in args.batch:
        rows.append(speed_at(folder, batch, args))
        keep(rows)


def speed_at(folder: Path, batch: int, args) -> dict:
    seconds: dict[str, list[float]] = {"public": [], "ours": [], "bare": []}
    waits, device = [], torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for _ in range(args.rounds):
        settle(device)
        seconds["public"].append(with_public(folder, args.size, batch, args))
        ours, waited = with_ours(folder, "chronos-t5", args.size, batch, args)
        seconds["ours"].append(ours)
        waits.append(waited)
        seconds["bare"].append(bare(folder, "chronos-t5", args.size, batch, args)[0])
    ratios = {"public": spread([p / o for p, o in zip(seconds["public"], seconds["ours"])]), "bare": spread([b / o for b, o in zip(seconds["bare"], seconds["ours"])])}
    print(f"chronos-t5 {args.size}, context {args.context}, horizon {args.horizon}, batches of {batch}, {args.precision}{', compiled' if args.compile else ''}; {args.rounds} rounds of {args.steps} steps", flush=True)
    for name, text in (("public", "the public recipe's loop"), ("ours", "ours"), ("bare", "a bare loop on one ready batch")):
        print(f"  {text:32}{batch / statistics.median(seconds[name]):9.1f} samples/s{'' if torch.cuda.is_available() else ' of processor time'}")
    for name, text in (("public", "the speed of the public loop"), ("bare", "the speed of the bare loop")):
        r = ratios[name]
        print(f"  ours has {r['median']:.2f} times [{r['least']:.2f}, {r['most']:.2f}] {text}")
    print(f"  waiting for data: {statistics.median(waits):.2%} of the time [{min(waits):.2%}, {max(waits):.2%}]", flush=True)
    return {"batch": batch, "seconds a step": seconds, "ours over public": ratios["public"], "ours over bare": ratios["bare"], "waiting": spread(waits)}


def operations(folder: Path, family: str, size: str, batch: int, args) -> int:
    """Floating-point operations of the products in a forward and a backward pass; nothing is counted twice where a kernel computes it again."""
    model = fresh(family, size, args)
    source = StoreSource(open_store(folder / "files"), args.context, args.horizon, batch, channels="joint" if family == "chronos-2" else "one")
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # attention as plain products: not every kernel is counted
        model(**model_inputs(model, source.batch(0))).loss.backward()
    return counter.get_total_flops()


def chip_part(folder: Path, args, keep) -> None:
    gpu = torch.cuda.is_available()
    if not (gpu or args.anyway):
        print("no GPU: nothing to say about a chip")
        return
    name = torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine()
    peak = next((peak for part, peak in PEAKS.items() if part in name), None) if gpu else None
    size, device = "small" if gpu else "nano", torch.device("cuda" if gpu else "cpu")
    lines = []
    for family, batch in zip(FAMILIES[:3], args.chip_batches if gpu else (2, 2, 2)):  # those that are published
        if family not in args.families:
            continue
        each = operations(folder, family, size, 1, args)
        while True:
            settle(device)
            try:
                seconds, waited = with_ours(folder, family, size, batch, args)
                memory = torch.cuda.max_memory_allocated() / 2**30 if gpu else None
                settle(device)
                limit, kernels = bare(folder, family, size, batch, args)
                break
            except torch.OutOfMemoryError:
                if batch == 1:
                    raise
            batch //= 2  # outside the handler, which holds on to what does not fit
        count = each * batch
        line = {"family": family, "batch": batch, "samples per second": batch / seconds, "bare samples per second": batch / limit, "TFLOP/s": count / seconds / 1e12, "MFU": count / seconds / 1e12 / peak if peak else None, "bare MFU": count / limit / 1e12 / peak if peak else None,
                "GiB": memory, "waiting": waited, "GFLOP a sample": each / 1e9, "kernels": kernels}
        if family == "chronos-t5":
            settle(device)
            line["public samples per second"] = batch / with_public(folder, size, batch, args)
            line["public GiB"] = torch.cuda.max_memory_allocated() / 2**30 if gpu else None
        lines.append(line)
        print("  " + ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in (line | kernels).items() if key != "kernels"), flush=True)
        keep({"device": name, "peak TFLOP/s": peak, "size": size, "models": lines})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("context", 512), ("horizon", 64), ("steps", 12), ("rounds", 3), ("trajectories", 16), ("length", 4096), ("makers", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 256] if torch.cuda.is_available() else [8])
    parser.add_argument("--chip-batches", type=int, nargs=3, default=[256, 4096, 1024], help="rows for the T5 and the Bolt, windows of three coordinates for Chronos-2")
    parser.add_argument("--families", nargs="+", choices=FAMILIES[:3], default=list(FAMILIES[:3]), help="of the chip part")
    parser.add_argument("--size", default="tiny" if torch.cuda.is_available() else "nano")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16" if torch.cuda.is_available() else "fp32")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model on all sides")
    parser.add_argument("--parts", default="speed,chip")
    parser.add_argument("--anyway", action="store_true", help="the chip part without a GPU")
    parser.add_argument("--json", type=Path, help="write the measurements to this file too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    found = {"versions": {name: version(name) for name in ("torch", "transformers", "gluonts", "chronos-forecasting")}, "machine": platform.machine(), "cores": os.cpu_count(), "device": device, "load": os.getloadavg()[0],
             "settings": {name: value for name, value in vars(args).items() if name != "json"}}
    print(f"{platform.machine()}, {os.cpu_count()} cores, {device}, load {found['load']:.1f}, " + ", ".join(f"{name} {v}" for name, v in found["versions"].items()))
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder), args.trajectories, args.length)
        for name in args.parts.split(","):
            if name not in ("speed", "chip"):
                parser.error(f"there is no part {name!r}; there are speed, chip")
            def keep(value, name=name):
                found[name] = value
                if args.json:  # line by line
                    write_json(found, args.json)
            {"speed": speed_part, "chip": chip_part}[name](Path(folder), args, keep)


if __name__ == "__main__":
    main()
