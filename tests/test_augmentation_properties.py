"""What each augmentation promises, on any batch; and that its two ways of being called agree."""

import hypothesis
import numpy as np
import pytest
import torch
from gluonts.core import serde
from hypothesis import strategies as st
from hydra.utils import instantiate
from omegaconf import OmegaConf

from chronos_dysts import augmentations
from chronos_dysts.augmentations import (Augmentation, Mixture, ObservationNoise, RandomAffineTransform, RandomConvexCombinationTransform, RandomDimSelection, RandomDrop, RandomPhaseSurrogate,
                                         RandomProjectedSkewTransform, RandomTakensEmbedding, RandomTimeRescale, RandomTimeReversal, Standardize, apply_parts, standardise, steps_lost)


def given(**strategies):
    "Some dozens of examples, however slow the machine."
    return lambda test: hypothesis.settings(deadline=None, max_examples=40)(hypothesis.given(**strategies)(test))


SEEDS = st.integers(0, 2**32 - 1)
BATCHES = st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(8, 40))
ALL = [RandomAffineTransform(out_dim=4, scale=2.0, seed=1), RandomConvexCombinationTransform(num_combinations=5, alpha=0.7, seed=2), RandomProjectedSkewTransform(embedding_dim=3, seed=3), RandomAffineTransform(),
       RandomTakensEmbedding(3, 1, 3, seed=4), RandomDimSelection(1, seed=5), RandomTimeRescale(3.0, seed=6), RandomTimeReversal(0.5, seed=7), ObservationNoise(0.1, seed=8), RandomDrop(0.2, seed=9), Standardize(),
       RandomPhaseSurrogate(seed=10), Mixture([RandomTimeReversal(1.0), RandomTimeRescale(), ObservationNoise()], [0.3, 0.3, 0.2], seed=11),
       Mixture([Mixture([RandomAffineTransform(2), RandomProjectedSkewTransform(2)]), RandomTakensEmbedding(2, 1, 2)], seed=12)]


def batch_of(shape, seed): return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape) * 10.0 ** np.random.default_rng(seed).integers(-5, 6))


def test_every_augmentation_is_tested():
    concrete = {kind for kind in vars(augmentations).values() if isinstance(kind, type) and issubclass(kind, Augmentation) and "__init__" in vars(kind)}
    assert {type(a) for a in ALL} == concrete and len(concrete) == 12
    for kind in concrete - {Mixture}: kind()  # the defaults will do


@given(shape=BATCHES, seed=SEEDS, alpha=st.floats(0.05, 50), out=st.integers(1, 8))
def test_convex_combinations_stay_in_the_hull_of_the_coordinates(shape, seed, alpha, out):
    x = batch_of(shape, seed)
    y = RandomConvexCombinationTransform(out, alpha)(x, np.random.default_rng(seed))
    slack = 1e-12 * x.abs().max()
    assert (y >= x.amin(1, keepdim=True) - slack).all() and (y <= x.amax(1, keepdim=True) + slack).all()
    same = x[:, :1].expand_as(x)  # all coordinates equal: so is each average of them
    torch.testing.assert_close(RandomConvexCombinationTransform(out, alpha)(same, np.random.default_rng(seed)), x[:, :1].expand(-1, out, -1), rtol=1e-12, atol=0)


@given(shape=BATCHES, seed=SEEDS, extra=st.integers(0, 4))
def test_an_affine_map_into_as_many_dims_or_more_can_be_undone(shape, seed, extra):
    x = batch_of(shape, seed)
    transform = RandomAffineTransform(shape[1] + extra)
    y, drawn = transform(x, np.random.default_rng(seed)), transform.draw(np.random.default_rng(seed), shape[0], (shape[1],))
    condition = np.linalg.cond(drawn[..., :-1]).max()
    back = np.linalg.pinv(drawn[..., :-1], rcond=1e-14) @ (y.numpy() - drawn[..., -1:])
    assert np.abs(back - x.numpy()).max() <= 1e-12 * condition * max(1, float(x.abs().max()))


