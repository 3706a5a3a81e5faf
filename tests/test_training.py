"""Training: every family, exact resume, the same result for the same work, and what is refused before anything is computed."""

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline
from omegaconf import OmegaConf
from rich.console import Console
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from chronos_dysts import models, training
from chronos_dysts.cli import compose, main
from chronos_dysts.store import Trajectory, open_store, write_json, write_trajectory
from chronos_dysts.tokenizers import QuantileBins, make_tokenizer, tokenizer_of
from chronos_dysts.training import COMPLETE, ChronosTrainer, Stopped, TrainConfig, last_checkpoint, train
from chronos_dysts.windows import StoreSource

SIZE = {"size": "nano", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "dropout_rate": 0.0, "initializer_factor": 0.3}
FAMILIES = models.FAMILIES


def size_of(family, **more):
    "A tiny geometry of a family, with some settings of one's own."
    return {key: value for key, value in SIZE.items() if key != "d_kv" or family != "chronos-dysts"} | more



def write_sines(folder, names, first=0):
    "A system of three coordinates for each name; sums of sines."
    for s, name in enumerate(names, first):
        rng = np.random.default_rng(s)
        t, w = np.arange(300), rng.uniform(0.05, 0.4, (3, 2, 1))
        target = np.sin(w * t + rng.uniform(0, 6, (3, 2, 1))).sum(1) * 10
        write_trajectory(Trajectory(target.astype(np.float32), f"{name}/0", name, {}, np.zeros(3), 0.1, 1.0, 0), folder / name / "0_T-300.arrow")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    "Four systems to train on."
    folder = tmp_path_factory.mktemp("data")
    write_sines(folder / "train", "ABCD")
    return folder


@pytest.fixture(scope="module")
def judged_dir(tmp_path_factory):
    "Four systems to train on, two to judge by."
    folder = tmp_path_factory.mktemp("judged")
    write_sines(folder / "train", "ABCD")
    write_sines(folder / "validation", "VW", 10)
    return folder


@pytest.fixture(scope="module")
def bases(data_dir, tmp_path_factory):
    "A checkpoint of each family to fine-tune."
    folder, made = tmp_path_factory.mktemp("bases"), {}
    for family in FAMILIES:
        model = models.build(family, size_of(family), context_length=32, prediction_length=16, n_tokens=64 if family == "chronos-t5" else None)
        if family == "chronos-dysts":  # begins with heads of zeros, behind which nothing learns
            with torch.no_grad():
                for p in model.parameters():
                    if not p.any(): p.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
        made[family] = models.save(model, folder / family)
    return made


def configuration(data_dir, output_dir, family="chronos-bolt", name="run", **more):
    "A run of 8 steps with a tiny model."
    of_train = dict(max_steps=8, save_steps=3, logging_steps=2, per_device_train_batch_size=4, learning_rate=3e-3, warmup_steps=2) | more.pop("train", {})
    new = {} if "model_id" in more else dict(family=family, size=size_of(family), n_tokens=64 if family == "chronos-t5" else None)
    return new | dict(run_name=name, output_dir=str(output_dir), data_dir=str(data_dir), context_length=32, prediction_length=16, train=of_train) | more


def run(config, **kwargs):
    out = io.StringIO()
    return train(config, Console(file=out, width=500, force_terminal=False), **kwargs), out.getvalue()


def weights(checkpoint): return models.load_model(checkpoint).state_dict()


def equal(a, b): return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Stop(Exception): pass


def stopping_at(monkeypatch, step):
    original = ChronosTrainer.compute_loss

    def compute_loss(self, *args, **kwargs):
        if self.state.global_step == step: raise Stop
        return original(self, *args, **kwargs)
    monkeypatch.setattr(ChronosTrainer, "compute_loss", compute_loss)


# ---- every family, to a checkpoint that others read ----

@pytest.mark.parametrize("family", FAMILIES)
def test_train_save_and_reload_in_plain_chronos_forecasting(family, data_dir, tmp_path):
    result, said = run(configuration(data_dir, tmp_path, family))
    assert result.steps == 8 and [step for step, _ in result.losses] == [2, 3, 4, 6, 8] and all(np.isfinite(loss) for _, loss in result.losses)
    assert "step 2/8" in said and "samples/s" in said and f"Made {result.directory}" in said and "chronos-dysts evaluate" in said
    plain = BaseChronosPipeline.from_pretrained(result.directory)
    context = torch.randn(2, 32) if family != "chronos-2" else torch.randn(2, 3, 32)
    assert all(q.isfinite().all() for q in plain.predict_quantiles(context, prediction_length=16)[0])
    assert models.load(result.directory).forecast(np.random.default_rng(0).standard_normal((2, 3, 32)), 16).median.shape == (2, 3, 16)
    made = result.made
    assert made["systems"] == list("ABCD") and made["steps"] == 8 and made["data"]["trajectories"] == 4 and made["standardise"] is True and made["family"] == family
    assert not list(result.directory.glob("*.bin")) and (result.directory / "train.yaml").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_training_lowers_the_loss(family, data_dir, tmp_path):
    result, _ = run(configuration(data_dir, tmp_path, family, train=dict(max_steps=200, logging_steps=25, save_steps=1000, per_device_train_batch_size=8)))
    assert result.losses[-1][1] < 0.9 * result.losses[0][1]


# ---- exact resume ----

@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_that_was_stopped_ends_with_the_same_weights(family, data_dir, tmp_path, monkeypatch):
    size = size_of(family, dropout_rate=0.2)  # so that the random state counts
    whole, _ = run(configuration(data_dir, tmp_path, family, "whole", size=size, augment={"transforms": ["RandomAffineTransform"]}))
    config = configuration(data_dir, tmp_path, family, "stopped", size=size, augment={"transforms": ["RandomAffineTransform"]})
    with monkeypatch.context() as patch:
        stopping_at(patch, 5)
        with pytest.raises(Stop): run(config)
    again, said = run(config)
    assert again.resumed_from == 3 and "Going on from" in said
    assert equal(weights(whole.directory), weights(again.directory)) and whole.losses == again.losses


@pytest.mark.parametrize("family", [family if family == "chronos-bolt" else pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES])
def test_killed(family, data_dir, tmp_path):
    "kill -9 in the middle of a run in a process of its own, and the same command again."
    config = configuration(data_dir, tmp_path, family, "killed", size=size_of(family, dropout_rate=0.2), average=0.9, train=dict(max_steps=100, save_steps=5, logging_steps=100))
    code = textwrap.dedent(f"""
        from chronos_dysts.training import train
        train({config!r})""")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    directory, deadline = tmp_path / "killed", time.monotonic() + 90
    while last_checkpoint(directory) is None and time.monotonic() < deadline and process.poll() is None: time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (directory / "final").exists(), process.stderr.read().decode()[-2000:]
    resumed, _ = run(config)
    assert 0 < resumed.resumed_from < 100
    torch.set_num_threads(1)
    whole, _ = run(config | {"run_name": "whole"})
    assert equal(weights(whole.directory), weights(resumed.directory))


