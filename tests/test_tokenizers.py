"""The tokens that pretrained weights know, equal to the packaged tokenizer's, bit for bit; and the other codes."""

import pytest
import torch
from chronos import ChronosConfig
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chronos_dysts.tokenizers import TOKENIZERS, MeanScaleBins, QuantileBins, StandardisedBins, TwoLevelCode, make_tokenizer, tokenizer_of


def published(**changes):
    return dict(tokenizer_class="MeanScaleUniformBins", tokenizer_kwargs=dict(low_limit=-15.0, high_limit=15.0), context_length=64, prediction_length=16, n_tokens=4096,
                n_special_tokens=2, pad_token_id=0, eos_token_id=1, use_eos_token=True, model_type="seq2seq", num_samples=20, temperature=1.0, top_k=50, top_p=1.0) | changes


@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-30, 30), missing=st.floats(0, 1), n_tokens=st.sampled_from([16, 255, 1024, 4096]), eos=st.booleans(), limit=st.sampled_from([1.0, 5.0, 15.0]))
def test_the_same_tokens_as_the_packaged_tokenizer(seed, exponent, missing, n_tokens, eos, limit):
    config = published(n_tokens=n_tokens, use_eos_token=eos, tokenizer_kwargs=dict(low_limit=-limit, high_limit=limit))
    packaged, ours = ChronosConfig(**config).create_tokenizer(), MeanScaleBins.from_config(config)
    random = torch.Generator().manual_seed(seed)
    context, target = (torch.randn(5, n, generator=random) * 10.0**exponent for n in (64, 16))
    for x in (context, target): x[torch.rand(x.shape, generator=random) < missing] = float("nan")
    context[0] = 0.0
    for got, expected in zip(ours.encode_context(context), packaged.context_input_transform(context)): assert torch.equal(got, expected)
    scale = ours.scale(context)
    for got, expected in zip(ours.encode_target(target, scale), packaged.label_input_transform(target, scale)): assert torch.equal(got, expected)
    samples = torch.randint(0, n_tokens, (5, 3, 16), generator=random)
    assert torch.equal(ours.decode(samples, scale), packaged.output_transform(samples, scale))


@given(n_tokens=st.integers(5, 5000), low=st.floats(-100, 99), width=st.floats(0.1, 100))
@example(n_tokens=4443, low=64.0, width=0.1015625)  # bins of three roundings of float32
def test_values_on_the_edges_of_bins_fall_where_bucketize_puts_them(n_tokens, low, width):
    bins = MeanScaleBins(low, low + width, n_tokens)
    edges = torch.cat([bins.boundaries, bins.centers, torch.tensor([0.0, torch.inf, -torch.inf, 1e30, -1e30])])
    x = torch.cat([edges, edges.nextafter(torch.tensor(torch.inf)), edges.nextafter(torch.tensor(-torch.inf))])
    assert torch.equal(bins._bucket(x), torch.bucketize(x, bins.boundaries, right=True))


def test_leading_axes_are_free_and_arguments_are_left_as_they_were():
    x = torch.randn(4, 3, 2, 32)
    kept, bins = x.clone(), MeanScaleBins()
    tokens, _, scale = bins.encode_context(x)
    flat, _, _ = bins.encode_context(x.reshape(24, 32))
    assert torch.equal(tokens.reshape(24, -1), flat) and torch.equal(x, kept)
    assert (bins.decode(tokens[..., :-1], scale) - x).abs().max() < 30 / 4092 * scale.max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_the_same_tokens_on_an_accelerator():
    x = torch.randn(64, 512)
    tokens, observed, scale = MeanScaleBins().encode_context(x)
    there, _, scale_there = MeanScaleBins().encode_context(x.cuda())
    torch.testing.assert_close(scale_there.cpu(), scale, rtol=1e-6, atol=0)
    assert (there.cpu() != tokens).float().mean() < 1e-3  # the mean is summed in another order, so a value at an edge may fall on the other side


@pytest.mark.parametrize("wrong, message", [(dict(low_limit=1.0, high_limit=1.0), "increase"), (dict(n_tokens=4), "bins"), (dict(pad_token_id=2), "special tokens")])
def test_a_vocabulary_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message): MeanScaleBins(**wrong)


