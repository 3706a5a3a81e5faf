"""The architecture: equivariances, gaps, limits, and the special cases it contains."""

import numpy as np
import pytest
import torch

from chronos_dysts import models
from chronos_dysts.architecture import EXPERTS, LONGEST, MOST_CHANNELS, DystsPipeline, Units, analogues, bridge, consult, decorrelation_steps, maps, roll, MAPS
from chronos_dysts.baselines import ContextParroting
from chronos_dysts.forecasting import LEVELS
from chronos_dysts.integration import integrate_ensemble, sample_initial_conditions
from chronos_dysts.systems import get_system


def flow(name, seed=0, count=4, length=400, points=40):
    system = get_system(name)
    states = sample_initial_conditions(system, np.random.default_rng(seed), count)
    return torch.from_numpy(np.array(integrate_ensemble(system, ics=states, length=length, points_per_period=points).observed()))


@pytest.fixture(scope="module")
def lorenz(): return flow("Lorenz")


@pytest.fixture(scope="module")
def model():
    """A model whose last layers are not zero, so that everything it has takes part."""
    made = models.build("chronos-dysts", {"d_model": 32, "d_ff": 64, "num_layers": 2}, context_length=512, prediction_length=64, seed=3)
    with torch.no_grad():
        torch.manual_seed(5)
        for layer in (made.query, made.correction, made.widths): layer.weight.normal_(std=0.2)
    return made.eval()


def rows_of(x): return x.flatten(0, 1), torch.arange(len(x)).repeat_interleave(x.shape[1])


def quantiles(model, x, **kwargs):
    with torch.no_grad(): return model(*rows_of(x), **kwargs).quantile_preds.unflatten(0, x.shape[:2])


@pytest.mark.parametrize("name, dims", [("Lorenz", 3), ("HyperRossler", 4), ("Lorenz96", None)])
def test_permuted_channels_are_permuted_forecasts(model, name, dims):
    x = flow(name, 1, 2)
    assert dims is None or x.shape[1] == dims
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(1))
    straight, permuted = quantiles(model, x), quantiles(model, x[:, order])
    assert not torch.allclose(straight, permuted)
    torch.testing.assert_close(permuted, straight[:, order], rtol=1e-4, atol=1e-3 * float(x.std()))


def test_offset_and_scale_of_each_channel_go_through(model, lorenz):
    rng = np.random.default_rng(2)
    scale, offset = (torch.from_numpy(rng.uniform(low, high, (len(lorenz), 3, 1))) for low, high in ((0.01, 100), (-1e3, 1e3)))
    made = quantiles(model, lorenz * scale + offset)
    torch.testing.assert_close((made - offset[..., None]) / scale[..., None], quantiles(model, lorenz), rtol=1e-4, atol=1e-3 * float(lorenz.std()))