@pytest.mark.parametrize("family, name", [("chronos-bolt", "SIGTERM"), ("chronos-t5", "SIGINT")])
def test_a_signal_is_answered_at_the_end_of_the_step(family, name, judged_dir, tmp_path, monkeypatch):
    "A checkpoint of the very step, between those of save_steps; the same call goes on, to the same weights, averages and choice; the handlers are as before."
    number, original, before = getattr(signal, name), ChronosTrainer.compute_loss, [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    config = configuration(judged_dir, tmp_path, family, "asked", size=size_of(family, dropout_rate=0.2), average=0.8, validation=dict(every=4, windows=2))

    def compute_loss(self, *args, **kwargs):
        if self.state.global_step == 4: os.kill(os.getpid(), number)
        return original(self, *args, **kwargs)
    with monkeypatch.context() as patch:
        patch.setattr(ChronosTrainer, "compute_loss", compute_loss)
        with pytest.raises(Stopped, match=f"stopped by {name} after step 5 of 8: a checkpoint of it is in .*asked") as stopped: run(config)
    assert stopped.value.exit_code == 128 + number and isinstance(stopped.value, KeyboardInterrupt) and not (tmp_path / "asked" / "final").exists()
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before and last_checkpoint(tmp_path / "asked").name == "checkpoint-5"
    again, said = run(config)
    whole, _ = run(config | {"run_name": "whole"})
    assert again.resumed_from == 5 and "Going on from" in said
    assert equal(weights(whole.directory), weights(again.directory)) and whole.validation == again.validation and whole.steps == again.steps


def test_a_second_signal_does_not_wait(data_dir, tmp_path, monkeypatch):
    def compute_loss(self, *args, **kwargs):
        for _ in range(2):  # apart, else the interpreter may see them as one
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    monkeypatch.setattr(ChronosTrainer, "compute_loss", compute_loss)
    with pytest.raises(KeyboardInterrupt) as stopped: run(configuration(data_dir, tmp_path))
    assert not isinstance(stopped.value, Stopped) and last_checkpoint(tmp_path / "run") is None


def test_a_signal_in_the_last_step_changes_nothing(data_dir, tmp_path, monkeypatch):
    original = ChronosTrainer.compute_loss

    def compute_loss(self, *args, **kwargs):
        if self.state.global_step == 7: os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args, **kwargs)
    monkeypatch.setattr(ChronosTrainer, "compute_loss", compute_loss)
    result, _ = run(configuration(data_dir, tmp_path))
    assert result.steps == 8 and (tmp_path / "run" / "final" / "config.json").exists()


def test_the_command_says_where_it_stopped(data_dir, tmp_path, root, capsys):
    "SIGTERM to the script, as a scheduler sends it: one line, exit code 143, and a checkpoint from which the run ends with the weights of one that never stopped."
    config = configuration(data_dir, tmp_path, name="asked", train=dict(max_steps=60, save_steps=500, logging_steps=1))
    words = lambda config: [f"{key}={json.dumps(value).replace(chr(34), '') if isinstance(value, dict) else 'null' if value is None else value}" for key, value in config.items() if key != "train"] + [f"train.{key}={value}" for key, value in config["train"].items()]
    process = subprocess.Popen([sys.executable, str(root / "scripts" / "train.py"), *words(config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}, cwd=tmp_path)
    while line := process.stdout.readline():
        if line.startswith("step 3/"): break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143 and err.startswith("stopped by SIGTERM after step ") and "Traceback" not in err, err
    stopped = int(re.search(r"after step (\d+)", err)[1])
    assert 3 <= stopped < 60 and last_checkpoint(tmp_path / "asked").name == f"checkpoint-{stopped}"
    torch.set_num_threads(1)
    for name in ("asked", "whole"): assert main(["train", *words(config | {"run_name": name})]) == 0
    assert f"Going on from {tmp_path / 'asked' / f'checkpoint-{stopped}'}" in "".join(capsys.readouterr().out.split("\n")) and equal(weights(tmp_path / "asked" / "final"), weights(tmp_path / "whole" / "final"))


@pytest.mark.slow
def test_two_processes_stop_after_the_same_step(data_dir, tmp_path, root):
    "SIGTERM to torchrun, which hands it on to both at different moments."
    words = [str(root / "scripts" / "train.py"), f"output_dir={tmp_path}", f"data_dir={data_dir}", "run_name=two", "size={size: nano, d_model: 32, d_kv: 8, d_ff: 64, num_layers: 1, dropout_rate: 0}", "context_length=32", "prediction_length=16",
             "train.max_steps=400", "train.save_steps=1000", "train.log_steps=1", "train.per_device_train_batch_size=4"]
    command, env = [sys.executable, "-m", *LAUNCHERS["torchrun"], *words], os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=tmp_path)
    while line := process.stdout.readline():
        if line.startswith("step 3/"): break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode != 0 and "stopped by SIGTERM after step " in err, err[-3000:]
    there = last_checkpoint(tmp_path / "two")
    assert there is not None and len(list(there.glob("rng_state*"))) == 2
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0 and f"Going on from {there}" in done.stdout, done.stderr[-3000:]


def test_a_checkpoint_that_was_cut_short_is_passed_over(data_dir, tmp_path, monkeypatch):
    config = configuration(data_dir, tmp_path, name="cut")
    with monkeypatch.context() as patch:
        stopping_at(patch, 7)
        with pytest.raises(Stop): run(config)
    assert last_checkpoint(tmp_path / "cut").name == "checkpoint-6"
    (tmp_path / "cut" / "checkpoint-6" / COMPLETE).unlink()
    (tmp_path / "cut" / "checkpoint-6" / "trainer_state.json").write_text("{")
    again, _ = run(config)
    whole, _ = run(config | {"run_name": "whole"})
    assert again.resumed_from == 3 and equal(weights(whole.directory), weights(again.directory))