def test_other_families_have_no_such_tokens():
    with pytest.raises(ValueError, match="MeanScaleUniformBins"): MeanScaleBins.from_config({"input_patch_size": 16})


# ---- the other codes ----

OWN = ("standardised", "quantile", "two-level")


def windows(seed, rows=6, time=64):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, time, generator=random) * torch.logspace(-3, 3, rows)[:, None] + torch.linspace(-1e3, 1e3, rows)[:, None]


@pytest.mark.parametrize("kind", OWN)
@given(seed=st.integers(0, 2**32 - 1), n_tokens=st.sampled_from([16, 130, 514]), shift=st.integers(-3, 3), missing=st.floats(0, 0.9), eos=st.booleans())
def test_what_every_code_keeps(kind, seed, n_tokens, shift, missing, eos):
    "Values inside the limits come back to within a bin; units and gaps do not matter; missing stays missing; a copy from the configuration writes the same."
    code = tokenizer_of(make_tokenizer(kind, n_tokens).config() | {"use_eos_token": eos})
    x = torch.randn(5, 48, generator=torch.Generator().manual_seed(seed)).clamp(-2, 2)
    gone = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed + 1)) < missing
    x = x.masked_fill(gone, torch.nan)
    tokens, observed, scale = code.encode_context(x)
    each = code.tokens_per_step
    assert tokens.shape == observed.shape == (5, 48 * each + eos) and scale.shape == (5, 2) and tokens.max() < n_tokens
    if eos: assert (tokens[:, -1] == 1).all() and observed[:, -1].all()
    tokens, observed = tokens[:, :48 * each], observed[:, :48 * each]
    assert torch.equal(observed, ~gone.repeat_interleave(each, -1)) and (tokens[~observed] == 0).all() and (tokens[observed] >= 2).all()
    for place in range(each):
        allowed, here = code.choices(place), tokens[:, place::each][observed[:, place::each]]
        assert ((here >= allowed.start) & (here < allowed.stop)).all()
    units = (x - scale[:, :1]) / scale[:, 1:]
    edges = torch.cat([code.centers, torch.tensor([code.low_limit, code.high_limit])]).sort().values
    widest = 20 / code.size**2 if each == 2 else float(edges.diff().max())
    inside = ~gone & (units > edges[1]) & (units < edges[-2])
    assert ((code.decode(tokens, scale) - x).abs()[inside] <= (0.51 * widest * scale[:, 1:] + 1e-5).expand_as(x)[inside]).all()
    moved = torch.where(gone, torch.nan, x * 2.0**shift)  # exact in floating point
    assert torch.equal(code.encode_context(moved)[0][:, :48 * each], tokens)
    samples = tokens[:, None].expand(-1, 3, -1)  # (row, sample, token)
    assert torch.equal(code.decode(samples, scale)[:, 1], code.decode(tokens, scale))


@pytest.mark.parametrize("kind", OWN)
def test_contexts_without_a_scale(kind):
    code = make_tokenizer(kind, 130)
    x = torch.stack([torch.full((32,), torch.nan), torch.zeros(32), torch.full((32,), 1e6), torch.full((32,), -3.7)])
    scale = code.scale(x)
    assert torch.equal(scale[:, 1], torch.ones(4)) and torch.equal(scale[:, 0], torch.tensor([0.0, 0.0, 1e6, -3.7]))
    far, _ = code.encode(torch.tensor([[torch.inf, -torch.inf, 1e30, -1e30]]), scale[1:2])
    assert code.decode(far, scale[1:2]).isfinite().all() and code.decode(far, scale[1:2])[0, 0] > 4.5 and code.decode(far, scale[1:2])[0, 1] < -4.5


