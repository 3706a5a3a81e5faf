"""Models: what is built, what a checkpoint may be, and that forecasts are those of the packaged pipelines where they should be."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline, ChronosPipeline
from huggingface_hub import constants
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import T5ForConditionalGeneration

from chronos_dysts import decoding, models
from chronos_dysts.forecasting import LEVELS, Forecaster, Standardiser
from chronos_dysts.models import FAMILIES, build, family_of, forecaster, lengths, load, load_made, load_model, locate, sample_paths, save, set_lengths
from chronos_dysts.tokenizers import MeanScaleBins, tokenizer_of

SIZE = {"size": "nano", "d_model": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2}


def tiny(family, seed=0, **more):
    "A model of a few thousand weights; large ones, so that random forecasts move."
    return build(family, SIZE | {"initializer_factor": 0.5}, **dict(context_length=48, prediction_length=16, n_tokens=128 if family == "chronos-t5" else None, seed=seed) | more)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {family: save(tiny(family), folder / family, {"remark": family, "systems": ["Lorenz"]}) for family in FAMILIES}


@pytest.fixture(scope="module")
def context(): return np.random.default_rng(0).standard_normal((3, 2, 60)).cumsum(-1) * np.array([1e-3, 1e4])[:, None] + 5


# ---- build ----

@pytest.mark.parametrize("family", FAMILIES)
def test_weights_come_from_the_seed_and_the_global_state_is_left_alone(family):
    before = torch.random.get_rng_state()
    a, b, c = tiny(family, 1), tiny(family, 1), tiny(family, 2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    assert any(not torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters()))


def test_settings_that_have_to_be_given_by_hand():
    t5, bolt, two = (tiny(family).config for family in FAMILIES[:3])
    assert t5.tie_word_embeddings and t5.decoder_start_token_id == 0 and t5.vocab_size == 128
    assert build("chronos-t5", {"size": "tiny", "num_layers": 1}).config.initializer_factor == 0.05
    t5_model = tiny("chronos-t5")
    # transformers 5 ties every T5, and an "untied" one differs in the scale of its outputs
    assert t5_model.lm_head.weight is t5_model.shared.weight and t5_model.config.scale_decoder_outputs
    assert bolt.chronos_pipeline_class == "ChronosBoltPipeline" and bolt.chronos_config["quantiles"] == list(LEVELS)
    assert two.chronos_config["use_reg_token"] and two.chronos_config["time_encoding_scale"] == 48 and len(two.chronos_config["quantiles"]) == 21


@pytest.mark.parametrize("args, kwargs, message", [
    (("chronos-bold",), {}, "chronos-bolt"), (("chronos-2", "smal"), {}, "'small'"), (("chronos-2", {"d_modl": 3}), {}, "'d_model'"), (("chronos-2", {"d_model": 0}), {}, "positive"),
    (("chronos-bolt",), dict(n_tokens=4096), "vocabulary"), (("chronos-bolt",), dict(context_length=0), "context_length"), (("chronos-t5",), dict(n_tokens=3), "bins")])
def test_what_cannot_be_built(args, kwargs, message):
    with pytest.raises(ValueError, match=message): build(*args, **kwargs)


# ---- checkpoints ----

@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_loads_in_plain_chronos_forecasting(checkpoints, family, context):
    plain, ours = BaseChronosPipeline.from_pretrained(checkpoints[family]), load(checkpoints[family])
    assert ours.family == family_of(plain.inner_model.config if hasattr(plain, "inner_model") else plain.model.config) == family
    assert all(torch.equal(a, b) for a, b in zip(plain.inner_model.state_dict().values(), ours.model.state_dict().values()))
    rows = torch.from_numpy(context[:, 0]).float() if family in ("chronos-t5", "chronos-bolt") else torch.from_numpy(context).float()
    torch.manual_seed(0); a = plain.predict_quantiles(rows, prediction_length=16)[0]
    torch.manual_seed(0); b = ours.predict_quantiles(rows, 16)[0]
    assert all(torch.equal(x, y) for x, y in zip(a, b))
    assert all(torch.equal(x, y) for x, y in zip(plain.embed(rows)[0], ours.embed(rows)[0]))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_record_is_beside_the_configuration_and_in_the_card(checkpoints, family):
    config = json.loads((checkpoints[family] / "config.json").read_text())
    assert config["chronos_dysts"]["remark"] == family and "chronos_dysts" not in config["chronos_config"]
    assert load(checkpoints[family]).made["systems"] == ["Lorenz"] == load_made(checkpoints[family])["systems"]
    assert "Lorenz" in (checkpoints[family] / "README.md").read_text()
    assert sorted(p.suffix for p in checkpoints[family].iterdir() if p.name.startswith("model")) == [".safetensors"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("claimed", FAMILIES)
def test_families_are_never_confused(checkpoints, family, claimed, tmp_path):
    if claimed == family:
        load_model(checkpoints[family], claimed)
        return
    with pytest.raises(ValueError, match=f"is a {family} checkpoint, not {claimed}"): load_model(checkpoints[family], claimed)
    # Someone edits chronos_pipeline_class: chronos-forecasting would load a T5 with resized embeddings
    copy = save(load_model(checkpoints[family]), tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["chronos_pipeline_class"] = {"chronos-t5": None, "chronos-bolt": "ChronosBoltPipeline", "chronos-2": "Chronos2Pipeline", "chronos-dysts": "DystsPipeline"}[claimed]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"says it is {claimed}.*is that of {family}"): load(copy)


def test_other_models_are_no_chronos_checkpoints(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="no Chronos checkpoint.*bert"): load(tmp_path)


def test_weights_are_loaded_in_float32_and_never_from_a_pickle(checkpoints, tmp_path):
    half = save(load_model(checkpoints["chronos-bolt"]).to(torch.bfloat16), tmp_path / "half")
    assert json.loads((half / "config.json").read_text())["dtype"] == "bfloat16" and {p.dtype for p in load_model(half).parameters()} == {torch.float32}
    (half / "model.safetensors").rename(half / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pytorch_model.bin is a pickle"): load_model(half)


def test_weights_that_do_not_fit_are_refused(checkpoints, tmp_path):
    copy = save(load_model(checkpoints["chronos-bolt"]), tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_layers": 2}))
    with pytest.raises(ValueError, match="does not hold the weights of a whole chronos-bolt"): load_model(copy)


def test_saving_is_all_or_nothing(checkpoints, tmp_path, monkeypatch):
    model = load_model(checkpoints["chronos-bolt"])
    save(model, tmp_path / "a", {"n": 1})
    with pytest.raises(FileExistsError, match="overwrite"): save(model, tmp_path / "a")
    with pytest.raises(ValueError, match="JSON"): save(model, tmp_path / "b", {"n": object()})

    def fails(self, folder, *args, **kwargs):
        (folder / "config.json").write_text("half")
        raise OSError("disk full")
    monkeypatch.setattr(type(model), "save_pretrained", fails)
    with pytest.raises(OSError, match="disk full"): save(model, tmp_path / "a", {"n": 2}, overwrite=True)
    assert load_made(tmp_path / "a")["n"] == 1 and [p.name for p in tmp_path.iterdir()] == ["a"]
    monkeypatch.undo()
    save(model, tmp_path / "a", {"n": 3}, overwrite=True)
    assert load_made(tmp_path / "a")["n"] == 3 and [p.name for p in tmp_path.iterdir()] == ["a"]


# ---- finding a checkpoint ----

def test_directories_that_are_no_checkpoints(checkpoints, tmp_path):
    save(load_model(checkpoints["chronos-bolt"]), tmp_path / "run" / "final")
    with pytest.raises(ValueError, match="no config.json; there is one inside it: model_id=.*final"): locate(tmp_path / "run")
    with pytest.raises(ValueError, match="did you mean .*run"): locate(tmp_path / "rnu")
    with pytest.raises(ValueError, match="is a file"): locate(checkpoints["chronos-bolt"] / "config.json")
    with pytest.raises(ValueError, match="directory, or the name of a model"): locate("nowhere")
    (tmp_path / "lora").mkdir(); (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="LoRA"): locate(tmp_path / "lora")


def test_no_hub_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="amazon/chronos-nothing.*cannot be reached.*local checkpoint directory") as caught: load("amazon/chronos-nothing")
    assert "\n" not in str(caught.value)


# ---- lengths ----

def test_lengths_can_change_for_fine_tuning():
    for family in FAMILIES:
        model = tiny(family)
        assert lengths(model) == (48, 16)
        set_lengths(model, 96, 12)
        assert lengths(model)[0] == 96 and family_of(model.config) == family
    two = tiny("chronos-2")
    set_lengths(two, 96, 40)
    assert lengths(two) == (96, 48) and two.chronos_config.time_encoding_scale == 48  # the scale of time stays what it was
    with pytest.raises(ValueError, match="16 steps that the head of this Bolt"): set_lengths(tiny("chronos-bolt"), 48, 17)
    with pytest.raises(ValueError, match="16 steps that this model"): set_lengths(tiny("chronos-dysts"), 48, 17)
    with pytest.raises(ValueError, match="2048 steps that chronos-dysts supports"): set_lengths(tiny("chronos-dysts"), 2049, 16)


# ---- forecasts ----

@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("steps", [5, 16, 40])
def test_a_forecaster(checkpoints, family, context, steps):
    model = load(checkpoints[family])
    assert isinstance(model, Forecaster)
    forecast = model.forecast(context, steps)
    assert forecast.median.shape == (3, 2, steps) and np.isfinite(forecast.quantiles).all()
    # Windows do not influence each other, and numpy and torch are the same
    alone = [model.forecast(context[i:i + 1], steps).quantiles for i in range(3)]
    np.testing.assert_allclose(np.concatenate(alone), forecast.quantiles, rtol=1e-3, atol=1e-4 * np.ptp(context[:, 1]) * 1e-3)
    assert np.array_equal(model.forecast(torch.from_numpy(context), steps).median, forecast.median)
    # Only the last context_length steps are read
    np.testing.assert_array_equal(model.forecast(context[..., -48:], steps).median, forecast.median)


@pytest.mark.parametrize("family", FAMILIES)
def test_forecasts_move_with_the_data(checkpoints, family, context):
    model = load(checkpoints[family])
    median = model.forecast(context, 16).median
    np.testing.assert_allclose(model.forecast(8 * context, 16).median, 8 * median, rtol=1e-5)  # a power of two rounds alike
    if family != "chronos-t5":  # a token may tip over at the edge of its bin, and a path with it
        np.testing.assert_allclose(model.forecast(7 * context + 3, 16).median, 7 * median + 3, rtol=1e-3, atol=1e-2)


@pytest.mark.filterwarnings("ignore:We recommend keeping prediction length")
@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-2"])
@pytest.mark.parametrize("steps", [16, 40])
def test_quantiles_are_those_of_the_packaged_pipeline(checkpoints, family, context, steps):
    model, standard = load(checkpoints[family]), Standardiser.of(context[..., -48:])
    inputs = torch.from_numpy(standard.apply(context[..., -48:])).float()
    packaged = model.pipeline.predict_quantiles(inputs.reshape(6, 48) if family == "chronos-bolt" else inputs, prediction_length=steps, quantile_levels=list(LEVELS))[0]
    packaged = packaged.reshape(3, 2, steps, 9) if family == "chronos-bolt" else torch.stack(packaged)
    np.testing.assert_allclose(model.forecast(context, steps).quantiles, packaged.numpy() * standard.scale[..., None] + standard.mean[..., None], rtol=1e-5, atol=1e-5 * 1e4)


def test_constant_coordinates_are_forecast_as_constant(checkpoints):
    context = np.full((1, 2, 48), 3.5); context[0, 1] = np.sin(np.arange(48))
    for family in FAMILIES:
        forecast = load(checkpoints[family]).forecast(context, 16)
        assert (forecast.quantiles[0, 0] == 3.5).all() and np.ptp(forecast.median[0, 1]) > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_contexts_that_are_refused(checkpoints, bad):
    context = np.zeros((1, 1, 48)); context[0, 0, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinite"): load(checkpoints["chronos-bolt"]).forecast(context, 4)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"], ids=["unknown", "absent"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ValueError, match=f"device='{device}' cannot be used: .*; take cpu"): load("chronos-dysts-nano", device)


def test_standardise_as_it_was_trained(checkpoints):
    model = load_model(checkpoints["chronos-t5"])
    assert forecaster(model, "a").standardise and not forecaster(model, "a", standardise=False).standardise
    model.config.chronos_dysts = {"standardise": False}
    assert not forecaster(model, "a").standardise


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("steps", [16, 40])
def test_chunks_leave_no_trace(checkpoints, family, context, steps):
    "Beyond its horizon a Bolt or a Chronos-2 has nine times the rows: they are forecast in chunks of `batch_size` rows."
    whole, chunks = (load(checkpoints[family], batch_size=size).forecast(context, steps).quantiles for size in (256, 2))
    np.testing.assert_allclose(whole, chunks, rtol=1e-3, atol=1e-4 * np.ptp(context[:, 1]) * 1e-3)


# ---- sample paths ----

def test_a_path_goes_on_from_its_own_past(checkpoints):
    "chronos-forecasting would feed the median over samples back: then these are no paths, and their spread collapses at each seam."
    model, random = load_model(checkpoints["chronos-t5"]).eval(), np.random.default_rng(0)
    context, noise = torch.from_numpy(random.standard_normal((2, 48)).cumsum(-1)).float(), torch.from_numpy(random.random((2, 5, 40))).float()
    paths = sample_paths(model, context, noise)
    for row in range(2):
        for k in range(5):
            for seam in (16, 32):
                past = torch.cat([context[row], paths[row, k, :seam]])[None]
                alone = sample_paths(model, past, noise[row:row + 1, k:k + 1, seam:])[0, 0]
                torch.testing.assert_close(alone, paths[row, k, seam:])


def test_paths_are_drawn_from_the_distribution_of_the_packaged_pipeline(checkpoints):
    model = load(checkpoints["chronos-t5"])
    context, n = torch.randn(1, 48, generator=torch.Generator().manual_seed(0)).cumsum(-1), 4000
    torch.manual_seed(0)
    packaged = model.pipeline.predict(context, prediction_length=3, num_samples=n)[0].numpy()
    noise = torch.from_numpy(np.random.default_rng(1).random((1, n, 3))).float()
    ours = sample_paths(model.model, context, noise)[0].numpy()
    for step in range(3):  # Kolmogorov-Smirnov, two samples, level 0.1 %; the packaged way may draw an end of sequence, which it decodes as the lowest bin
        values = np.unique(np.concatenate([packaged[:, step], ours[:, step]]))
        distance = np.abs((packaged[:, step, None] <= values).mean(0) - (ours[:, step, None] <= values).mean(0)).max()
        assert distance < 1.95 * np.sqrt(2 / n) + 0.02
    assert np.corrcoef(packaged[:, 0], packaged[:, 1])[0, 1] == pytest.approx(np.corrcoef(ours[:, 0], ours[:, 1])[0, 1], abs=0.08)


def test_the_seed_of_the_paths_has_an_effect(checkpoints, context):
    a, b, c = (load(checkpoints["chronos-t5"], seed=seed).forecast(context, 8).samples for seed in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_a_cache_changes_nothing(checkpoints):
    "Decoding step by step gives the logits of decoding at once."
    model: T5ForConditionalGeneration = load_model(checkpoints["chronos-t5"]).eval()
    bins = MeanScaleBins.from_config(model.config.chronos_config)
    context = torch.randn(3, 48)
    tokens, _, scale = bins.encode_context(context)
    noise = torch.rand(3, 1, 16)
    path = sample_paths(model, context, noise)[:, 0]
    drawn, _ = bins.encode(path, scale)
    start = torch.zeros(3, 1, dtype=torch.long)
    logits = model(input_ids=tokens, decoder_input_ids=torch.cat([start, drawn[:, :-1]], 1)).logits
    logits[..., :2] = -torch.inf
    for step in range(16):
        assert torch.equal(decoding.draw(logits[:, step], noise[:, 0, step], 1.0, 50, 1.0)[:, 0], drawn[:, step])


# ---- other tokenizers ----

OWN = ("standardised", "quantile", "two-level")


def coded(kind, n_tokens=66, **more):
    return build("chronos-t5", {"size": "nano", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "initializer_factor": 0.4}, context_length=32, prediction_length=8, n_tokens=n_tokens, tokenizer=kind, **more).eval()


@pytest.mark.parametrize("kind", OWN)
def test_paths_are_drawn_token_by_token_as_the_whole_model_would(kind):
    "The logits of each token are those of one pass over all tokens before it, in a two-level code those of its own step included; drawn from what may stand there."
    model, context, noise_of = coded(kind), torch.randn(3, 32, generator=torch.Generator().manual_seed(0)).cumsum(-1), torch.Generator().manual_seed(1)
    code = tokenizer_of(model.config.chronos_config)
    each = code.tokens_per_step
    noise = torch.rand(3, 1, 8 * each, generator=noise_of)
    path = sample_paths(model, context, noise)[:, 0]
    tokens, _, scale = code.encode_context(context)
    drawn, _ = code.encode(path, scale)
    logits = model(input_ids=tokens, decoder_input_ids=torch.cat([torch.zeros(3, 1, dtype=torch.long), drawn[:, :-1]], 1)).logits.detach()
    for place in range(8 * each):
        allowed = code.choices(place)
        assert torch.equal(decoding.draw(logits[:, place, allowed], noise[:, 0, place], 1.0, None, 1.0)[:, 0] + allowed.start, drawn[:, place])
    torch.testing.assert_close(code.decode(drawn, scale), path, rtol=1e-5, atol=1e-5)


def test_the_second_token_knows_the_first():
    "p(fine | coarse): with the coarse token of a step changed, other fine ones are drawn from the same numbers, while the coarse token of that step does not look at them."
    model = coded("two-level")
    code = tokenizer_of(model.config.chronos_config)
    context, noise = torch.randn(1, 32, generator=torch.Generator().manual_seed(0)), torch.rand(1, 1, 16, generator=torch.Generator().manual_seed(1))
    scale, tokens = code.scale(context), []
    other, fine = noise.clone(), noise.clone()
    other[..., 0], fine[..., 1] = 1 - noise[..., 0], 1 - noise[..., 1]  # the first numbers of the first step, and the second
    for numbers in (noise, other, fine): tokens.append(code.encode(sample_paths(model, context, numbers)[:, 0], scale)[0][0])
    assert tokens[0][0] == tokens[2][0] and tokens[0][1] != tokens[2][1] and tokens[0][0] != tokens[1][0]
    start = torch.zeros(1, 1, dtype=torch.long)
    after = [model(input_ids=code.encode_context(context)[0], decoder_input_ids=torch.cat([start, t[None, :1]], 1)).logits[0, 1, code.choices(1)].softmax(-1).detach() for t in (tokens[0], tokens[1])]
    assert float((after[0] - after[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", OWN)
def test_a_checkpoint_with_another_code_is_read_back_and_refused_elsewhere(kind, tmp_path):
    model = coded(kind)
    if kind == "quantile": assert models.learn_bins(model, [(torch.sin(torch.arange(64.0))[None], torch.zeros(1, 0))]) and not models.learn_bins(model, [])
    save(model, tmp_path / "it")
    context = np.random.default_rng(0).standard_normal((2, 3, 32)).cumsum(-1)
    a, b = models.forecaster(model, "a").forecast(context, 20), load(tmp_path / "it").forecast(context, 20)  # beyond the horizon of 8 steps
    assert np.array_equal(a.samples, b.samples) and a.samples.shape == (2, 20, 3, 20)
    assert np.array_equal(load(tmp_path / "it").forecast(context, 5).samples, a.samples[..., :5])  # a longer horizon begins alike
    np.testing.assert_allclose(load(tmp_path / "it").forecast(4 * context + 8, 8).median, 4 * load(tmp_path / "it").forecast(context, 8).median + 8, rtol=1e-4, atol=1e-3)
    # chronos-forecasting knows it by its pipeline once this package is there …
    pipeline = BaseChronosPipeline.from_pretrained(tmp_path / "it")
    torch.manual_seed(0)
    quantiles, mean = pipeline.predict_quantiles(torch.from_numpy(context[:, 0]).float(), prediction_length=8, num_samples=50)
    torch.manual_seed(0)
    paths = sample_paths(model, torch.from_numpy(context[:, 0]).float(), torch.rand(2, 50, 8 * tokenizer_of(model.config.chronos_config).tokens_per_step))
    assert torch.equal(mean, paths.mean(1)) and torch.equal(quantiles[..., 4], paths.quantile(0.5, 1))
    assert pipeline.embed(torch.from_numpy(context[:, 0]).float())[0].shape == (2, 32 * tokenizer_of(model.config.chronos_config).tokens_per_step + 1, 32)
    # … and refuses it where it is not
    config = json.loads((tmp_path / "it" / "config.json").read_text())
    with pytest.raises(AttributeError, match="chronos_dysts.tokenizers"): ChronosPipeline.from_pretrained(tmp_path / "it")
    alone = "import sys; from chronos import BaseChronosPipeline; BaseChronosPipeline.from_pretrained(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", alone, str(tmp_path / "it")], capture_output=True, text=True) if kind == "two-level" else None
    assert done is None or (done.returncode != 0 and "unknown pipeline class: ChronosDystsPipeline" in done.stderr)
    assert models.family_of(config) == "chronos-t5" and set(config["chronos_config"]) == set(build("chronos-t5", n_tokens=66).config.chronos_config)


@pytest.mark.parametrize("kind", OWN)
def test_a_token_begins_like_the_old_one_of_its_value(kind):
    model = coded("mean-scale", 514)
    old, known = tokenizer_of(model.config.chronos_config), model.shared.weight.detach().clone()
    assert models.set_tokenizer(model, kind) and not models.set_tokenizer(model, kind)
    new, now = tokenizer_of(model.config.chronos_config), model.shared.weight.detach()
    assert torch.equal(now[:2], known[:2]) and len(now) == new.n_tokens == model.config.vocab_size and torch.equal(model.lm_head.weight, now)
    for z in (-3.0, -0.41, 0.0, 1.7):
        theirs, mine = old.encode(torch.tensor([z]), old.unit())[0][0], new.encode(torch.tensor([z]), new.unit())[0][0]
        nearest = int((known - now[mine]).norm(dim=1).argmin())
        assert abs(nearest - int(theirs)) <= (3 if kind == "two-level" else 1)  # a coarse cell is wider than a bin
    assert models.set_tokenizer(model, "mean-scale", 514) and not hasattr(model.config, "chronos_pipeline_class")
    with pytest.raises(ValueError, match="reads numbers"): models.set_tokenizer(build("chronos-bolt"), kind)


# ---- attention as a model trains with it on a GPU ----

@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("family", FAMILIES[:3])
def test_attention_on_a_gpu_is_that_of_the_packaged_model(family, missing, monkeypatch):
    random = torch.Generator().manual_seed(0)
    context, target = torch.randn(12, 96, generator=random).cumsum(1), torch.randn(12, 32, generator=random)
    if missing: context[:5, :40], context[7] = torch.nan, torch.nan
    groups = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 4, 4])

    def slopes():
        model.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model = build(family, {"size": "nano", "dropout_rate": 0.0}, context_length=96, prediction_length=32).train()
    inputs = models.model_inputs(model, {"context": context, "target": target, "group_ids": groups})
    for frozen in (False, True):  # learnt positions that are not trained, as with LoRA, still count
        for name, p in model.named_parameters(): p.requires_grad_(not frozen or "attention_bias" not in name)
        loss, expected = slopes()
        shapes = []
        with monkeypatch.context() as patch:
            patch.setattr(models, "_trains_on_gpu", lambda module, query: module.training)
            patch.setattr(models, "attend", lambda *arguments, attend=models.attend: shapes.append((arguments[0].shape[2], arguments[1].shape[2])) or attend(*arguments))
            models.for_training(model)
            there, found = slopes()
            with torch.no_grad(): model.eval()(**inputs)
            model.train()
        assert set(shapes) == {"chronos-t5": {(97, 97), (33, 33), (33, 97)}, "chronos-bolt": {(7, 7), (1, 1), (1, 7)}, "chronos-2": {(9, 9), (4, 4)}}[family]
        assert len(shapes) == {"chronos-t5": 6, "chronos-bolt": 6, "chronos-2": 4}[family]  # of the model that trains, not of the one that forecasts
        torch.testing.assert_close(there, loss, rtol=1e-5, atol=0)
        assert found.keys() == expected.keys()
        scale = max(float(slope.norm()) for slope in expected.values())
        for name, slope in expected.items(): assert float((found[name] - slope).norm()) < 1e-4 * scale, name


def test_a_compiled_t5_attends_in_one_graph(monkeypatch):
    monkeypatch.setattr(models, "_trains_on_gpu", lambda module, query: module.training)
    model = models.for_training(build("chronos-t5", {"size": "nano", "dropout_rate": 0.0}, context_length=96, prediction_length=32)).train()
    inputs = models.model_inputs(model, {"context": torch.randn(2, 96, generator=torch.Generator().manual_seed(0)).cumsum(1), "target": torch.randn(2, 32)})
    torch.compiler.reset()
    graphs = []
    compiled = torch.compile(model, backend=lambda graph, example: graphs.append(graph) or graph.forward)(**inputs)
    torch.testing.assert_close(compiled.loss, model(**inputs).loss)
    assert len(graphs) == 1


@pytest.mark.parametrize("family", FAMILIES[:3])
def test_a_step_on_a_gpu_adds_up_in_one_order(family, monkeypatch):
    """Of what `torch.use_deterministic_algorithms` lists as having no fixed order on a GPU a step uses nothing, nor fused attention over several blocks of keys: weights end the same twice."""
    unordered = {"scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_", "index_add", "index_add_", "index_copy", "put", "put_", "histc", "bincount", "median", "nll_loss2d_forward",
                 "grid_sampler_2d", "replication_pad1d_backward", "reflection_pad1d_backward", "_embedding_bag_backward"}

    class Operations(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), others=None):
            name = function.overloadpacket.__name__
            floats = name == "cumsum" and arguments[0].is_floating_point()
            fused = name.startswith("_scaled_dot_product") and arguments[1].shape[-2] > 64
            seen.append(name)
            if name in unordered or floats or fused: found.append((name, [tuple(x.shape) for x in arguments if isinstance(x, torch.Tensor)]))
            return function(*arguments, **(others or {}))
    monkeypatch.setattr(models, "_trains_on_gpu", lambda module, query: module.training)
    model = models.for_training(build(family, {"size": "nano", "dropout_rate": 0.0}, context_length=1280, prediction_length=32)).train()  # here a fused kernel does not drop
    random = torch.Generator().manual_seed(0)
    inputs = models.model_inputs(model, {"context": torch.randn(3, 1280, generator=random).cumsum(1), "target": torch.randn(3, 32, generator=random), "group_ids": torch.tensor([0, 0, 1])})
    seen, found = [], []
    with Operations():
        with torch.autocast("cpu", torch.bfloat16): loss = model(**inputs).loss
        loss.backward()
    assert not found and {"bmm", "_softmax_backward_data", "mm"} <= set(seen)
    if family == "chronos-t5": assert "nll_loss_backward" in seen and "embedding_dense_backward" in seen


@pytest.mark.parametrize("n, m", [(1, 40), (4, 4), (12, 40), (12, 80)])
def test_attention_drops_its_share_of_weights(n, m):
    torch.manual_seed(0)
    query, key = torch.randn(200, 2, n, 8), torch.randn(200, 2, m, 8)
    whole, dropped = (models.attend(query, key, torch.eye(m).expand(200, 2, m, m), None, p) for p in (0.0, 0.25))  # the weights themselves
    torch.testing.assert_close(whole.sum(-1), torch.ones(200, 2, n))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75)