@given(shape=BATCHES, seed=SEEDS)
def test_a_projected_sum_is_linear_in_each_of_the_two_flows(shape, seed):
    a, b = batch_of(shape, seed), batch_of(shape, seed + 1)
    def skew(x): return RandomProjectedSkewTransform(2)(x, np.random.default_rng(seed))
    torch.testing.assert_close(skew(2 * a - b), 2 * skew(a) - skew(b), rtol=1e-9, atol=1e-9 * float(a.abs().max() + b.abs().max()))


def test_a_projected_sum_mixes_an_item_with_the_next_and_the_last_with_the_first():
    x = torch.randn(4, 3, 10, dtype=torch.float64)
    for changed in range(4):
        other = x.clone()
        other[changed] += 1
        skew = RandomProjectedSkewTransform()
        moved = (skew(other, np.random.default_rng(0)) != skew(x, np.random.default_rng(0))).any(-1).any(-1)
        assert moved.nonzero().flatten().tolist() == sorted({changed, (changed - 1) % 4})


@pytest.mark.parametrize("augmentation", ALL, ids=repr)
@given(shape=BATCHES, seed=SEEDS)
def test_entries_and_batches_agree(augmentation, shape, seed):
    x = batch_of(shape, seed)
    before = x.clone()
    entries = [{"target": item.numpy(), "item_id": i} for i, item in enumerate(x)]
    batched = augmentation(x, np.random.default_rng(augmentation.seed))
    one_by_one = list(augmentation(iter(entries), True))
    together = np.stack([e["target"] for e in one_by_one])
    if isinstance(augmentation, RandomPhaseSurrogate): np.testing.assert_allclose(together, batched.numpy(), rtol=0, atol=1e-13 * float(x.abs().max()) * shape[2])
    else: assert np.array_equal(together, batched.numpy(), equal_nan=True)  # to the last bit
    assert [e["item_id"] for e in one_by_one] == list(range(len(x)))
    assert torch.equal(x, before)  # nothing is changed in place
    if not augmentation.always: assert [e["target"] is f["target"] for e, f in zip(augmentation(entries, False), entries)] == [True] * len(entries)


@pytest.mark.parametrize("augmentation", ALL, ids=repr)
def test_values_that_serialise(augmentation):
    def config(value):  # as a YAML file has it
        if isinstance(value, list): return [config(item) for item in value]
        return {"_target_": f"chronos_dysts.augmentations.{type(value).__name__}"} | {name: config(item) for name, item in value.__init_args__.items()} if isinstance(value, Augmentation) else value

    for copy in (serde.decode(serde.encode(augmentation)), serde.load_json(serde.dump_json(augmentation)), instantiate(OmegaConf.create(config(augmentation)))):
        assert copy == augmentation and hash(copy) == hash(augmentation)


def test_chains_work_both_ways():
    chain = RandomAffineTransform(4) + RandomConvexCombinationTransform(2)
    copy = serde.decode(serde.encode(chain))
    x = torch.randn(3, 3, 20, dtype=torch.float64)
    random = np.random.default_rng(0)
    by_hand = RandomConvexCombinationTransform(2)(RandomAffineTransform(4)(x, random), random)
    assert torch.equal(copy(x, np.random.default_rng(0)), by_hand)
    assert [e["target"].shape for e in copy([{"target": item.numpy()} for item in x], True)] == [(2, 20)] * 3


@pytest.mark.parametrize("augmentation", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(augmentation, dtype):
    assert augmentation(torch.randn(2, 3, 8, dtype=dtype), np.random.default_rng(0)).dtype == dtype


@pytest.mark.gpu
@pytest.mark.parametrize("augmentation", ALL, ids=repr)
def test_the_same_on_an_accelerator(augmentation):
    x = torch.randn(4, 3, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    there = augmentation(x.cuda(), np.random.default_rng(1))
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), augmentation(x, np.random.default_rng(1)), rtol=1e-12, atol=1e-12, equal_nan=True)


