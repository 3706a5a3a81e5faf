"""One test for each of the fourteen traps of chronos-forecasting and transformers that this package has to avoid; each fails when its guard is taken away."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline
from chronos.chronos2 import Chronos2Model
from rich.console import Console
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from chronos_dysts import models, training
from chronos_dysts.store import Trajectory, open_store, write_trajectory
from chronos_dysts.tokenizers import MeanScaleBins
from chronos_dysts.training import ChronosTrainer, TrainConfig, train
from chronos_dysts.windows import StoreSource

SIZE = {"size": "nano", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "initializer_factor": 0.3}
QUIET = Console(quiet=True)


def tiny(family, **more):
    size = {key: value for key, value in SIZE.items() if key != "d_kv" or family != "chronos-dysts"}
    return models.build(family, size | more, context_length=32, prediction_length=16, n_tokens=64 if family == "chronos-t5" else None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    "Four systems of two and three coordinates."
    folder = tmp_path_factory.mktemp("traps")
    for s, name in enumerate("ABCD"):
        rng = np.random.default_rng(s)
        target = rng.standard_normal((2 + s % 2, 200)).cumsum(1).astype(np.float32)
        write_trajectory(Trajectory(target, f"{name}/0", name, {}, np.zeros(len(target)), 0.1, 1.0, 0), folder / "train" / name / "0_T-200.arrow")
    return folder


def configuration(data, place, family="chronos-bolt", **more):
    settings = dict(max_steps=2, save_steps=1, logging_steps=1, per_device_train_batch_size=4, learning_rate=1e-3) | more.pop("train", {})
    return dict(family=family, size=SIZE, n_tokens=64 if family == "chronos-t5" else None, run_name="run", output_dir=str(place), data_dir=str(data), context_length=32, prediction_length=16, train=settings) | more


def trainer_of(family, data, place, **more):
    "A trainer that has trained nothing yet."
    model, args = tiny(family), TrainingArguments(output_dir=str(place), max_steps=1, per_device_train_batch_size=2, report_to=[], disable_tqdm=True, use_cpu=True, **more)
    return ChronosTrainer(model, args, StoreSource(open_store(data / "train"), 32, 16, 2, channels="joint" if family == "chronos-2" else "one"), {})


def test_1_gradients_do_not_grow_with_accumulation(data, tmp_path):
    norms = []
    for name, rows, steps in (("whole", 8, 1), ("accumulated", 2, 4)):
        train(configuration(data, tmp_path, "chronos-t5", run_name=name, train=dict(max_steps=1, per_device_train_batch_size=rows, gradient_accumulation_steps=steps)), QUIET)
        state = json.loads((tmp_path / name / "checkpoint-1" / "trainer_state.json").read_text())
        norms.append(next(entry["grad_norm"] for entry in state["log_history"] if "grad_norm" in entry))
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    assert (model := tiny("chronos-t5")).accepts_loss_kwargs is False  # for whoever trains it with a Trainer of transformers
    del model.accepts_loss_kwargs
    args = TrainingArguments(output_dir=str(tmp_path), max_steps=1, report_to=[], disable_tqdm=True, use_cpu=True)
    assert Trainer(model=model, args=args).model_accepts_loss_kwargs is True and ChronosTrainer(model, args, None, {}).model_accepts_loss_kwargs is False


def test_2_ranks_have_different_batches_that_make_up_the_whole(data):
    source = lambda rows: StoreSource(open_store(data / "train"), 32, 16, rows, channels="joint")
    parts, whole = [source(4).batch(3, rank, 2) for rank in range(2)], source(8).batch(3)
    assert not torch.equal(parts[0]["start"], parts[1]["start"])
    for name in ("context", "target", "trajectory", "start"): assert torch.equal(torch.cat([part[name] for part in parts]), whole[name])


def test_3_each_process_makes_its_own_batches(data, tmp_path, monkeypatch):
    "accelerate would wrap an iterable: process 0 would draw every sample and send it around."
    trainer = trainer_of("chronos-bolt", data, tmp_path)
    monkeypatch.setattr(TrainingArguments, "process_index", property(lambda self: 1))
    monkeypatch.setattr(TrainingArguments, "world_size", property(lambda self: 2))
    loader = trainer.get_train_dataloader()
    try:
        assert type(loader) is training._MicroBatches
        assert torch.equal(next(iter(loader))["context"], trainer.source.batch(0, 1, 2)["context"])
    finally: trainer.close()


def test_4_files_do_not_limit_workers_and_the_seed_has_an_effect(data, tmp_path):
    write_trajectory(list(open_store(data / "train")), tmp_path / "all" / "0-3_T-200.arrow")
    batch = lambda folder, seed: StoreSource(open_store(folder), 32, 16, 8, seed).batch(0)["context"]
    assert torch.equal(batch(data / "train", 0), batch(data / "train", 0)) and not torch.equal(batch(data / "train", 0), batch(data / "train", 1))
    assert torch.equal(batch(data / "train", 5), batch(tmp_path / "all", 5))  # however the trajectories are spread over files


def test_5_a_t5_stays_tied(data, tmp_path):
    result = train(configuration(data, tmp_path, "chronos-t5"), QUIET)
    model = models.load_model(result.directory)
    assert model.config.tie_word_embeddings and model.lm_head.weight is model.shared.weight and model.encoder.embed_tokens.weight is model.shared.weight
    assert "lm_head.weight" not in load_file(result.directory / "model.safetensors")
    # transformers ties the weights even where the configuration denies it, and then leaves out the factor that belongs to tied ones
    seen = {}
    model.decoder.final_layer_norm.register_forward_hook(lambda module, inputs, output: seen.update(decoded=output))
    model.lm_head.register_forward_pre_hook(lambda module, inputs: seen.update(scaled=inputs[0]))
    model.eval()(input_ids=torch.arange(2, 34)[None], labels=torch.arange(2, 18)[None])
    torch.testing.assert_close(seen["scaled"], seen["decoded"] * 32 ** -0.5)


def test_6_a_bolt_is_no_t5(data, tmp_path):
    bolt = models.save(tiny("chronos-bolt"), tmp_path / "bolt")
    with pytest.raises(ValueError, match="is a chronos-bolt checkpoint, not chronos-t5"): models.load_model(bolt, "chronos-t5")
    config = json.loads((bolt / "config.json").read_text())
    del config["chronos_pipeline_class"]
    (bolt / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="chronos_config is that of chronos-bolt"): train(configuration(data, tmp_path, None, size=None, model_id=str(bolt)), QUIET)


def test_7_the_tokenizer_follows_the_data_and_samples_keep_their_own_past():
    tokens, observed, scale = MeanScaleBins().encode_context(torch.zeros(2, 8, device="meta"))
    assert tokens.device.type == observed.device.type == scale.device.type == "meta"
    model = tiny("chronos-t5").eval()
    context, noise = torch.randn(1, 32, generator=torch.Generator().manual_seed(0)), torch.rand(1, 6, 32, generator=torch.Generator().manual_seed(1))
    paths = models.sample_paths(model, context, noise)
    for k in range(6):  # beyond the horizon of 16 steps a path depends on no other
        torch.testing.assert_close(models.sample_paths(model, context, noise[:, k:k + 1])[0, 0], paths[0, k])
    together = models.sample_paths(model, context, noise, "median")  # as packaged: the seam is crossed from the median of all
    assert not torch.equal(paths[..., 16:], together[..., 16:])


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-2"])
def test_8_nine_times_the_rows_beyond_the_horizon_fit_the_batch(family, monkeypatch):
    model, seen = tiny(family), []
    original = type(model).forward

    def watched(self, context, *args, **kwargs):
        seen.append(len(context))
        return original(self, context, *args, **kwargs)
    monkeypatch.setattr(type(model), "forward", watched)
    models.forecaster(model, "long", batch_size=36).forecast(np.random.default_rng(0).standard_normal((12, 2, 32)), 40)
    assert max(seen) <= 36


@pytest.mark.parametrize("family", models.FAMILIES)
def test_9_what_lora_leaves_loads_everywhere(family, data, tmp_path):
    base = models.save(tiny(family), tmp_path / "base")
    result = train(configuration(data, tmp_path, None, size=None, n_tokens=None, model_id=str(base), lora={"rank": 2}), QUIET)
    for checkpoint in (result.directory, tmp_path / "run" / "checkpoint-1"):
        assert not (checkpoint / "adapter_config.json").exists() and not any("lora" in name or "base_layer" in name for name in load_file(checkpoint / "model.safetensors"))
        plain = BaseChronosPipeline.from_pretrained(checkpoint)
        context = torch.randn(2, 32) if family != "chronos-2" else torch.randn(1, 2, 32)
        assert all(q.isfinite().all() for q in plain.predict_quantiles(context, prediction_length=16)[0])
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="LoRA adapter, not a whole model"): models.load(tmp_path / "adapters")


def test_10_a_resumed_run_goes_on_with_the_next_batch(data, tmp_path, monkeypatch):
    "Nothing is drawn again and skipped, and no DataLoader stands in the way."
    asked, original = [], StoreSource.batch

    def watched(self, step, rank=0, world_size=1):
        asked.append(step)
        return original(self, step, rank, world_size)
    config = configuration(data, tmp_path, train=dict(max_steps=6, save_steps=3, gradient_accumulation_steps=2))
    with monkeypatch.context() as patch:
        def interrupt(self, args, state, control, **kwargs): raise KeyboardInterrupt
        patch.setattr(training._Report, "on_save", interrupt, raising=False)
        with pytest.raises(KeyboardInterrupt): train(config, QUIET)
    monkeypatch.setattr(StoreSource, "batch", watched)
    train(config, QUIET)
    assert asked[:6] == [6, 7, 8, 9, 10, 11] and all(step <= 11 + training.AHEAD for step in asked)


def test_11_weights_are_trained_in_float32(data, tmp_path):
    half = models.save(tiny("chronos-bolt").to(torch.bfloat16), tmp_path / "half")
    assert json.loads((half / "config.json").read_text())["dtype"] == "bfloat16"
    result = train(configuration(data, tmp_path, None, size=None, model_id=str(half), train=dict(bf16=True)), QUIET)
    assert {p.dtype for p in load_file(result.directory / "model.safetensors").values()} == {torch.float32} and {p.dtype for p in models.load_model(half).parameters()} == {torch.float32}


def test_12_what_is_not_there_is_not_given():
    batch = {"context": torch.randn(4, 32), "target": torch.randn(4, 16), "group_ids": torch.tensor([0, 0, 1, 1])}
    assert "future_covariates" not in models.model_inputs(tiny("chronos-2"), batch) and "attention_mask" not in models.model_inputs(tiny("chronos-t5"), batch)
    batch["context"][0, :5] = torch.nan
    assert models.model_inputs(tiny("chronos-t5"), batch)["attention_mask"][0, :6].tolist() == [0] * 5 + [1]


def test_13_one_process_uses_one_gpu(monkeypatch, data, tmp_path):
    "And a process that was started with others knows them: on a machine without a GPU transformers would train each of them alone."
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: self.__dict__.get("_n_gpu", 2)))
    monkeypatch.setattr(TrainingArguments, "_setup_devices", torch.device("cpu"))
    monkeypatch.setattr(TrainingArguments, "world_size", property(lambda self: 1))
    config = TrainConfig.from_mapping(configuration(data, tmp_path))
    assert training._arguments(config).n_gpu == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="2 processes were started, but transformers sees 1"): training._arguments(config)


def test_14_group_attention_stays_inside_the_groups(monkeypatch):
    "The same numbers and gradients as the packaged model, whatever the sizes of the groups, their order and what is missing; without products between groups."
    ours = tiny("chronos-2", dropout_rate=0.0, num_layers=2).train()  # what a group has said at an earlier time counts from the second layer on
    packaged = Chronos2Model(ours.config).train()
    packaged.load_state_dict(ours.state_dict())
    random = torch.Generator().manual_seed(0)
    groups = torch.tensor([4, 4, 0, 7, 0, 0, 7, 4, 2, 4])
    context, target = torch.randn(10, 32, generator=random), torch.randn(10, 16, generator=random)
    context[3, :20], context[2:5, :10] = torch.nan, torch.nan
    answers = [model(context=context, group_ids=groups, future_target=target, num_output_patches=1) for model in (ours, packaged)]
    torch.testing.assert_close(answers[0].quantile_preds, answers[1].quantile_preds, rtol=1e-4, atol=1e-4)
    for answer in answers: answer.loss.backward()
    for a, b in zip(ours.parameters(), packaged.parameters()):
        if a.grad is not None: torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)
    lengths = []
    block = ours.encoder.block[0].layer[1].self_attention
    block.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[1]))
    ours(context=context, group_ids=groups, num_output_patches=1)
    assert lengths == [4]  # the largest group, not all ten rows
    with torch.no_grad(): assert torch.equal(*(model.eval()(context=context, group_ids=groups).quantile_preds for model in (ours, packaged)))  # forecasts, to the last bit
    weights = ours(context=context, group_ids=groups, num_output_patches=1, output_attentions=True).enc_group_self_attn_weights[0]
    assert weights.shape[-2:] == (10, 10)  # who asks for attention weights gets them as packaged


def test_14_a_compiled_model_has_all_its_layers_in_one_graph():
    "The sizes of the groups depend on the data, and what depends on them is found out before the layers: the number of graphs does not grow with theirs."
    pieces = {}
    for layers in (1, 3):
        model = tiny("chronos-2", dropout_rate=0.0, num_layers=layers).train()
        random = torch.Generator().manual_seed(0)
        inputs = dict(context=torch.randn(8, 32, generator=random), future_target=torch.randn(8, 16, generator=random), group_ids=torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]), num_output_patches=1)
        torch.compiler.reset()
        seen = []
        backend = lambda graph, example: seen.append(sum(node.target is torch.nn.functional.scaled_dot_product_attention for node in graph.graph.nodes)) or graph.forward
        compiled, plain = torch.compile(model, backend=backend)(**inputs), model(**inputs)
        torch.testing.assert_close(compiled.quantile_preds, plain.quantile_preds)
        assert max(seen) == sum(seen) == 2 * layers  # over time and over the group
        pieces[layers] = len(seen)
    assert pieces[1] == pieces[3]


GUARDS = [  # the number of a trap; in which module the guard against it stands; the guard; and what is there without it
    (1, "models", "    model.accepts_loss_kwargs = False\n", ""),
    (1, "training", "        self.model_accepts_loss_kwargs = False\n", ""),
    (2, "windows", "step * world_size + rank)\n        rows", "step)\n        rows"),
    (3, "training", "trainer.args.process_index, trainer.args.world_size)", "0, 1)"),
    (3, "training", "        return self.loader\n", "        return self.accelerator.prepare(DataLoader(type('Windows', (torch.utils.data.IterableDataset,), dict(__iter__=lambda _: iter(self.loader)))(), batch_size=None))\n"),
    (4, "windows", "SeedSequence(self.seed, spawn_key=(*key, number))", "SeedSequence(0, spawn_key=(*key, number))"),
    (4, "windows", "[store[i] for i in range(len(store))]", "[store[i] for i in range(len(store)) if i == 0 or store.paths[i] != store.paths[i - 1]]"),  # a file gives one
    (5, "models", "tie_word_embeddings=True", "tie_word_embeddings=False"),
    (6, "models", "if family is not None and check_family(family) != found:", "if False:"),
    (6, "models", "if not found[family] or architecture != _CLASSES[family].__name__:", "if False:"),
    (7, "tokenizers", "        self.to(x.device)\n", ""),
    (7, "models", 'if rollout == "median": past =', "if True: past ="),
    (8, "models", "// (x.shape[1] * self._rows(prediction_length))", "// x.shape[1]"),
    (9, "training", "models.save(merged(model), directory,", "models.save(model, directory,"),
    (9, "models", 'if (path / "adapter_config.json").is_file() and not', "if False and not"),
    (10, "training", "ignore_data_skip=True", "ignore_data_skip=False"),
    (10, "training", "trainer.state.global_step * trainer.args.gradient_accumulation_steps)", "0)"),
    (11, "models", "dtype=torch.float32, use_safetensors=True", 'dtype="auto", use_safetensors=True'),
    (12, "models", "mask = {} if observed.all() else", "mask ="),
    (12, "models", '"num_output_patches": patches}', '"num_output_patches": patches, "future_covariates": torch.full_like(target, torch.nan)}'),
    (13, "training", "    args._n_gpu = min(args.n_gpu, 1)\n", ""),
    (13, "training", "if args.world_size != processes:", "if False:"),
    (14, "models", "    if isinstance(model, Chronos2Model):\n", "    if False:\n"),
    (14, "models", "(groups, size, slot, row, mask), (_, time, width) = attention_mask.apart,", "(groups, size, slot, row), mask, (_, time, width) = _slots(attention_mask.arguments[0]), attention_mask.apart[4],"),  # found out in each layer
    (14, "models", "index_put_((slot,), attention_mask.to(dtype))", "index_put_((slot,), torch.ones_like(attention_mask, dtype=dtype))"),  # what is missing is seen
]


@pytest.mark.slow
@pytest.mark.parametrize("trap, module, guard, without", GUARDS, ids=[f"{trap}-{i}" for i, (trap, *_) in enumerate(GUARDS)])
def test_without_its_guard_a_test_fails(trap, module, guard, without, root, tmp_path):
    "In a copy of the package from which one guard is taken."
    shutil.copytree(root / "chronos_dysts", tmp_path / "chronos_dysts", ignore=shutil.ignore_patterns("__pycache__", "data"))
    (tmp_path / "chronos_dysts" / "data").symlink_to(root / "chronos_dysts" / "data")
    for name in ("pyproject.toml", "tests/conftest.py", "tests/test_traps.py"): shutil.copy(root / name, tmp_path)
    path = tmp_path / "chronos_dysts" / f"{module}.py"
    whole = path.read_text()
    assert whole.count(guard) == 1, f"the guard of trap {trap} is no longer written like this in {module}: mend GUARDS"
    path.write_text(whole.replace(guard, without))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", "-k", f"test_{trap}_", "test_traps.py"],
                          cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1 and "1 failed" in done.stdout and "error" not in done.stdout.splitlines()[-1], done.stdout[-3000:] + done.stderr[-2000:]