def test_a_finished_run_is_not_run_again(data_dir, tmp_path, monkeypatch):
    config = configuration(data_dir, tmp_path)
    first, _ = run(config)
    monkeypatch.setattr(ChronosTrainer, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    second, said = run(config)
    assert second.directory == first.directory and second.losses == first.losses and "is finished" in said


# ---- the same result for the same work ----

@pytest.mark.parametrize("family", FAMILIES)
def test_accumulation_equals_one_batch(family, data_dir, tmp_path):
    a, _ = run(configuration(data_dir, tmp_path, family, "whole", train=dict(per_device_train_batch_size=8, max_grad_norm=0.01)))
    b, _ = run(configuration(data_dir, tmp_path, family, "accumulated", train=dict(per_device_train_batch_size=2, gradient_accumulation_steps=4, max_grad_norm=0.01)))
    for name, x in (a := weights(a.directory)).items(): torch.testing.assert_close(x, (b := b if isinstance(b, dict) else weights(b.directory))[name], rtol=1e-4, atol=2e-5)
    for (_, x), (_, y) in zip(*(json.loads((tmp_path / name / "history.json").read_text())["losses"] for name in ("whole", "accumulated"))): assert x == pytest.approx(y, rel=1e-4)


@pytest.mark.parametrize("guarded", [True, False])
def test_gradients_of_a_t5_do_not_grow_with_accumulation(guarded, tmp_path):
    """transformers' Trainer takes T5's forward(**kwargs) to normalise its loss by the tokens of the whole batch. Without the guard in `models`, gradients grow with accumulation."""
    random = torch.Generator().manual_seed(0)
    rows = [{"input_ids": torch.randint(2, 64, (2, 32), generator=random), "labels": torch.randint(2, 64, (2, 16), generator=random)} for _ in range(4)]
    whole = [{name: torch.cat([r[name] for r in rows]) for name in rows[0]}]
    norms = {}
    for batches in (whole, rows):
        model = models.build("chronos-t5", SIZE, context_length=32, prediction_length=16, n_tokens=64)
        if not guarded: del model.accepts_loss_kwargs
        args = TrainingArguments(output_dir=str(tmp_path), max_steps=1, gradient_accumulation_steps=len(batches), logging_steps=1, report_to=[], disable_tqdm=True, save_strategy="no", use_cpu=True)
        trainer = Trainer(model=model, args=args)
        trainer.get_train_dataloader = lambda: batches
        trainer.train()
        norms[len(batches)] = next(entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry)
    assert norms[4] / norms[1] == pytest.approx(1 if guarded else 4, rel=1e-3)


# On the CPU accelerate would start its processes through MPI; its launcher of several GPUs is torchrun's, and does not look for them
LAUNCHERS = {"torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node=2"], "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]}


@pytest.mark.slow
@pytest.mark.parametrize("launcher, family", [("torchrun", "chronos-t5"), ("torchrun", "chronos-2"), ("accelerate", "chronos-bolt")])
def test_two_processes_equal_one(launcher, family, judged_dir, root, tmp_path):
    "The script under both launchers, with averaged weights and validation: weights to 1e-5, the same losses and the same choice; and the windows of two micro-batches accumulated."
    def words(name, rows, steps=1):
        more = ["n_tokens=64"] if family == "chronos-t5" else []
        return [f"run_name={name}", f"output_dir={tmp_path}", f"data_dir={judged_dir}", f"family={family}", "size=" + json.dumps(size_of(family)).replace('"', ""), "context_length=32", "prediction_length=16",
                "average=0.8", "validation.every=4", "validation.windows=4", "train.max_steps=8", "train.log_steps=2", f"train.per_device_train_batch_size={rows}", f"train.gradient_accumulation_steps={steps}", "train.learning_rate=3e-3", "train.warmup_steps=2", "train.max_grad_norm=0.1", *more]
    script, env = str(root / "scripts" / "train.py"), os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for name, command in (("one", [sys.executable, script, *words("one", 8)]), ("two", [sys.executable, "-m", *LAUNCHERS[launcher], script, *words("two", 4)]), ("accumulated", [sys.executable, "-m", *LAUNCHERS[launcher], script, *words("accumulated", 2, 2)])):
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("Made ") == 1  # one process speaks
    history = {name: json.loads((tmp_path / name / "history.json").read_text()) for name in ("one", "two", "accumulated")}
    for name in ("two", "accumulated"):
        a, b = weights(tmp_path / "one" / "final"), weights(tmp_path / name / "final")
        assert max(float((a[key] - b[key]).abs().max()) for key in a) < 1e-5
        for kind in ("losses", "validation"):
            assert len(history["one"][kind]) == len(history[name][kind]) > 0
            for x, y in zip(history["one"][kind], history[name][kind]): assert x == pytest.approx(y, rel=1e-4)


def test_global_random_states_are_left_alone(data_dir, tmp_path):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    run(configuration(data_dir, tmp_path, train=dict(max_steps=1)))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    assert before[0] == after[0] and before[1] == after[1] and torch.equal(before[2], after[2])


# ---- tokenizers ----

@pytest.mark.parametrize("tokenizer", ["standardised", {"kind": "quantile", "even": 0.1}, "two-level"])
def test_a_tokenizer_is_trained_with_saved_and_read_back(tokenizer, data_dir, tmp_path, monkeypatch):
    "From new weights: the loss falls, a stopped run ends with the same weights and bins, a copy read back forecasts the same, and fine-tuning goes on with the same code."
    config = configuration(data_dir, tmp_path, "chronos-t5", "whole", tokenizer=tokenizer, train=dict(max_steps=60, logging_steps=20, save_steps=25, per_device_train_batch_size=8))
    whole, _ = run(config)
    with monkeypatch.context() as patch:
        stopping_at(patch, 40)
        with pytest.raises(Stop): run(config | {"run_name": "stopped"})
    again, _ = run(config | {"run_name": "stopped"})
    assert again.resumed_from == 25 and equal(weights(whole.directory), weights(again.directory)) and whole.losses[-1][1] < whole.losses[0][1]
    a, b = (models.load_model(result.directory) for result in (whole, again))
    code = tokenizer_of(a.config.chronos_config)
    assert a.config.chronos_config == b.config.chronos_config and type(code) is type(make_tokenizer(tokenizer)) and whole.made["tokenizer"] == tokenizer
    context = np.cumsum(np.random.default_rng(0).standard_normal((2, 3, 32)), -1)
    assert np.array_equal(models.load(whole.directory).forecast(context, 20).samples, models.load(again.directory).forecast(context, 20).samples)
    further, _ = run(configuration(data_dir, tmp_path, name="further", model_id=str(whole.directory), train=dict(max_steps=1)))
    assert models.load_model(further.directory).config.chronos_config["tokenizer_kwargs"] == a.config.chronos_config["tokenizer_kwargs"]
    if isinstance(code, QuantileBins):  # they are those of the windows
        source = StoreSource(open_store(data_dir / "train"), context_length=32, prediction_length=16, batch_size=64, seed=5, channels="one")
        batch = source.batch(0)
        tokens, _ = code.encode(batch["target"], code.scale(batch["context"]))
        used = torch.bincount(tokens.flatten(), minlength=64)[2:] / tokens.numel()
        assert code.is_learnt and float(-(used * used.clamp(min=1e-9).log2()).sum()) > 5.3  # of 5.95 bits
        assert not torch.allclose(code.centers, QuantileBins(even=0.1, n_tokens=64).centers, atol=0.05)


@pytest.mark.parametrize("word, tokenizer", [("quantile", "quantile"), ("{kind: quantile, even: 0.1}", {"kind": "quantile", "even": 0.1}), ("{low_limit: -5}", {"low_limit": -5}), ("{}", {})])
def test_a_tokenizer_on_the_command_line(word, tokenizer):
    assert TrainConfig.from_mapping(OmegaConf.to_container(compose("train", [f"tokenizer={word}", "family=chronos-t5"]))).tokenizer == tokenizer


@pytest.mark.parametrize("tokenizer, n_tokens", [("quantile", 64), ("two-level", 34), ({"kind": "mean-scale", "low_limit": -5, "high_limit": 5}, 96)])
def test_a_checkpoint_is_given_another_tokenizer(tokenizer, n_tokens, bases, data_dir, tmp_path):
    result, _ = run(configuration(data_dir, tmp_path, model_id=str(bases["chronos-t5"]), tokenizer=tokenizer, n_tokens=n_tokens, train=dict(max_steps=3)))
    model = models.load_model(result.directory)
    assert model.config.vocab_size == n_tokens == len(model.shared.weight) and type(tokenizer_of(model.config.chronos_config)) is type(make_tokenizer(tokenizer, n_tokens))
    assert models.family_of(model.config) == "chronos-t5" and models.load(result.directory).forecast(np.random.default_rng(0).standard_normal((1, 2, 32)), 16).median.shape == (1, 2, 16)
    assert (result.directory / "README.md").read_text().count("BaseChronosPipeline") == (2 if isinstance(tokenizer, dict) else 0)


# ---- fine-tuning a checkpoint ----

@pytest.mark.parametrize("family", FAMILIES)
def test_fine_tuning_starts_from_the_checkpoint(family, data_dir, tmp_path):
    first, _ = run(configuration(data_dir, tmp_path, family, "first"))
    second, _ = run(configuration(data_dir, tmp_path, model_id=str(first.directory), name="second", context_length=64, train=dict(max_steps=1, learning_rate=1e-9)))
    assert second.made["family"] == family and second.made["model_id"] == str(first.directory) and second.made["context_length"] == 64
    for a, b in zip(weights(first.directory).values(), weights(second.directory).values()): torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    config = models.load_model(second.directory).config.chronos_config
    assert config["context_length"] == 64 and config.get("time_encoding_scale", 32) == 32


def test_lengths_and_vocabularies_that_do_not_fit(data_dir, tmp_path):
    bolt = models.save(models.build("chronos-bolt", SIZE, context_length=32, prediction_length=8), tmp_path / "bolt")
    with pytest.raises(ValueError, match="prediction_length=16 is more than the 8 steps"): run(configuration(data_dir, tmp_path, model_id=str(bolt)))
    with pytest.raises(ValueError, match="n_tokens=64.*has no tokens"): run(configuration(data_dir, tmp_path, model_id=str(bolt), prediction_length=8, n_tokens=64))
    with pytest.raises(ValueError, match="is a chronos-bolt checkpoint, not chronos-t5"): run(configuration(data_dir, tmp_path, model_id=str(bolt)) | {"family": "chronos-t5"})
    with pytest.raises(ValueError, match="the size is the checkpoint's"): run(configuration(data_dir, tmp_path, model_id=str(bolt), size="tiny"))
    assert not (tmp_path / "run").exists()


# ---- what is refused, before anything is computed ----

@pytest.mark.parametrize("changes, error, message", [
    (dict(train=dict(learning_rat=1)), ValueError, "learning_rate"), (dict(train=dict(num_train_epochs=3)), ValueError, "train.max_steps"), (dict(train=dict(max_steps=0)), ValueError, "max_steps"),
    (dict(train=dict(eval_strategy="steps")), ValueError, "validation.split"), (dict(train=dict(load_best_model_at_end=True)), ValueError, "validation.metric"), (dict(validation=dict(metric="mse")), ValueError, "loss, smape100, vpt"), (dict(validation=dict(patiance=2)), ValueError, "patience"),
    (dict(validation=dict(patience=2)), ValueError, "no validation set"), (dict(validation=dict(split="nothing")), FileNotFoundError, "generate"), (dict(validation=dict(every=0, patience=1)), ValueError, "turns it off"), (dict(average=1.0), ValueError, "0.999"), (dict(batches=0), ValueError, "batches=0.*at least 1"), (dict(l2_sp=0.1), ValueError, "l2_sp=0.1 pulls back to the weights of a checkpoint"), (dict(l2_sp=-1.0, model_id="x", size=None), ValueError, "l2_sp=-1.0.*positive"), (dict(l2_sp=0.1, model_id="x", size=None, lora=dict(rank=2)), ValueError, "nothing to pull back"),
    (dict(lora=dict(rank=4)), ValueError, "model_id"), (dict(lora=dict(rank=0)), ValueError, "lora.rank"), (dict(source="generic", systems=["A"]), ValueError, "source=generic"), (dict(tokenizer=dict(low_limit=-5)), ValueError, "reads numbers"), (dict(tokenizer="quantiles"), ValueError, "did you mean 'quantile'"), (dict(family="chronos-t5", tokenizer="two-level", n_tokens=65), ValueError, "even number"), (dict(model_id="chronos-dysts-generic-bolt", family=None, size=None, tokenizer="quantile"), ValueError, "reads numbers"),
    (dict(model_id="chronos-dysts-generic-t5", family=None, size=None, tokenizer="quantile", lora=dict(rank=4)), ValueError, "adapters do not train"), (dict(contextlength=3), ValueError, "context_length"), (dict(family="chronos-t6"), ValueError, "chronos-t5"),
    (dict(augment=dict(transforms=["RandomAfine"])), ValueError, "RandomAffineTransform"), (dict(source="files"), ValueError, "source='files'"), (dict(uniform="flows"), ValueError, "uniform='flows'"), (dict(uniform="trajectories", source="online"), ValueError, "uniform='trajectories'"), (dict(min_past=0), ValueError, "min_past"), (dict(generic=1.0), ValueError, "generic=1.0"), (dict(online=dict(worker=2)), ValueError, "workers"), (dict(augment=dict(probability=2)), ValueError, "probability"), (dict(augment=dict(share=1)), ValueError, "augment.share"),
    (dict(augment=dict(transforms=[{"_target_": "chronos_dysts.augmentations.RandomAffineTransform", "out_dim": 0}])), ValueError, "out_dim"),
    (dict(run_name="../x"), ValueError, "run_name"), (dict(systems=[]), ValueError, "systems"), (dict(systems=["Z"]), ValueError, "Z"), (dict(split="nothing"), FileNotFoundError, "generate"),
    (dict(context_length=1000), ValueError, "shorter"), (dict(size="smal"), ValueError, "small"), (dict(family="chronos-2", n_tokens=64), ValueError, "vocabulary")])
def test_bad_configurations(changes, error, message, data_dir, tmp_path):
    with pytest.raises(error, match=message): run(configuration(data_dir, tmp_path) | changes)
    assert not any(tmp_path.iterdir())


def test_log_steps_is_logging_steps():
    assert TrainConfig(train={"log_steps": 7}).train["logging_steps"] == 7
    assert TrainConfig(train={"log_steps": 7, "logging_steps": 9}).train["logging_steps"] == 9
    rates = [TrainConfig(**given).train["learning_rate"] for given in ({}, {"size": {"d_model": 32}}, {"size": "tiny"}, {"model_id": "x"})]
    assert rates == [5e-3, 5e-3, 1e-3, None]  # of a checkpoint it depends on how large it is


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-2"])
def test_online_windows_and_generic_series_and_exact_resume(family, data_dir, tmp_path, monkeypatch):
    more = dict(source="online", systems=["Lorenz", "SprottB"], generic=0.25, uniform="families", min_past=20, augment={"transforms": ["RandomAffineTransform", "RandomTakensEmbedding"], "probability": 0.4})
    whole, said = run(configuration(data_dir, tmp_path, family, "whole", **more, online={"workers": 0}))
    assert "integrated as they are needed" in said and whole.made["source"] == "online" and whole.made["generic"] == 0.25 and whole.made["systems"] == ["Lorenz", "SprottB"]
    with monkeypatch.context() as patch:
        stopping_at(patch, 5)
        with pytest.raises(Stop): run(configuration(data_dir, tmp_path, family, "stopped", **more, online={"workers": 0}))
    again, _ = run(configuration(data_dir, tmp_path, family, "stopped", **more, online={"workers": 1 if family == "chronos-bolt" else 0}))  # the number of workers may change
    assert again.resumed_from == 3 and equal(weights(whole.directory), weights(again.directory)) and whole.losses == again.losses


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_ends_with_the_same_weights_too(family, data_dir, tmp_path, monkeypatch):
    "With more than a block of keys for a T5, and patches of them for the others."
    config = lambda name: configuration(data_dir, tmp_path, family, name, context_length=256, prediction_length=64, train={"bf16": True})
    whole, _ = run(config("whole"))
    with monkeypatch.context() as patch:
        stopping_at(patch, 5)
        with pytest.raises(Stop): run(config("stopped"))
    again, _ = run(config("stopped"))
    assert again.resumed_from == 3 and equal(weights(whole.directory), weights(again.directory))


def test_what_is_tested_is_not_integrated(data_dir, tmp_path):
    (tmp_path / "data" / "test" / "LorenzBounded").mkdir(parents=True)
    (tmp_path / "data" / "test" / "LorenzBounded" / "0_T-8.arrow").touch()
    config = TrainConfig(source="online", data_dir=str(tmp_path / "data"))
    systems, held_out = training.online_systems(config, None)
    assert held_out == ["LorenzBounded"] and len(systems) > 50 and not any("Lorenz" in training.families_of(name, None) for name in systems)
    with pytest.raises(ValueError, match="Lorenz and the held-out system LorenzBounded are of one family"): run(configuration(tmp_path / "data", tmp_path, source="online", systems=["Lorenz", "Thomas"]))
    manifest = {"split": {"train": ["Thomas", "SprottB", "InteriorSquirmer"], "test": ["Lorenz"]}}
    assert training.online_systems(config, manifest) == (["Thomas", "SprottB"], ["Lorenz"])  # one is too costly, unless it is asked for
    assert training.online_systems(TrainConfig(source="online", systems=["InteriorSquirmer"]), manifest)[0] == ["InteriorSquirmer"]


def test_augmentations_by_name_and_by_mapping():
    config = TrainConfig(augment={"transforms": ["RandomAffineTransform", {"_target_": "chronos_dysts.augmentations.RandomConvexCombinationTransform", "alpha": 2.0}]})
    assert [type(t).__name__ for t in config.transforms()] == ["RandomAffineTransform", "RandomConvexCombinationTransform"] and config.transforms()[1].alpha == 2.0
    assert config.augmentation().probabilities == [0.25, 0.25] and TrainConfig().augmentation() is None


def test_wandb_that_knows_nobody(monkeypatch, data_dir, tmp_path):
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"): monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="WANDB_MODE=offline"): run(configuration(data_dir, tmp_path, wandb={"log": True}))


def test_wandb_that_is_not_installed(monkeypatch, data_dir, tmp_path):
    find = training.importlib.util.find_spec
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name, *args: None if name == "wandb" else find(name, *args))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'chronos-dysts\[wandb\]'"): run(configuration(data_dir, tmp_path, wandb={"log": True}))
    assert not any(tmp_path.iterdir())