@given(shape=BATCHES, seed=SEEDS, dim=st.integers(1, 4), lags=st.tuples(st.integers(1, 2), st.integers(0, 1)))
def test_the_rows_of_a_takens_embedding_are_shifted_copies_of_one_coordinate(shape, seed, dim, lags):
    x = batch_of(shape, seed)
    takens = RandomTakensEmbedding(dim, lags[0], sum(lags))
    if shape[2] <= takens.loses:
        with pytest.raises(ValueError, match="at least"): takens(x, np.random.default_rng(seed))
        return
    y, drawn = takens(x, np.random.default_rng(seed)), takens.draw(np.random.default_rng(seed), shape[0], (shape[1],), shape[2])
    assert y.shape == (shape[0], dim, shape[2] - takens.loses) and steps_lost(takens) == takens.loses
    for item, made, (channel, lag) in zip(x, y, drawn):
        assert lags[0] <= lag <= sum(lags)
        assert torch.equal(made[0], item[channel, takens.loses:])  # ends where the original ends
        for j in range(1, dim): assert torch.equal(made[j], item[channel, takens.loses - j * lag:shape[2] - j * lag])


def test_a_takens_embedding_draws_every_coordinate_and_lag():
    drawn = RandomTakensEmbedding(2, 2, 5).draw(np.random.default_rng(0), 4000, (3,))
    counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts[0]) == 12 and counts[1].min() > 4000 / 12 * 0.7


@given(shape=BATCHES, seed=SEEDS, data=st.data())
def test_a_selection_takes_coordinates_as_they_are_each_once_in_order(shape, seed, data):
    x = batch_of(shape, seed)
    k = data.draw(st.integers(1, shape[1]))
    for item, made in zip(x, RandomDimSelection(k)(x, np.random.default_rng(seed))):
        found = [[c for c in range(shape[1]) if torch.equal(row, item[c])][0] for row in made]
        assert found == sorted(set(found))


@given(seed=SEEDS, length=st.integers(8, 60), factor=st.floats(1, 8))
def test_dilation_is_exact_on_cubics_and_stays_on_the_orbit(seed, length, factor):
    rng = np.random.default_rng(seed)
    coefficients, t = rng.standard_normal((2, 3, 4)), np.arange(length) / length
    x = torch.from_numpy(np.einsum("bck,kt->bct", coefficients, t ** np.arange(4)[:, None]))
    rescale = RandomTimeRescale(factor)
    drawn = rescale.draw(np.random.default_rng(seed), 2, (3,), length)
    assert (drawn[:, 0] >= 1).all() and (drawn[:, 0] <= factor * (1 + 1e-12)).all() and (drawn[:, 1] >= 0).all()
    times = (drawn[:, 1:] + np.arange(length) / drawn[:, :1]) / length
    assert times.max() <= t[-1] + 1e-9  # nothing is read beyond the end
    expected = np.einsum("bck,bkt->bct", coefficients, times[:, None] ** np.arange(4)[:, None])
    np.testing.assert_allclose(rescale(x, np.random.default_rng(seed)).numpy(), expected, rtol=1e-8, atol=1e-8)


@given(shape=BATCHES, seed=SEEDS)
def test_no_dilation_is_no_change(shape, seed):
    x = batch_of(shape, seed)
    torch.testing.assert_close(RandomTimeRescale(1.0)(x, np.random.default_rng(seed)), x, rtol=1e-12, atol=0)


def test_a_dilated_sine_has_the_frequency_divided_by_the_factor():
    t = np.arange(4000)
    for seed in range(5):
        (factor, _), = RandomTimeRescale(4).draw(np.random.default_rng(seed), 1, (1,), 4000)
        y = RandomTimeRescale(4)(torch.from_numpy(np.sin(0.3 * t))[None, None], np.random.default_rng(seed))[0, 0].numpy()
        crossings = np.flatnonzero((y[1:] > 0) & (y[:-1] <= 0))
        assert abs(2 * np.pi / np.diff(crossings).mean() - 0.3 / factor) < 0.002


@given(shape=BATCHES, seed=SEEDS, probability=st.sampled_from([0.0, 0.5, 1.0]))
def test_reversal_is_its_own_inverse_and_off_by_default(shape, seed, probability):
    x = batch_of(shape, seed)
    assert torch.equal(RandomTimeReversal()(x, np.random.default_rng(seed)), x)
    reverse = RandomTimeReversal(probability)
    y = reverse(x, np.random.default_rng(seed))
    for item, made in zip(x, y): assert torch.equal(made, item) or torch.equal(made, item.flip(1))
    assert torch.equal(reverse(y, np.random.default_rng(seed)), x)