def test_windows_of_a_batch_do_not_influence_each_other(model, lorenz):
    wide = flow("HyperRossler", 3, 2)
    rows = torch.cat([lorenz.flatten(0, 1), wide.flatten(0, 1)])
    groups = torch.cat([torch.arange(4).repeat_interleave(3), 10 + torch.arange(2).repeat_interleave(4)])
    shuffled = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(): together = model(rows[shuffled], groups[shuffled]).quantile_preds
    back = torch.empty_like(together)
    back[shuffled] = together
    torch.testing.assert_close(back[:12].unflatten(0, (4, 3)), quantiles(model, lorenz), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(back[12:].unflatten(0, (2, 4)), quantiles(model, wide), rtol=1e-4, atol=1e-3 * float(wide.std()))


def test_channels_of_a_window_help_each_other(model, lorenz):
    alone = torch.cat([quantiles(model, lorenz[:, [c]]) for c in range(3)], 1)
    assert (alone - quantiles(model, lorenz)).abs().max() > 0.1


def test_gaps_are_masked(model, lorenz):
    holes = lorenz.clone()
    holes[:, :, 50:60] = torch.nan
    holes[:, 1, 200] = torch.nan
    made = quantiles(model, holes)
    assert torch.isfinite(made).all()
    # a window that begins later is the same window with nothing before
    late = torch.cat([torch.full((4, 3, 64), torch.nan, dtype=torch.float64), lorenz], -1)
    torch.testing.assert_close(quantiles(model, late), quantiles(model, lorenz), rtol=1e-4, atol=1e-3)
    # what is under a gap is never read: the experts' fit and errors with a spike that is not known are those without it
    known = torch.isfinite(holes)
    units = Units.of(holes.flatten(0, 1))
    x = bridge((holes.flatten(0, 1) - units.mean) / units.scale, known.flatten(0, 1)).unflatten(0, (4, 3))
    assert (x[:, :, 50:60].diff(dim=-1).diff(dim=-1).abs() < 1e-9).all()  # a straight line
    _, left = maps(x.double(), known.all(1), (300, 400), (50, 64), MAPS[0])
    whole = (lorenz - units.mean.view(4, 3, 1)) / units.scale.view(4, 3, 1)
    _, without = maps(whole.double(), known.all(1), (300, 400), (50, 64), MAPS[0])
    torch.testing.assert_close(left, without)


def test_nothing_known_and_constant_channels_are_forecast_to_stay(model, lorenz):
    x = lorenz.clone()
    x[:, 1] = 7.25
    x[:, 2] = torch.nan
    made = quantiles(model, x)
    assert (made[:, 1] - 7.25).abs().max() < 3 and torch.isfinite(made).all()
    forecast = models.forecaster(model, "m").forecast(x[:, :2], 20)
    assert np.all(forecast.quantiles[:, 1] == 7.25)


@pytest.mark.parametrize("length", [5, 17, 40, 130])
def test_short_contexts(model, lorenz, length):
    made = quantiles(model, lorenz[..., :length])
    assert torch.isfinite(made).all() and (made.diff(dim=2) >= 0).all()


def test_quantiles_do_not_cross(model, lorenz): assert (quantiles(model, lorenz).diff(dim=2) > 0).all()


def test_too_much(model):
    with pytest.raises(ValueError, match=f"context of {LONGEST + 1} steps is longer than the {LONGEST}"): model(torch.zeros(1, LONGEST + 1))
    with pytest.raises(ValueError, match=f"window of {MOST_CHANNELS + 1} channels is more than the {MOST_CHANNELS}"): model(torch.zeros(MOST_CHANNELS + 1, 64), torch.zeros(MOST_CHANNELS + 1, dtype=torch.long))
    with pytest.raises(ValueError, match="writes at most 64 steps"): model(torch.zeros(1, 64), steps=65)
    with pytest.raises(ValueError, match=f"more than the {LONGEST}"): models.build("chronos-dysts", context_length=LONGEST + 1)
    with pytest.raises(ValueError, match="did you mean 'analogues'"): models.build("chronos-dysts", {"experts": ["analogs"]})
    with pytest.raises(ValueError, match="no model size 'tiny' of chronos-dysts"): models.build("chronos-dysts", "tiny")


def test_parroting_is_a_special_case(lorenz):
    """One expert at zero temperature copies what the parrot copies."""
    made = models.build("chronos-dysts", {"num_layers": 0}, context_length=512, prediction_length=64)
    made.used.fill_(False)
    made.used[EXPERTS.index("analogue 8")] = True
    x = lorenz.double()
    apart = int(decorrelation_steps(x[:1])[0])
    parrot = ContextParroting(motif_length=8, exclude=apart).forecast(x[:1].numpy(), 64).median
    np.testing.assert_allclose(quantiles(made, x[:1])[:, :, LEVELS.index(0.5)].numpy(), parrot, rtol=1e-5, atol=1e-4)


def test_untrained_it_trusts_who_was_right(lorenz):
    """On noiseless quadratic flows that is a map, and better than any parrot."""
    made, x = models.build("chronos-dysts", context_length=512, prediction_length=64), flow("Lorenz", 4, 6, 476)
    with torch.no_grad(): out = made.eval()(*rows_of(x[..., :412]))
    kinds = np.array([name.startswith(("order", "bumps")) for name in EXPERTS])
    assert out.weights[:, kinds].sum(1).mean() > 0.8
    error = lambda median: np.abs(median - x[..., 412:].numpy()).mean()
    median = out.quantile_preds[:, LEVELS.index(0.5)].unflatten(0, (6, 3)).numpy()
    assert error(median) < 0.5 * error(ContextParroting().forecast(x[..., :412].numpy(), 64).median)


def test_paths_that_leave_the_range_are_given_up():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 2, 200)).cumsum(-1))
    x = (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)
    said = consult(x, torch.ones(3, 2, 200, dtype=torch.bool), 100)
    reach = x.amax(-1) - x.amin(-1)
    assert not said.alive.all() and (said.paths.amax((1, 3)) <= x.amax(-1) + 0.5 * reach + 2e-3).all()
    assert torch.isfinite(said.errors).all() and said.paths.shape == (3, len(EXPERTS), 2, 100)