def test_a_directory_with_another_run_is_not_mixed(data_dir, tmp_path):
    run(configuration(data_dir, tmp_path))
    with pytest.raises(FileExistsError, match=r"train.learning_rate was 0.003, now 0.1.*another run_name"): run(configuration(data_dir, tmp_path, train=dict(learning_rate=0.1)))
    with pytest.raises(FileExistsError, match="data was"): run(configuration_of_other_data(tmp_path))
    _, said = run(configuration(data_dir, tmp_path, train=dict(logging_steps=1, save_steps=5)))  # these do not change the weights
    assert "is finished" in said
    (tmp_path / "other").mkdir(); (tmp_path / "other" / "file").write_text("")
    with pytest.raises(FileExistsError, match="holds no run"): run(configuration(data_dir, tmp_path, name="other"))


def configuration_of_other_data(tmp_path):
    folder = tmp_path / "otherdata"
    for name in "AB":
        write_trajectory(Trajectory(np.random.default_rng(1).standard_normal((3, 100)).astype(np.float32), f"{name}/0", name, {}, np.zeros(3), 0.1, 1.0, 0), folder / "train" / name / "0_T-100.arrow")
    return configuration(folder, tmp_path)


def test_relatives_of_the_test_set_are_refused(data_dir, tmp_path):
    folder = tmp_path / "data"
    for split, names in (("train", ["Rossler", "X"]), ("test", ["Y"])):
        for name in names:
            write_trajectory(Trajectory(np.random.default_rng(0).standard_normal((3, 100)).astype(np.float32), f"{name}/0", name, {}, np.zeros(3), 0.1, 1.0, 0), folder / split / name / "0_T-100.arrow")
    run(configuration(folder, tmp_path / "runs", train=dict(max_steps=1)))  # X and Y are their own families
    write_json({"split": {"train": ["Rossler", "X"], "test": ["Y"]}, "families": {"Rossler": ["Rossler"], "X": ["X", "Lorenz"], "Y": ["Lorenz"]}}, folder / "manifest.json")
    with pytest.raises(ValueError, match="training system X and the test system Y are of one family .Lorenz.*systems="): run(configuration(folder, tmp_path / "runs", name="b"))
    run(configuration(folder, tmp_path / "runs", name="c", systems=["Rossler"], train=dict(max_steps=1)))
    run(configuration(folder, tmp_path / "runs", name="d", allow_shared_families=True, train=dict(max_steps=1)))