@given(shape=BATCHES, seed=SEEDS, scale=st.floats(0.001, 1))
def test_noise_is_what_was_asked_for(shape, seed, scale):
    x = batch_of(shape, seed)
    noise = (ObservationNoise(scale)(x, np.random.default_rng(seed)) - x) / (scale * x.std(2, keepdim=True, correction=0))
    torch.testing.assert_close(noise, torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)), rtol=0, atol=1e-9 / scale)
    assert torch.equal(ObservationNoise(0)(x, np.random.default_rng(seed)), x)


@given(shape=BATCHES, seed=SEEDS, probability=st.floats(0, 1))
def test_what_is_not_dropped_is_as_it_was(shape, seed, probability):
    x = batch_of(shape, seed)
    y = RandomDrop(probability)(x, np.random.default_rng(seed))
    assert torch.equal(torch.where(y.isnan(), x, y), x)
    many = RandomDrop(probability)(torch.randn(1, 1, 20_000, dtype=torch.float64), np.random.default_rng(seed)).isnan().double().mean()
    assert abs(many - probability) < 5 * np.sqrt(0.25 / 20_000)


@given(shape=BATCHES, seed=SEEDS)
def test_a_surrogate_keeps_spectra_and_cross_spectra(shape, seed):
    x = batch_of(shape, seed)
    a, b = torch.fft.rfft(x), torch.fft.rfft(RandomPhaseSurrogate()(x, np.random.default_rng(seed)))
    cross = lambda f: f[:, :, None] * f[:, None].conj()  # noqa: E731
    torch.testing.assert_close(cross(a), cross(b), rtol=1e-9, atol=1e-9 * float(cross(a).abs().max()))
    torch.testing.assert_close(a[..., 0], b[..., 0], rtol=1e-9, atol=1e-9 * float(a.abs().max()))  # the mean


def test_a_surrogate_of_chaos_is_no_longer_deterministic():
    "The logistic map: the next value is a function of this one; of the surrogate it is not."
    x = [0.3]
    for _ in range(4000): x.append(3.99 * x[-1] * (1 - x[-1]))
    x = torch.tensor(x, dtype=torch.float64)[None, None]
    def unexplained(y):  # variance of the next value left by the nearest neighbour's
        y = y[0, 0].numpy()
        order = np.argsort(y[:-1])
        return np.square(np.diff(y[1:][order])).mean() / 2 / y.var()
    assert unexplained(x) < 0.01 and unexplained(RandomPhaseSurrogate()(x, np.random.default_rng(0))) > 0.8


