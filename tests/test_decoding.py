"""The decoder step by step against the whole model at once; rollouts against the packaged pipelines and against loops."""

import numpy as np
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from chronos_dysts.decoding import T5Decoder, draw, top_k
from chronos_dysts.forecasting import LEVELS
from chronos_dysts.models import build, forecaster, sample_paths
from chronos_dysts.tokenizers import MeanScaleBins

SIZE = {"size": "nano", "d_model": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2, "initializer_factor": 0.5}


def tiny(family, **more):
    return build(family, SIZE, **dict(context_length=48, prediction_length=16, n_tokens=128 if family == "chronos-t5" else None) | more)


@pytest.mark.parametrize("feed_forward", ("relu", "gated-gelu"))
@pytest.mark.parametrize("tied", (True, False))
@pytest.mark.parametrize("masked", (True, False))
def test_logits_are_those_of_the_whole_model(feed_forward, tied, masked):
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(vocab_size=90, d_model=24, d_kv=6, d_ff=40, num_layers=2, num_decoder_layers=3, num_heads=3, feed_forward_proj=feed_forward,
                                                tie_word_embeddings=tied, decoder_start_token_id=0, relative_attention_num_buckets=8, relative_attention_max_distance=12, initializer_factor=2.0)).eval()
    encoded, tokens, mask = torch.randn(3, 17, 24), torch.randint(0, 90, (12, 40)), None
    if masked:
        mask = torch.ones(3, 17)
        mask[0, :9] = mask[2, 5:7] = 0
    decoder = T5Decoder(model, encoded, mask, samples=4, steps=40)
    ours = torch.stack([decoder.step(tokens[:, t]).clone() for t in range(40)], 1)
    with torch.no_grad():
        theirs = model(encoder_outputs=(encoded.repeat_interleave(4, 0),), attention_mask=None if mask is None else mask.repeat_interleave(4, 0), decoder_input_ids=tokens).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)  # logits of size 100
    with pytest.raises(IndexError): decoder.step(tokens[:, 0])


@pytest.mark.parametrize("n, k", [(4096, 50), (4096, 1), (4096, 500), (4094, 50), (128, 50), (64, 64), (800, 20)])
def test_the_largest_are_the_largest(n, k):
    logits = torch.randn(40, n, generator=torch.Generator().manual_seed(n + k))
    for ours, theirs in zip(top_k(logits, k), logits.topk(k)): assert torch.equal(ours, theirs)


def test_equal_logits_are_as_large_as_each_other():
    logits = torch.randint(0, 40, (30, 4096), generator=torch.Generator().manual_seed(0)).float()
    values, tokens = top_k(logits, 50)
    assert torch.equal(values, logits.topk(50).values) and torch.equal(logits.gather(-1, tokens), values)
    assert all(len(set(row.tolist())) == 50 for row in tokens)


def test_draws_follow_temperature_and_nucleus():
    logits = torch.tensor([[2.0, 1.0, 0.0, -5.0]]).expand(50_000, 4)
    u = (torch.arange(50_000) + 0.5) / 50_000
    share = lambda **kw: torch.bincount(draw(logits, u, **kw)[:, 0], minlength=4) / 50_000
    torch.testing.assert_close(share(temperature=2.0, k=None, p=1.0), (logits[0] / 2).softmax(-1), atol=1e-4, rtol=0)
    nucleus = share(temperature=1.0, k=4, p=0.7)  # the first is not enough, the first two are
    torch.testing.assert_close(nucleus, torch.cat([logits[0, :2].softmax(-1), torch.zeros(2)]), atol=1e-4, rtol=0)


def test_greedy_is_that_of_transformers():
    model = tiny("chronos-t5").eval()
    context = torch.randn(3, 48, generator=torch.Generator().manual_seed(0)).cumsum(-1)
    bins = MeanScaleBins.from_config(model.config.chronos_config)
    tokens, _, scale = bins.encode_context(context)
    theirs = model.generate(tokens, do_sample=False, min_new_tokens=16, max_new_tokens=16, eos_token_id=1, pad_token_id=0, suppress_tokens=[0, 1])[:, 1:]
    ours = sample_paths(model, context, torch.zeros(3, 1, 16), "greedy")
    torch.testing.assert_close(ours[:, 0], bins.decode(theirs, scale))
    again = sample_paths(model, context, torch.rand(3, 1, 40), "greedy")
    torch.testing.assert_close(again[..., :16], ours)
    seam = sample_paths(model, torch.cat([context, again[:, 0, :16]], -1), torch.zeros(3, 1, 24), "greedy")
    torch.testing.assert_close(again[..., 16:], seam)