def test_training_on_the_test_set_is_refused(data_dir, tmp_path):
    folder = tmp_path / "data"
    write_trajectory(Trajectory(np.random.default_rng(0).standard_normal((3, 100)).astype(np.float32), "A/0", "A", {}, np.zeros(3), 0.1, 1.0, 0), folder / "test" / "A" / "0_T-100.arrow")
    with pytest.raises(ValueError, match="one family"): run(configuration(folder, tmp_path, split="test"))


def test_a_loss_that_is_not_a_number_stops_the_run(data_dir, tmp_path):
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) at step \d+.*[ABCD]/0 from point \d+.*learning_rate"):
        run(configuration(data_dir, tmp_path, "chronos-t5", train=dict(max_steps=50, learning_rate=1e30, max_grad_norm=0)))
    assert not (tmp_path / "run" / "final").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loss_that_is_not_a_number_can_be_reproduced(family, data_dir, tmp_path, monkeypatch):
    "A weight turns infinite after three steps: the saved weights and batch give the same loss, and only they do."
    original = ChronosTrainer.update_average

    def poison(self):
        original(self)
        if self.state.global_step == 3: next(iter(self.trained.values())).data.fill_(float("inf"))
    monkeypatch.setattr(ChronosTrainer, "update_average", poison)
    with pytest.raises(FloatingPointError, match="reproduce") as caught: run(configuration(data_dir, tmp_path, family, train=dict(max_steps=20)))
    place = tmp_path / "run" / "not-finite-3"
    report = json.loads((place / "report.json").read_text())
    assert report["step"] == 3 and str(place) in str(caught.value) and all(window.split("/")[0] in "ABCD" for window in report["windows"]) and report["windows"][0] in str(caught.value)
    assert not torch.isfinite(training.reproduce(place))
    sound = models.build(family, size_of(family), context_length=32, prediction_length=16, n_tokens=64 if family == "chronos-t5" else None)
    assert torch.isfinite(sound(**models.model_inputs(sound, load_file(place / "batch.safetensors"))).loss)  # the batch is not to blame


# ---- what the model is given ----