@given(shape=BATCHES, seed=SEEDS, part=st.floats(0.3, 1))
def test_standardised_by_the_context(shape, seed, part):
    x = batch_of(shape, seed)
    c = max(3, int(part * shape[2]))
    y = Standardize(c)(x, np.random.default_rng(seed))
    torch.testing.assert_close(y[..., :c].mean(2), torch.zeros(shape[:2], dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(y[..., :c].std(2, correction=0), torch.ones(shape[:2], dtype=torch.float64), rtol=1e-9, atol=0)
    slope = (y[..., 1:] - y[..., :-1]) / (x[..., 1:] - x[..., :-1])  # an affine map of each coordinate
    torch.testing.assert_close(slope, slope[..., :1].expand_as(slope), rtol=1e-6, atol=0)
    torch.testing.assert_close(Standardize(c)(1000 + 7 * x, np.random.default_rng(seed)), y, rtol=1e-5, atol=1e-5)
    assert list(Standardize(c)([{"target": x[0].numpy()}], False))[0]["target"].shape == x[0].shape  # at prediction time too


def test_standardising_leaves_gaps_out():
    x = torch.randn(2, 3, 50, dtype=torch.float64)
    gaps = RandomDrop(0.3)(x, np.random.default_rng(0))
    y, constant = standardise(gaps, 40)
    assert not constant.any() and torch.equal(y.isnan(), gaps.isnan())
    torch.testing.assert_close(y[..., :40].nanmean(2), torch.zeros(2, 3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(y[..., :40].square().nanmean(2), torch.ones(2, 3, dtype=torch.float64))
    nothing, constant = standardise(torch.full((1, 5), torch.nan), 4)
    assert constant.all() and nothing.isnan().all()


# ---- mixtures ----

@given(seed=SEEDS, n=st.integers(1, 12))
def test_a_mixture_does_to_each_item_what_the_one_that_was_drawn_does(seed, n):
    mixture = Mixture([RandomTimeReversal(1.0), RandomDimSelection(3)], [0.5, 0.25])
    x = batch_of((n, 3, 10), seed)
    y = mixture(x, np.random.default_rng(seed))
    generator, _ = mixture._start(np.random.default_rng(seed))
    which = mixture.draw(generator, n, ())
    for item, made, k in zip(x, y, which): assert torch.equal(made, item.flip(1) if k == 0 else item)


def test_the_shares_of_a_mixture():
    for probabilities, expected in (([0.5, 0.2], [0.3, 0.5, 0.2]), ([0.1] * 10, [0] + [0.1] * 10), (None, [0, 0.5, 0.5])):
        transforms = [RandomTimeReversal()] * (len(probabilities) if probabilities else 2)
        which = Mixture(transforms, probabilities).draw(np.random.default_rng(0), 40_000, ())
        share = np.array([(which == k).mean() for k in range(-1, len(transforms))])
        assert (np.abs(share - expected) < 5 * np.sqrt(0.25 / 40_000)).all() and (np.array(expected) > 0)[share > 0].all()


def test_a_mixture_of_results_of_several_dims_comes_in_parts():
    mixture = Mixture([RandomAffineTransform(5), RandomDimSelection(1), RandomTakensEmbedding(2, 1, 3)], [0.3, 0.3, 0.3])
    x = torch.randn(50, 3, 20, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"differ in dim \(1, 2, 3, 5\)"): mixture(x, np.random.default_rng(0))
    for augmentation in (mixture, mixture + RandomTimeReversal(1.0)):
        parts = apply_parts(augmentation, x, np.random.default_rng(0))
        assert sorted(np.concatenate([index for index, _ in parts]).tolist()) == list(range(50))
        assert {part.shape[1] for _, part in parts} == {1, 2, 3, 5} and {part.shape[2] for _, part in parts} == {17}
    assert steps_lost(mixture + mixture) == 6


def test_gluonts_entries_that_lose_steps_start_later():
    import pandas as pd

    entry = {"start": pd.Period("2000-01-01 00:00", freq="h"), "target": np.random.default_rng(0).standard_normal((2, 30))}
    made, = RandomTakensEmbedding(3, 1, 4)([entry], True)
    assert made["start"] == entry["start"] + 8 and made["target"].shape == (3, 22)


@pytest.mark.parametrize("augmentation", [a for a in ALL if a.gaps == "anywhere" and not isinstance(a, Mixture)], ids=repr)
def test_gaps_are_left_where_they_do_not_spread(augmentation):
    x = RandomDrop(0.1)(torch.randn(3, 3, 30, dtype=torch.float64), np.random.default_rng(0))
    assert augmentation(x, np.random.default_rng(0)).isfinite().double().mean() > 0.3


def test_gaps_that_all_coordinates_share_stay_where_they_are():
    x = torch.randn(4, 3, 30, dtype=torch.float64)
    padded = x.clone()
    padded[1, :, :7] = torch.nan
    for linear, items in ((RandomAffineTransform(), [1]), (RandomConvexCombinationTransform(), [1]), (RandomProjectedSkewTransform(3), [0, 1])):  # of a pair either
        y = linear(padded, np.random.default_rng(0))
        expected = torch.zeros(4, 3, 30, dtype=torch.bool)
        expected[items, :, :7] = True
        assert torch.equal(y.isnan(), expected) and torch.equal(y[~expected], linear(x, np.random.default_rng(0))[~expected])
    padded[2, 1, 5] = torch.nan
    for wrong in (RandomAffineTransform(), Mixture([RandomAffineTransform()])):
        with pytest.raises(ValueError, match="RandomAffineTransform would spread .* item [02], coordinate 1, step 5"): wrong(padded[[2]], np.random.default_rng(0))
        with pytest.raises(ValueError, match="item 2, coordinate 1, step 5"): wrong(padded, np.random.default_rng(0))
    with pytest.raises(ValueError, match="RandomPhaseSurrogate would spread"): RandomPhaseSurrogate()(padded, np.random.default_rng(0))


@pytest.mark.parametrize("wrong, message", [
    (lambda: RandomConvexCombinationTransform(alpha=0), "alpha must be positive, not 0"), (lambda: RandomConvexCombinationTransform(alpha=float("nan")), "alpha"),
    (lambda: RandomAffineTransform(out_dim=0), "out_dim must be at least 1, not 0"), (lambda: RandomConvexCombinationTransform(0), "num_combinations must be at least 1"), (lambda: RandomTakensEmbedding(0), "embedding_dim"),
    (lambda: RandomTakensEmbedding(3, 5, 4), "max_lag must be at least 5, not 4"), (lambda: RandomTimeRescale(0.5), "max_factor must be at least 1, not 0.5"), (lambda: RandomTimeReversal(1.5), "probability lies in"),
    (lambda: RandomDrop(-0.1), "probability lies in"), (lambda: ObservationNoise(-1), "scale"), (lambda: RandomDimSelection(0), "num_dims"), (lambda: RandomDimSelection(4)(torch.randn(2, 3, 9), np.random.default_rng(0)), "num_dims=4 of an item of dim 3"),
    (lambda: Mixture([]), "empty"), (lambda: Mixture([RandomDrop()], [1.2]), "sum to 1"), (lambda: Mixture([RandomDrop()], [0.5, 0.5]), "2 probabilities for 1"), (lambda: Mixture(["RandomDrop"]), "no Augmentation"),
    (lambda: Standardize(4)(torch.cat([torch.ones(1, 1, 4), torch.randn(1, 1, 4)], 2), np.random.default_rng(0)), "coordinate 0 of item 0 is constant at 1.0 over its first 4 steps"),
    (lambda: ObservationNoise()(torch.full((1, 1, 4), -torch.inf), np.random.default_rng(0)), "takes finite values, not -inf: item 0, coordinate 0, step 0"),
    (lambda: RandomTimeRescale()(torch.zeros(1, 1, 3), np.random.default_rng(0)), "at least 4 steps, not 3"),
    (lambda: RandomTakensEmbedding()(torch.stack([torch.randn(2, 60), torch.tensor([[2.5]]).expand(2, 60)]), np.random.default_rng(0)), "coordinate 0 of item 1 is constant at 2.5"),
    (lambda: RandomAffineTransform()([torch.randn(3, 9), torch.randn(2, 9)], np.random.default_rng(0)), r"\(3, 9\), \(2, 9\)"), (lambda: RandomProjectedSkewTransform(scale=-1), "scale"),
    (lambda: RandomAffineTransform()(torch.zeros(3, 4), np.random.default_rng(0)), r"\(batch, dim, time\)"),
    (lambda: RandomAffineTransform()(torch.zeros(3, 0, 4), np.random.default_rng(0)), "empty axis"),
    (lambda: RandomAffineTransform()(torch.zeros(3, 1, 4, dtype=torch.long), np.random.default_rng(0)), "real numbers"),
    (lambda: RandomAffineTransform()(torch.full((1, 1, 4), torch.inf), np.random.default_rng(0)), "finite values, not inf"), (lambda: RandomAffineTransform()(torch.tensor([[[1.0, torch.nan, 2.0], [1.0, 2.0, 4.0]]]), np.random.default_rng(0)), r"missing \(NaN\)"),
    (lambda: RandomAffineTransform()(torch.zeros(3, 1, 4), True), "Generator"),
    (lambda: RandomAffineTransform()(np.zeros((3, 1, 4)), np.random.default_rng(0)), "torch tensor"),
    (lambda: list(RandomProjectedSkewTransform()([{"target": np.eye(2, 5)}, {"target": np.eye(2, 6)}], True)), "one length")])
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message): wrong()
