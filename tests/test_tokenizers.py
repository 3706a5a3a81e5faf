"""The tokens that pretrained weights know: equal to the packaged tokenizer's, bit for bit."""

import pytest
import torch
from chronos import ChronosConfig
from hypothesis import given
from hypothesis import strategies as st

from chronos_dysts.tokenizers import MeanScaleBins


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