def test_inputs_leave_out_what_is_not_known(data_dir):
    store = open_store(data_dir / "train")
    for family in FAMILIES:
        model = models.build(family, size_of(family), context_length=32, prediction_length=16, n_tokens=64 if family == "chronos-t5" else None).eval()
        batch = StoreSource(store, 32, 16, 6, channels="joint" if family == "chronos-2" else "one").batch(0)
        inputs = training.model_inputs(model, batch)
        masked = batch | {"target": batch["target"].clone()}
        masked["target"][:, 8:] = torch.nan
        loss = model(**training.model_inputs(model, masked)).loss
        other = batch | {"target": torch.cat([batch["target"][:, :8], torch.full_like(batch["target"][:, 8:], torch.nan)], 1)}
        assert torch.isfinite(loss) and loss == model(**training.model_inputs(model, other)).loss and loss != model(**inputs).loss


# ---- adapters, averages, validation ----

@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_are_trained_and_the_whole_model_is_saved(family, bases, data_dir, tmp_path, monkeypatch):
    more = dict(model_id=str(bases[family]), lora={"rank": 2, "dropout": 0.1}, average=0.9, train=dict(max_steps=8, learning_rate=1e-2))
    whole, said = run(configuration(data_dir, tmp_path, family, "whole", **more))
    assert "in adapters are trained" in said and whole.made["lora"]["rank"] == 2
    base, tuned = weights(bases[family]), weights(whole.directory)
    assert base.keys() == tuned.keys()
    changed = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert changed and all(name.split(".")[-2] in ("q", "k", "v", "o", "qkv", "wi", "wo", "hidden_layer", "output_layer", "residual_layer") and "input_patch" not in name for name in changed)
    # low rank: what was added to a square matrix of 32 has two dimensions
    delta = next(tuned[name] - base[name] for name in sorted(changed) if name.endswith((".q.weight", ".o.weight")))
    assert torch.linalg.matrix_rank(delta, rtol=1e-3) == 2
    plain = BaseChronosPipeline.from_pretrained(whole.directory)
    assert all(torch.equal(a, b) for a, b in zip((plain.inner_model if hasattr(plain, "inner_model") else plain.model).state_dict().values(), tuned.values()))
    assert not list(whole.directory.glob("adapter*"))
    with monkeypatch.context() as patch:
        stopping_at(patch, 5)
        with pytest.raises(Stop): run(configuration(data_dir, tmp_path, family, "stopped", **more))
    middle = weights(tmp_path / "stopped" / "checkpoint-3")  # every checkpoint is a whole model
    assert middle.keys() == base.keys() and not equal(middle, base)
    again, _ = run(configuration(data_dir, tmp_path, family, "stopped", **more))
    assert again.resumed_from == 3 and equal(tuned, weights(again.directory)) and whole.losses == again.losses


