"""Training: every family, exact resume, the same result for the same work, and what is refused before anything is computed."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline
from rich.console import Console
from transformers import Trainer, TrainingArguments

from chronos_dysts import models, training
from chronos_dysts.store import Trajectory, open_store, write_json, write_trajectory
from chronos_dysts.training import COMPLETE, ChronosTrainer, TrainConfig, last_checkpoint, train
from chronos_dysts.windows import StoreSource

SIZE = {"size": "nano", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "dropout_rate": 0.0, "initializer_factor": 0.3}
FAMILIES = models.FAMILIES


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    "Four systems of three coordinates; sums of sines."
    folder = tmp_path_factory.mktemp("data")
    for s, name in enumerate("ABCD"):
        rng = np.random.default_rng(s)
        t, w = np.arange(300), rng.uniform(0.05, 0.4, (3, 2, 1))
        target = np.sin(w * t + rng.uniform(0, 6, (3, 2, 1))).sum(1) * 10
        write_trajectory(Trajectory(target.astype(np.float32), f"{name}/0", name, {}, np.zeros(3), 0.1, 1.0, 0), folder / "train" / name / "0_T-300.arrow")
    return folder


def configuration(data_dir, output_dir, family="chronos-bolt", name="run", **more):
    "A run of 8 steps with a tiny model."
    of_train = dict(max_steps=8, save_steps=3, logging_steps=2, per_device_train_batch_size=4, learning_rate=3e-3, warmup_steps=2) | more.pop("train", {})
    new = {} if "model_id" in more else dict(family=family, size=SIZE, n_tokens=64 if family == "chronos-t5" else None)
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
    size = SIZE | {"dropout_rate": 0.2}  # so that the random state counts
    whole, _ = run(configuration(data_dir, tmp_path, family, "whole", size=size, augment={"transforms": ["RandomAffineTransform"]}))
    config = configuration(data_dir, tmp_path, family, "stopped", size=size, augment={"transforms": ["RandomAffineTransform"]})
    with monkeypatch.context() as patch:
        stopping_at(patch, 5)
        with pytest.raises(Stop): run(config)
    again, said = run(config)
    assert again.resumed_from == 3 and "Going on from" in said
    assert equal(weights(whole.directory), weights(again.directory)) and whole.losses == again.losses


def test_killed(data_dir, tmp_path):
    "kill -9 in the middle of a run in a process of its own, and the same command again."
    config = configuration(data_dir, tmp_path, name="killed", train=dict(max_steps=100, save_steps=5, logging_steps=100))
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


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_equal_one(family, data_dir, tmp_path):
    single, _ = run(configuration(data_dir, tmp_path, family, "one", train=dict(per_device_train_batch_size=8)))
    config = configuration(data_dir, tmp_path, family, "two", train=dict(per_device_train_batch_size=4, ddp_backend="gloo", use_cpu=True))
    script = tmp_path / "two.py"
    script.write_text(f"from chronos_dysts.training import train\ntrain({config!r})\n")
    subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)], check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    for a, b in zip(weights(single.directory).values(), weights(tmp_path / "two" / "final").values()): torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_global_random_states_are_left_alone(data_dir, tmp_path):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    run(configuration(data_dir, tmp_path, train=dict(max_steps=1)))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    assert before[0] == after[0] and before[1] == after[1] and torch.equal(before[2], after[2])


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
    (dict(train=dict(eval_strategy="steps")), ValueError, "evaluate"), (dict(contextlength=3), ValueError, "context_length"), (dict(family="chronos-t6"), ValueError, "chronos-t5"),
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
    assert rates == [5e-3, 5e-3, 1e-3, 1e-4]


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


# ---- what the model is given ----

def test_a_second_gpu_is_not_data_parallel(monkeypatch, data_dir, tmp_path):
    "More than one visible GPU in one process would silently become DataParallel."
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: self.__dict__.get("_n_gpu", 2)))
    monkeypatch.setattr(TrainingArguments, "_setup_devices", torch.device("cpu"))
    assert training._arguments(TrainConfig.from_mapping(configuration(data_dir, tmp_path))).n_gpu == 1


def test_inputs_leave_out_what_is_not_known(data_dir):
    store = open_store(data_dir / "train")
    for family in FAMILIES:
        model = models.build(family, SIZE, context_length=32, prediction_length=16, n_tokens=64 if family == "chronos-t5" else None).eval()
        batch = StoreSource(store, 32, 16, 6, channels="joint" if family == "chronos-2" else "one").batch(0)
        inputs = training.model_inputs(model, batch)
        assert "attention_mask" not in inputs and "future_covariates" not in inputs
        masked = batch | {"target": batch["target"].clone()}
        masked["target"][:, 8:] = torch.nan
        loss = model(**training.model_inputs(model, masked)).loss
        other = batch | {"target": torch.cat([batch["target"][:, :8], torch.full_like(batch["target"][:, 8:], torch.nan)], 1)}
        assert torch.isfinite(loss) and loss == model(**training.model_inputs(model, other)).loss and loss != model(**inputs).loss
