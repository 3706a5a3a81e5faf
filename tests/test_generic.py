"""Generic series: the same for the same seed, of the kind they say, and windows of them that a model can learn from."""

import numpy as np
import pytest

from chronos_dysts.generic import SYNTHETIC, generic_source, measured_series, synthetic_series


@pytest.mark.parametrize("family", SYNTHETIC)
def test_series_are_finite_differ_and_come_again(family):
    a, b = (synthetic_series(5, 700, seed, [family]) for seed in (0, 0))
    assert all(np.array_equal(x.target, y.target) for x, y in zip(a, b)) and all(x.system == family and x.target.shape == (1, 700) and x.target.dtype == np.float32 for x in a)
    assert len({x.target.tobytes() for x in a + synthetic_series(5, 700, 1, [family])}) == 10
    assert all(np.isfinite(x.target).all() and x.target.std() > 0 for x in synthetic_series(50, 700, 2, [family]))


def test_more_series_begin_with_the_same():
    assert all(np.array_equal(x.target, y.target) for x, y in zip(synthetic_series(3, families=["smooth"]), synthetic_series(9, families=["smooth"])))


def test_families_are_what_they_say():
    walks = np.stack([x.target[0] for x in synthetic_series(100, 1000, families=["random walk"])])
    steps = np.diff(walks, axis=1)
    assert abs(steps.std(1).mean() - 1) < 0.05 and abs(np.mean([np.corrcoef(s[1:], s[:-1])[0, 1] for s in steps])) < 0.02
    zeros = np.stack([x.target[0] for x in synthetic_series(100, 1000, families=["intermittent"])])
    assert 0.5 < (zeros == 0).mean() < 0.9 and (zeros >= 0).all() and (zeros == np.round(zeros)).all()
    smooth = np.stack([x.target[0] for x in synthetic_series(300, 1000, families=["smooth"])])
    assert abs(smooth.std() - 1) < 0.15


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match="unknown family of generic series 'smoth'; did you mean 'smooth'"): synthetic_series(1, families=["smoth"])


def test_windows_of_both_kinds():
    source = generic_source(512, 64, 400, seed=1, count=5, channels="joint")
    batch = source.batch(0)
    assert len(batch["context"]) == 400
    synthetic = (batch["trajectory"] < 30).double().mean()
    assert abs(synthetic - 0.5) < 0.12
    past = (~batch["context"].isnan()).sum(1)
    assert past.min() >= 1 and batch["target"].isfinite().any(1).double().mean() > 0.95
    gaps = np.isnan(np.concatenate([s.target[0] for s in measured_series()])).sum()
    assert gaps > 0  # carbon dioxide has some: they stay, for the model to mask


def test_measured_series_that_are_too_short_for_the_horizon_are_left_out():
    names = {s.item_id for s in generic_source(64, 200, 4, count=1)._trajectories}
    assert "Nile" not in names and "carbon dioxide" in names