def test_errors_on_the_past_do_not_look_ahead():
    """What lies behind the last point of the context changes nothing, and what an expert is tried on does not enter its paths there."""
    x = flow("Rossler", 0, 2, 300)
    x = (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)
    known = torch.ones(2, 300, dtype=torch.bool)
    changed = x.clone()
    changed[..., 250:] += 1.0
    for spec in (MAPS[0], MAPS[1], MAPS[3]):  # the centres of bumps are points of the whole context
        (before, _), _ = maps(x, known, (250, 300), (40, 60), spec)
        (after, _), _ = maps(changed, known, (250, 300), (40, 60), spec)
        torch.testing.assert_close(after[..., :8], before[..., :8])  # later some are stopped at the range, that of the whole context


def test_series_of_different_lengths_do_not_influence_each_other(model, lorenz):
    pipeline = DystsPipeline(model)
    series = [lorenz[0], lorenz[1, :2, -90:], lorenz[2, 0, -30:]]
    for x, together in zip(series, pipeline.predict(series, 60)): torch.testing.assert_close(pipeline.predict([x], 60)[0], together, rtol=1e-3, atol=1e-2)


def test_rollouts(model, lorenz):
    rows, groups = rows_of(lorenz)
    long, short = roll(model, rows, groups, 150), roll(model, rows, groups, 30)
    assert torch.equal(long[..., :30], short)
    width = long[:, -1] - long[:, 0]
    assert (width[:, 64] > width[:, 63] - 1e-9).all()  # a new block does not begin with new certainty
    greedy = roll(model, rows, groups, 64, greedy=True)
    assert torch.equal(greedy[:, 0], greedy[:, -1])
    with torch.no_grad(): paths = model(rows, groups).paths.unflatten(0, (4, 3))
    same = (paths - greedy[:, 0].unflatten(0, (4, 3))[:, :, None]).abs().amax((1, 3)) == 0  # (window, expert): one expert for all channels of a window
    assert same.any(1).all()


def test_pipeline(model, lorenz, tmp_path):
    from chronos import BaseChronosPipeline
    models.save(model, tmp_path / "m")
    pipeline = BaseChronosPipeline.from_pretrained(tmp_path / "m")
    assert isinstance(pipeline, DystsPipeline)
    series = [lorenz[0].numpy(), lorenz[1, 0, -100:].numpy()]
    found, mean = pipeline.predict_quantiles(series, 20, [0.05, 0.1, 0.45, 0.5])
    assert [tuple(x.shape) for x in found] == [(3, 20, 4), (1, 20, 4)] and torch.equal(found[0][..., 3], mean[0])
    assert torch.equal(found[0][..., 0], found[0][..., 1])  # beyond the levels of the model they are held
    torch.testing.assert_close(found[0].double(), torch.lerp(quantiles(model, lorenz[:1])[0, :, LEVELS.index(0.4)], quantiles(model, lorenz[:1])[0, :, LEVELS.index(0.5)], 0.5)[:, :20, None].expand(-1, -1, 4)
                               .where(torch.tensor([False, False, True, False]), found[0].double()), rtol=1e-3, atol=1e-2)
    states, units = pipeline.embed(series)
    assert [len(x) for x in states] == [3, 1] and torch.allclose(units[0][0], lorenz[0].mean(-1))
    forecast = models.load(tmp_path / "m").forecast(lorenz[:1], 20)
    np.testing.assert_allclose(forecast.median[0], mean[0].numpy(), rtol=1e-3, atol=1e-2)


