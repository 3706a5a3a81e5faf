"""What each augmentation promises, on any batch; and that its two ways of being called agree."""

import numpy as np
import pytest
import torch
from gluonts.core import serde
from hypothesis import given
from hypothesis import strategies as st
from hydra.utils import instantiate

from chronos_dysts.augmentations import RandomAffineTransform, RandomConvexCombinationTransform, RandomProjectedSkewTransform

SEEDS = st.integers(0, 2**32 - 1)
BATCHES = st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 40))
ALL = [RandomAffineTransform(out_dim=4, scale=2.0, seed=1), RandomConvexCombinationTransform(num_combinations=5, alpha=0.7, seed=2), RandomProjectedSkewTransform(embedding_dim=3, seed=3), RandomAffineTransform()]


def batch_of(shape, seed): return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape) * 10.0 ** np.random.default_rng(seed).integers(-5, 6))


@given(shape=BATCHES, seed=SEEDS, alpha=st.floats(0.05, 50), out=st.integers(1, 8))
def test_convex_combinations_stay_in_the_hull_of_the_coordinates(shape, seed, alpha, out):
    x = batch_of(shape, seed)
    y = RandomConvexCombinationTransform(out, alpha)(x, np.random.default_rng(seed))
    slack = 1e-12 * x.abs().max()
    assert (y >= x.amin(1, keepdim=True) - slack).all() and (y <= x.amax(1, keepdim=True) + slack).all()
    constant = torch.full(shape, 3.0, dtype=torch.float64)
    torch.testing.assert_close(RandomConvexCombinationTransform(out, alpha)(constant, np.random.default_rng(seed)), torch.full((shape[0], out, shape[2]), 3.0, dtype=torch.float64))


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
    entries = [{"target": item.numpy(), "item_id": i} for i, item in enumerate(x)]
    batched = augmentation(x, np.random.default_rng(augmentation.seed))
    one_by_one = list(augmentation(iter(entries), True))
    np.testing.assert_allclose(np.stack([e["target"] for e in one_by_one]), batched.numpy(), rtol=1e-12, atol=1e-12 * float(x.abs().max()) * 10)
    assert [e["item_id"] for e in one_by_one] == list(range(len(x)))
    assert all(np.array_equal(e["target"], item) for e, item in zip(entries, x.numpy()))  # nothing is changed in place
    assert [e["target"] is f["target"] for e, f in zip(augmentation(entries, False), entries)] == [True] * len(entries)


@pytest.mark.parametrize("augmentation", ALL, ids=repr)
def test_values_that_serialise(augmentation):
    for copy in (serde.decode(serde.encode(augmentation)), serde.load_json(serde.dump_json(augmentation)),
                 instantiate({"_target_": f"chronos_dysts.augmentations.{type(augmentation).__name__}"} | dict(augmentation.__init_args__))):
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


@pytest.mark.parametrize("wrong, message", [
    (lambda: RandomConvexCombinationTransform(alpha=0), "alpha must be positive, not 0"), (lambda: RandomConvexCombinationTransform(alpha=float("nan")), "alpha"),
    (lambda: RandomAffineTransform(out_dim=0), "out_dim must be positive, not 0"), (lambda: RandomProjectedSkewTransform(scale=-1), "scale"),
    (lambda: RandomAffineTransform()(torch.zeros(3, 4), np.random.default_rng(0)), r"\(batch, dim, time\)"),
    (lambda: RandomAffineTransform()(torch.zeros(3, 0, 4), np.random.default_rng(0)), "empty axis"),
    (lambda: RandomAffineTransform()(torch.zeros(3, 1, 4, dtype=torch.long), np.random.default_rng(0)), "real numbers"),
    (lambda: RandomAffineTransform()(torch.full((1, 1, 4), torch.inf), np.random.default_rng(0)), "NaN or infinite"),
    (lambda: RandomAffineTransform()(torch.zeros(3, 1, 4), True), "Generator"),
    (lambda: RandomAffineTransform()(np.zeros((3, 1, 4)), np.random.default_rng(0)), "torch tensor"),
    (lambda: list(RandomProjectedSkewTransform()([{"target": np.zeros((2, 5))}, {"target": np.zeros((2, 6))}], True)), "one length")])
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message): wrong()