def test_median_feedback_is_that_of_the_packaged_pipeline():
    "The packaged loop, with our draws in the place of its own: context, samples, their median, and on."
    model = tiny("chronos-t5").eval()
    context, noise = torch.randn(2, 48, generator=torch.Generator().manual_seed(1)).cumsum(-1), torch.rand(2, 6, 40, generator=torch.Generator().manual_seed(2))
    ours, past = sample_paths(model, context, noise, "median"), context
    for seam in (0, 16, 32):
        block = sample_paths(model, past, noise[..., seam:seam + 16])
        torch.testing.assert_close(ours[..., seam:seam + 16], block)
        past = torch.cat([past, block.median(1).values], -1)


@pytest.mark.parametrize("family", ("chronos-bolt", "chronos-2"))
def test_blocks_are_those_of_the_packaged_pipeline(family):
    model = forecaster(tiny(family), family)
    context = torch.randn(3, 2, 48, generator=torch.Generator().manual_seed(0)).cumsum(-1)
    with torch.no_grad(): block = model._at(model._block(context), LEVELS)
    np.testing.assert_allclose(block.numpy(), model._packaged(context, 16), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ("chronos-bolt", "chronos-2"))
def test_rollouts_of_quantile_models(family):
    module = tiny(family)
    context = np.random.default_rng(0).normal(size=(3, 2, 60)).cumsum(-1)
    how = {name: forecaster(module, name, rollout=name, n_samples=50) for name in ("quantiles", "median", "greedy", "samples")}
    short = {name: f.forecast(context, 16) for name, f in how.items()}
    for name in ("median", "greedy", "samples"):  # within what is written at once they are one
        np.testing.assert_array_equal(short[name].median, short["quantiles"].median)
    long = {name: f.forecast(context, 40) for name, f in how.items()}
    assert long["greedy"].is_point and np.array_equal(long["greedy"].median, long["median"].median)
    # the median, one block at a time
    standard = how["median"].forecast(context, 16).median
    x = np.concatenate([context, standard], -1)[..., -48:]
    mean, std = context[..., -48:].mean(-1, keepdims=True), context[..., -48:].std(-1, keepdims=True)
    raw = forecaster(module, "raw", standardise=False, rollout="median")
    again = raw.forecast((x - mean) / std, 16).median * std + mean
    np.testing.assert_allclose(long["median"].median[..., 16:32], again, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ("chronos-bolt", "chronos-2"))
def test_paths_of_quantile_models_keep_their_own_past(family):
    model = forecaster(tiny(family), family, standardise=False, rollout="samples", n_samples=400)
    context = np.random.default_rng(0).normal(size=(2, 2, 48)).cumsum(-1)
    long, direct = model.forecast(context, 32), model.forecast(context, 16)
    inner = [LEVELS.index(q) for q in (0.3, 0.5, 0.7)]  # the outermost are where draws beyond them are held
    quantiles = np.sort(direct.quantiles, axis=-1)  # those of random weights cross
    assert np.mean(np.abs(long.quantiles[..., :16, inner] - quantiles[..., inner]) < 0.5 * (quantiles[..., 8] - quantiles[..., 0])[..., None]) > 0.95
    for k in (0, 7):  # the second block of a path lies between the outermost quantiles of what the model says about its own past
        past = torch.from_numpy(np.concatenate([context, long.samples[:, k, :, :16]], -1)[..., -48:]).float()
        with torch.no_grad(): block = np.sort(model._block(past).numpy(), axis=-1)
        path = long.samples[:, k, :, 16:32]
        assert np.all(path >= block[..., 0] - 1e-3 * abs(path)) and np.all(path <= block[..., -1] + 1e-3 * abs(path))
        ranks = (block[..., :-1] <= path[..., None] + 1e-3 * abs(path[..., None])).sum(-1)
        assert np.ptp(ranks, axis=-1).max() <= 1  # it stays at its quantile
    assert np.array_equal(model.forecast(context[1:], 32).samples, long.samples[1:]) or np.allclose(model.forecast(context[1:], 32).samples, long.samples[1:], rtol=1e-3, atol=1e-3)
    other = forecaster(model.model, family, standardise=False, rollout="samples", n_samples=400, seed=1)
    assert not np.array_equal(other.forecast(context, 32).samples, long.samples)


@pytest.mark.parametrize("family, rollout", [("chronos-t5", "quantiles"), ("chronos-bolt", "beam")])
def test_rollouts_that_there_are_not(family, rollout):
    with pytest.raises(ValueError, match="rollout="): forecaster(tiny(family), family, rollout=rollout)
    with pytest.raises(ValueError, match="n_samples"): forecaster(tiny(family), family, n_samples=-1)