def test_damaged_weights(model, tmp_path):
    place = models.save(model, tmp_path / "m") / "model.safetensors"
    whole = place.read_bytes()
    place.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="cut off or damaged"): models.load(tmp_path / "m")
    place.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="not the file that was saved"): models.load(tmp_path / "m")
    place.unlink()
    with pytest.raises(ValueError, match="no weights in safetensors"): models.load(tmp_path / "m")
    place.write_bytes(whole)
    assert models.load(tmp_path / "m").family == "chronos-dysts"


def test_a_batch_trains_alike(model, lorenz):
    """The part of the context that a training batch sees depends on the batch alone; and every weight gets a gradient."""
    made = models.build("chronos-dysts", {"d_model": 32, "d_ff": 64, "num_layers": 1}, context_length=336, prediction_length=64, seed=1).train()
    context, groups, target = lorenz[..., :336].flatten(0, 1).float(), torch.arange(4).repeat_interleave(3), lorenz[..., 336:].flatten(0, 1).float()
    with torch.no_grad():
        for layer in (made.query, made.correction, made.widths): layer.weight.normal_(std=0.1)
    first, second = (made(context, groups, target).loss for _ in range(2))
    assert torch.equal(first, second)
    first.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().max() > 0 for name, p in made.named_parameters() if "norm.bias" not in name)
    target[0, 5] = 1e6  # a burst outweighs nothing
    assert made(context, groups, target).loss < 20 * first


def test_trains_by_the_same_function(lorenz, tmp_path):
    """Windows of all channels, from a folder of trajectories; a second run of the same configuration has the same weights; adapters train as well."""
    from rich.console import Console

    from chronos_dysts.store import Trajectory, write_trajectory
    from chronos_dysts.training import train
    for k, x in enumerate(lorenz): write_trajectory(Trajectory(x.numpy().astype(np.float32), f"Lorenz/{k}", "Lorenz", {}, np.zeros(3), 0.01, 0.4, 0), tmp_path / "data" / "train" / "Lorenz" / f"{k}_T-400.arrow")
    config = dict(family="chronos-dysts", size={"d_model": 16, "d_ff": 32, "num_layers": 1}, data_dir=str(tmp_path / "data"), output_dir=str(tmp_path / "runs"), context_length=128, prediction_length=32, validation={"every": 0},
                  train=dict(max_steps=3, save_steps=3, log_steps=1, per_device_train_batch_size=2))
    first, second = (train(config | {"run_name": name}, Console(quiet=True)) for name in ("first", "second"))
    a, b = (models.load_model(result.directory).state_dict() for result in (first, second))
    assert all(torch.equal(a[name], b[name]) for name in a) and first.losses == second.losses
    fresh = models.build("chronos-dysts", config["size"], context_length=128, prediction_length=32).state_dict()
    assert any(not torch.equal(a[name], fresh[name]) for name in a)
    made = {key: value for key, value in config.items() if key not in ("family", "size")}
    tuned = train(made | {"model_id": str(first.directory), "run_name": "tuned", "lora": {"rank": 2}}, Console(quiet=True))
    assert models.load(tuned.directory).forecast(lorenz[..., :128], 40).median.shape == (4, 3, 40)
    assert models.load_model(tuned.directory).state_dict().keys() == a.keys()


def test_the_model_that_ships_beats_parroting_on_flows_it_has_no_relative_of():
    nano, rows = models.load("chronos-dysts-nano"), []
    assert nano.context_length == LONGEST and nano.model.num_parameters() < 1e6
    for name in ("Lorenz", "Rossler", "SprottB"):
        assert not set(get_system(name).families) & set(nano.made["families"])
        x = flow(name, 11, 4, 640, 60).numpy()
        scale = x[..., :512].std(-1, keepdims=True)
        rows.append([(np.abs(forecaster.forecast(x[..., :512], 128).median - x[..., 512:]) / scale).mean() for forecaster in (nano, ContextParroting())])
    errors = np.array(rows)
    assert (errors[:, 0] < 0.5 * errors[:, 1]).all(), errors