def test_peft_is_needed_for_adapters_only(bases, data_dir, tmp_path, monkeypatch):
    from chronos_dysts import lora
    find = lora.importlib.util.find_spec
    monkeypatch.setattr(lora.importlib.util, "find_spec", lambda name, *args: None if name == "peft" else find(name, *args))
    for name in [name for name in sys.modules if name.partition(".")[0] == "peft"]: monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'chronos-dysts\[lora\]'"): run(configuration(data_dir, tmp_path, model_id=str(bases["chronos-bolt"]), lora={"rank": 2}))
    run(configuration(data_dir, tmp_path, model_id=str(bases["chronos-bolt"]), train=dict(max_steps=1)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pull_to_the_start_keeps_weights_near_it(family, bases, data_dir, tmp_path, monkeypatch):
    base, more, distances = weights(bases[family]), dict(model_id=str(bases[family]), train=dict(max_steps=8, learning_rate=1e-2)), []
    for strength in (None, 10.0, 1e4):
        result, _ = run(configuration(data_dir, tmp_path, family, f"pull-{strength}", **more, l2_sp=strength))
        distances.append(sum(float((x.float() - base[name].float()).square().sum()) for name, x in weights(result.directory).items()))
        assert result.made.get("l2_sp") == strength
    assert distances[0] > 1.2 * distances[1] > 1.2 * distances[2] > 0
    # a run that goes on is pulled to where the whole run began, not to its checkpoint
    with monkeypatch.context() as patch:
        stopping_at(patch, 5)
        with pytest.raises(Stop): run(configuration(data_dir, tmp_path, family, "stopped", **more, l2_sp=10.0))
    again, _ = run(configuration(data_dir, tmp_path, family, "stopped", **more, l2_sp=10.0))
    assert again.resumed_from == 3 and equal(weights(again.directory), weights(tmp_path / "pull-10.0" / "final"))


def test_the_pull_is_that_of_the_formula(bases, tmp_path):
    model = models.load_model(bases["chronos-bolt"]).eval()
    trainer = ChronosTrainer(model, TrainingArguments(output_dir=str(tmp_path / "unused"), use_cpu=True, report_to=[], label_names=["target"]), None, {}, l2_sp=0.5)
    batch = {"context": torch.randn(4, 32, generator=torch.Generator().manual_seed(0)), "target": torch.randn(4, 16, generator=torch.Generator().manual_seed(1))}
    torch.testing.assert_close(trainer.compute_loss(model, batch), model(**batch).loss)
    weight = model.encoder.block[0].layer[0].SelfAttention.q.weight
    with torch.no_grad(): weight.add_(0.1)
    torch.testing.assert_close(trainer.compute_loss(model, batch), model(**batch).loss + 0.5 / 2 * weight.numel() * 0.1**2)


def test_averaged_weights_are_an_exponential_moving_average(data_dir, tmp_path, monkeypatch):
    seen, original = [], ChronosTrainer.update_average

    def watched(self):
        original(self)
        seen.append({name: p.detach().clone() for name, p in self.trained.items()})
    monkeypatch.setattr(ChronosTrainer, "update_average", watched)
    result, _ = run(configuration(data_dir, tmp_path, average=0.5, train=dict(save_steps=4)))
    model = models.build("chronos-bolt", SIZE, context_length=32, prediction_length=16)
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    for t, step in enumerate(seen, 1):
        decay = min(0.5, (1 + t) / (10 + t))
        for name in expected: expected[name] = decay * expected[name] + (1 - decay) * step[name]
    final = dict(models.load_model(result.directory).named_parameters())
    for name in expected: torch.testing.assert_close(final[name].detach(), expected[name], rtol=1e-5, atol=1e-7)
    last = load_file(tmp_path / "run" / "checkpoint-8" / training.TRAINING)
    assert all(torch.equal(last[f"weights.{name}"], seen[-1][name]) for name in expected) and not (result.directory / training.TRAINING).exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_by_validation_is_kept_and_patience_ends_a_run(family, judged_dir, tmp_path, monkeypatch):
    "A learning rate that soon spoils what was learnt: the best model is an early one, it is what is published, and a resumed run decides the same."
    more = dict(average=0.5, validation={"every": 2, "windows": 4, "patience": 3, "samples": 2}, train=dict(max_steps=40, save_steps=5, learning_rate=0.5, warmup_steps=12, max_grad_norm=0.1))
    whole, said = run(configuration(judged_dir, tmp_path, family, "whole", **more))
    scores = [entry["loss"] for entry in whole.validation]
    best = int(np.argmin(scores))
    assert whole.steps == whole.validation[best]["step"] == 2 * (best + 1) and len(scores) == best + 4 < 20 and "no better for 3: enough" in said and said.count("the best so far") >= 1
    made = models.load_made(whole.directory)
    assert made["steps"] == whole.steps and made["validation"]["scores"] == whole.validation[best] and made["validation"]["systems"] == ["V", "W"] and made["validation"]["windows"] == 4
    # the published model has that score
    judge = training.Validation(StoreSource(open_store(judged_dir / "validation"), 32, 16, 4, training.stream_key("validation"), channels="joint"), samples=2)
    assert judge(models.load_model(whole.directory))["loss"] == pytest.approx(scores[best], rel=1e-4)
    with monkeypatch.context() as patch:
        stopping_at(patch, 2 * best + 4)
        with pytest.raises(Stop): run(configuration(judged_dir, tmp_path, family, "stopped", **more))
    again, _ = run(configuration(judged_dir, tmp_path, family, "stopped", **more))
    assert 0 < again.resumed_from <= 2 * best + 4 and again.validation == whole.validation and again.losses == whole.losses and equal(weights(whole.directory), weights(again.directory))
    # killed after the last step, before the final model was made: nothing is trained any more
    shutil.rmtree(again.directory)
    monkeypatch.setattr(ChronosTrainer, "train", lambda *args, **kwargs: pytest.fail("trained on"))
    once_more, _ = run(configuration(judged_dir, tmp_path, family, "stopped", **more))
    assert once_more.steps == whole.steps and equal(weights(whole.directory), weights(once_more.directory))


def test_validation_changes_nothing_but_the_choice(judged_dir, data_dir, tmp_path):
    "A T5 draws paths while it is judged: that must not move the random numbers of dropout."
    size = size_of("chronos-t5", dropout_rate=0.2)
    a, _ = run(configuration(judged_dir, tmp_path, "chronos-t5", "judged", size=size, validation={"every": 1, "windows": 4}))
    b, _ = run(configuration(judged_dir, tmp_path, "chronos-t5", "alone", size=size, validation={"every": 0}))
    assert len(a.validation) == 8 and not b.validation and b.made["validation"] is None
    assert equal(weights(tmp_path / "judged" / "checkpoint-8"), weights(b.directory)) and [x for x in a.losses if x[0] == 8][0][1] == pytest.approx(b.losses[-1][1], rel=0.5)


def test_validation_by_another_score(judged_dir, tmp_path):
    result, _ = run(configuration(judged_dir, tmp_path, validation={"every": 2, "windows": 6, "metric": "vpt"}, train=dict(learning_rate=2e-2)))
    scores = [entry["vpt"] for entry in result.validation]
    assert result.steps == result.validation[int(np.argmax(scores))]["step"] and all(0 <= v <= 16 for v in scores)


def test_relatives_of_the_validation_set_are_refused(judged_dir, tmp_path):
    folder = tmp_path / "data"
    write_sines(folder / "train", ["Rossler"])
    write_sines(folder / "validation", ["HyperLu"])
    write_sines(folder / "test", ["Lorenz"])
    with pytest.raises(ValueError, match="validation system HyperLu and the test system Lorenz are of one family"): run(configuration(folder, tmp_path))
    write_sines(folder / "train", ["Chen"])
    with pytest.raises(ValueError, match="training system Chen and the test system Lorenz"): run(configuration(folder, tmp_path))
    (folder / "test").rename(folder / "unused")
    with pytest.raises(ValueError, match="training system Chen and the validation system HyperLu are of one family"): run(configuration(folder, tmp_path))
    run(configuration(folder, tmp_path, allow_shared_families=True, train=dict(max_steps=1)))
    assert not training.online_systems(TrainConfig(source="online", data_dir=str(folder)), None)[0] or "Lorenz" not in training.online_systems(TrainConfig(source="online", data_dir=str(folder)), None)[0]


def test_generic_series_alone(tmp_path):
    result, said = run(configuration(tmp_path / "nowhere", tmp_path, "chronos-t5", source="generic", min_past=None, validation={"every": 4, "windows": 6, "samples": 1}))
    assert "on generic series" in said and result.made["systems"] == [] and len(result.validation) == 2 and result.made["data"]["digest"] == "generic"


# ---- precision, schedules, logs ----

@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_autocast_keeps_weights_in_float32(family, data_dir, tmp_path, monkeypatch):
    seen, original = set(), ChronosTrainer.compute_loss

    def watched(self, model, *args, **kwargs):
        if not seen: next(m for m in self.model.modules() if isinstance(m, torch.nn.Linear)).register_forward_hook(lambda m, x, y: seen.add(y.dtype))
        return original(self, model, *args, **kwargs)
    monkeypatch.setattr(ChronosTrainer, "compute_loss", watched)
    result, _ = run(configuration(data_dir, tmp_path, family, train=dict(bf16=True, max_steps=3)))
    assert seen == {torch.bfloat16} and {p.dtype for p in models.load_model(result.directory).parameters()} == {torch.float32} and json.loads((result.directory / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-2"])
def test_a_compiled_model_is_the_same_model(family, judged_dir, tmp_path):
    if not any(shutil.which(name) for name in ("g++", "clang++")): pytest.skip("torch.compile needs a compiler on the CPU")
    more = dict(average=0.9, validation={"every": 2, "windows": 4}, train=dict(max_steps=4, save_steps=2))
    plain, _ = run(configuration(judged_dir, tmp_path, family, "plain", **more))
    compiled, _ = run(configuration(judged_dir, tmp_path, family, "compiled", **more | {"train": more["train"] | {"torch_compile": True}}))
    assert [x for _, x in compiled.losses] == pytest.approx([x for _, x in plain.losses], rel=1e-4) and compiled.validation[-1]["loss"] == pytest.approx(plain.validation[-1]["loss"], rel=1e-3)
    assert weights(compiled.directory).keys() == weights(plain.directory).keys()


def test_schedules_and_the_optimiser(data_dir, tmp_path, monkeypatch):
    rates, kinds, original = {}, set(), ChronosTrainer.update_average

    def watched(self):
        original(self)
        kinds.add((type(self.optimizer.optimizer).__name__, self.optimizer.optimizer.defaults["fused"]))
        rates.setdefault(str(self.args.lr_scheduler_type.value), []).append(self._get_learning_rate())
    monkeypatch.setattr(ChronosTrainer, "update_average", watched)
    for kind in ("linear", "cosine"): run(configuration(data_dir, tmp_path, name=kind, train=dict(lr_scheduler_type=kind, warmup_steps=2, learning_rate=1.0)))
    steps = np.arange(1, 9)  # the rate after a step is that of the next one
    share = np.clip((steps - 2) / 6, 0, 1)
    np.testing.assert_allclose(rates["linear"], np.where(steps < 2, steps / 2, 1 - share), atol=1e-9)
    np.testing.assert_allclose(rates["cosine"], np.where(steps < 2, steps / 2, (1 + np.cos(np.pi * share)) / 2), atol=1e-9)
    assert kinds == {("AdamW", True)}


def test_tensorboard(judged_dir, tmp_path):
    pytest.importorskip("tensorboardX")
    run(configuration(judged_dir, tmp_path, tensorboard={"log": True}, validation={"every": 4, "windows": 4}))
    written = b"".join(path.read_bytes() for path in (tmp_path / "run" / "tensorboard").glob("events*"))
    assert b"train/loss" in written and b"eval/vpt" in written


def test_learning_rates_of_checkpoints(bases, data_dir, tmp_path):
    rates = [run(configuration(data_dir, tmp_path, model_id=str(bases["chronos-bolt"]), name=name, train=dict(learning_rate=None, max_steps=1), **more))[0].made["train"]["learning_rate"] for name, more in (("all", {}), ("few", {"lora": {"rank": 2}}))]
    assert rates == [2e-3, 4e-3] and training._learning_rate(models.build("chronos-bolt", "tiny"), False) == 1e-4


def test_a_checkpoint_that_was_exchanged_is_another_run(bases, data_dir, tmp_path):
    base = models.save(models.load_model(bases["chronos-bolt"]), tmp_path / "base")
    run(configuration(data_dir, tmp_path, model_id=str(base)))
    models.save(models.build("chronos-bolt", SIZE, context_length=32, prediction_length=16, seed=5), base, overwrite=True)
    with pytest.raises(FileExistsError, match="model was"): run(configuration(data_dir, tmp_path, model_id=str(base)))


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_that_come_again(family, data_dir, tmp_path, monkeypatch):
    "All once, then all again in another order; kept as they were; and a run that was stopped goes on in that order."
    source, seen, original = StoreSource(open_store(data_dir / "train"), 32, 16, 4, 0, channels="joint" if family in ("chronos-2", "chronos-dysts") else "one"), [], ChronosTrainer.compute_loss

    def watched(self, model, inputs, *args, **kwargs):
        seen.append((int(self.batch["number"]), inputs["context"].clone()))
        return original(self, model, inputs, *args, **kwargs)
    with monkeypatch.context() as patch:
        patch.setattr(ChronosTrainer, "compute_loss", watched)
        whole, _ = run(configuration(data_dir, tmp_path, family, "whole", batches=3, train=dict(gradient_accumulation_steps=2)))
    numbers = [number for number, _ in seen]
    assert len(seen) == 16 and all(sorted(numbers[i:i + 3]) == [0, 1, 2] for i in range(0, 15, 3)) and len({tuple(numbers[i:i + 3]) for i in range(0, 15, 3)}) > 1
    assert all(torch.equal(context, source.batch(number)["context"]) for number, context in seen) and whole.made["batches"] == 3
    config = configuration(data_dir, tmp_path, family, "stopped", batches=3, train=dict(gradient_accumulation_steps=2))
    with monkeypatch.context() as patch:
        stopping_at(patch, 5)
        with pytest.raises(Stop): run(config)
    again, _ = run(config)
    assert again.resumed_from == 3 and equal(weights(whole.directory), weights(again.directory)) and whole.losses == again.losses


def test_experts_are_asked_once_about_a_batch_that_comes_again(data_dir, tmp_path, monkeypatch):
    "And what is kept of their answers changes nothing."
    asked, consult = [], models.DystsModel._consult
    monkeypatch.setattr(models.DystsModel, "_consult", lambda self, *args: asked.append(1) or consult(self, *args))
    kept, _ = run(configuration(data_dir, tmp_path, "chronos-dysts", "kept", batches=2))
    assert len(asked) == 2
    monkeypatch.setattr(ChronosTrainer, "_arguments_of", lambda self, inputs: models.model_inputs(self.model, inputs))
    anew, _ = run(configuration(data_dir, tmp_path, "chronos-dysts", "anew", batches=2))
    assert len(asked) == 2 + 8 and equal(weights(kept.directory), weights(anew.directory))


@pytest.mark.parametrize("family", ["chronos-t5", "chronos-2"])
def test_processes_that_make_batches_change_nothing(family, data_dir, tmp_path, monkeypatch):
    "Not the weights, not after a stop, and not what dropout draws."
    shaky = dict(size=size_of(family) | {"dropout_rate": 0.3}, augment={"transforms": ["RandomAffineTransform"]})
    thread, _ = run(configuration(data_dir, tmp_path, family, "thread", **shaky))
    makers = shaky | {"train": dict(dataloader_num_workers=2)}
    processes, _ = run(configuration(data_dir, tmp_path, family, "processes", **makers))
    with monkeypatch.context() as patch:
        stopping_at(patch, 5)
        with pytest.raises(Stop): run(configuration(data_dir, tmp_path, family, "stopped", **makers))
    again, _ = run(configuration(data_dir, tmp_path, family, "stopped", **makers))
    assert again.resumed_from == 3 and equal(weights(thread.directory), weights(processes.directory)) and equal(weights(thread.directory), weights(again.directory))


def test_a_t5_gets_its_tokens_with_the_batch(data_dir, tmp_path, monkeypatch):
    "The same as the model would make, and they take no part in what is saved of a broken step."
    seen, original = [], ChronosTrainer.compute_loss

    def watched(self, model, inputs, *args, **kwargs):
        made, ready = models.model_inputs(model, inputs), inputs[training.READY]
        seen.append(made.keys() == ready.keys() and all(torch.equal(made[name], x) for name, x in ready.items()))
        return original(self, model, inputs, *args, **kwargs)
    monkeypatch.setattr(ChronosTrainer, "compute_loss", watched)
    run(configuration(data_dir, tmp_path, "chronos-t5", min_past=8, train=dict(max_steps=4)))
    assert seen == [True] * 4


def test_a_process_that_makes_batches_tells_its_error(tmp_path):
    bad = tmp_path / "bad"
    write_trajectory(Trajectory(np.zeros((3, 300), np.float32), "B/0", "B", {}, np.zeros(3), 0.1, 1.0, 0), bad / "train" / "B" / "0_T-300.arrow")
    with pytest.raises(ValueError, match="B/0 is constant at 0.0"): run(configuration(bad, tmp_path, augment={"transforms": ["RandomAffineTransform"]}, train=dict(dataloader_num_workers=1)))


@pytest.mark.parametrize("train, more, match", [(dict(dataloader_num_workers=-1), {}, "whole number of processes"), (dict(dataloader_num_workers=1), dict(source="online"), "online.workers")])
def test_processes_that_cannot_make_batches_are_refused(train, more, match, data_dir, tmp_path):
    with pytest.raises(ValueError, match=match): run(configuration(data_dir, tmp_path, train=train, **more))


def test_batches_made_ahead_are_those_of_their_steps(data_dir, tmp_path, monkeypatch):
    "And an error in the thread that makes them is told."
    source = StoreSource(open_store(data_dir / "train"), 32, 16, 4, 0)
    seen, original = [], ChronosTrainer.compute_loss

    def watched(self, model, inputs, *args, **kwargs):
        seen.append(inputs["context"].clone())
        return original(self, model, inputs, *args, **kwargs)
    monkeypatch.setattr(ChronosTrainer, "compute_loss", watched)
    run(configuration(data_dir, tmp_path, train=dict(gradient_accumulation_steps=2, max_steps=3)))
    assert len(seen) == 6 and all(torch.equal(x, source.batch(i)["context"]) for i, x in enumerate(seen))
    bad = tmp_path / "bad"
    write_sines(bad / "train", "A")
    target = np.zeros((3, 300), np.float32)
    write_trajectory(Trajectory(target, "B/0", "B", {}, np.zeros(3), 0.1, 1.0, 0), bad / "train" / "B" / "0_T-300.arrow")
    with pytest.raises(ValueError, match="B/0 is constant at 0.0"): run(configuration(bad, tmp_path, name="constant", augment={"transforms": ["RandomAffineTransform"]}))