def test_a_large_offset_costs_nothing():
    x = torch.randn(4, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for kind in OWN:
        code = make_tokenizer(kind, 514)
        (near, _, scale), (far, _, moved) = code.encode_context(x.float()), code.encode_context((x + 4096).float())
        steps = code.decode(near[:, :-1], scale) - (code.decode(far[:, :-1], moved) - 4096)
        assert steps.abs().median() < 0.002 and torch.allclose(scale[:, 1], moved[:, 1], rtol=1e-3)  # float32 of 4096 itself rounds to 2e-4


def test_two_levels_are_sixteen_bits():
    code = TwoLevelCode()
    cells = torch.arange(65_536)
    z = -10 + (cells.double() + 0.5) * 20 / 65_536
    tokens, _ = code.encode(z.float(), code.unit())
    coarse, fine = tokens.view(-1, 2).unbind(-1)
    assert torch.equal((coarse - 2) * 256 + fine - 258, cells) and code.n_tokens == 514
    assert (code.decode(tokens, code.unit()).double() - z).abs().max() < 2e-6  # of a cell of 3e-4
    assert code.stands_for().isnan().sum() == 2 + 256 and (code.stands_for()[2:258].diff() > 0).all()


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), n_tokens=st.sampled_from([130, 258, 514]))
def test_quantile_bins_are_used_alike(seed, n_tokens):
    "Whatever the distribution, each bin gets about its share; what is learnt does not depend on the order; and nothing is lost between the limits."
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(192, 128, generator=random)
    x = x**3 if seed % 3 == 0 else torch.sin(3 * x) if seed % 3 == 1 else torch.exp(x)
    code = QuantileBins(even=0.02, n_tokens=n_tokens).learnt((part, part[:, :0]) for part in x.split(48))
    again = QuantileBins(even=0.02, n_tokens=n_tokens).learnt([(x.flip(0), x[:, :0])])
    assert torch.equal(code.centers, again.centers) and code.is_learnt
    tokens, _ = code.encode(x, code.scale(x))
    share = torch.bincount(tokens.flatten(), minlength=n_tokens)[2:] / tokens.numel()
    entropy = -(share * share.clamp(min=1e-12).log2()).sum()
    assert entropy > 0.9 * torch.tensor(n_tokens - 2.0).log2() and entropy > bits_of(StandardisedBins(-10, 10, n_tokens), x)
    copy = tokenizer_of(code.config())
    assert torch.allclose(copy.centers, code.centers, rtol=1e-7, atol=0) and copy.config() == code.config()
    assert code.centers[0] < -5 and code.centers[-1] > 5


def bits_of(code, x):
    share = torch.bincount(code.encode(x, code.scale(x))[0].flatten(), minlength=code.n_tokens) / x.numel()
    return -(share * share.clamp(min=1e-12).log2()).sum()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_code_follows_the_data(kind):
    code = make_tokenizer(kind, 514)
    tokens, observed, scale = code.encode_context(torch.zeros(2, 3, 8, device="meta"))
    assert {x.device.type for x in (tokens, observed, scale)} == {"meta"} and code.decode(tokens[..., :-1], scale).shape == (2, 3, 8)
    x = windows(0)
    kept = x.clone()
    a, b = make_tokenizer(kind, 514).encode_context(x), make_tokenizer(kind, 514).encode_context(x.reshape(2, 3, -1))
    assert torch.equal(a[0], b[0].reshape(6, -1)) and torch.equal(x, kept)


@pytest.mark.parametrize("wrong, n_tokens, message", [("quantiles", None, "did you mean 'quantile'"), ({"kind": "quantile", "centers": [1.0]}, None, "no tokenizer setting 'centers'"), ({"low_limt": -5}, None, "did you mean 'low_limit'"),
    ({"kind": "quantile", "even": 0.0}, None, "tails have none"), ("two-level", 515, "even number"), ({"low_limit": "low"}, None, "tokenizer.low_limit must be a number"), ({"kind": "standardised", "low_limit": 5.0, "high_limit": -5.0}, None, "must increase")])
def test_settings_that_make_no_tokenizer(wrong, n_tokens, message):
    with pytest.raises(ValueError, match=message): make_tokenizer(wrong, n_tokens)


def test_configurations_that_hold_no_tokenizer():
    with pytest.raises(ValueError, match="tokenizer classes MeanScaleUniformBins"): tokenizer_of({"tokenizer_class": "BytePairs"})
    learnt = QuantileBins(n_tokens=66).learnt([(windows(1), windows(1)[:, :4])]).config()
    with pytest.raises(ValueError, match="centers must be 98 increasing numbers"): tokenizer_of(learnt | {"n_tokens": 100})
    with pytest.raises(ValueError, match="all windows are empty"): QuantileBins(n_tokens=66).learnt([(torch.full((2, 8), torch.nan), torch.full((2, 4), torch.nan))])
