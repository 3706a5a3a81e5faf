"""Trajectories of which is known whether they are chaotic: what the tests of `chronos_dysts.attractors` are measured on.

    nice -n 10 python tools/label_cases.py             # some minutes on one core
    nice -n 10 python tools/label_cases.py Lorenz      # this flow again

Writes nbs/results/labelled_cases.json, flow by flow: killed at any moment, it goes on. Named regimes from the literature, grids through
the parameters of well-known flows, systems whose fate can be proved (damped, quasi-periodic, escaping), and every flow
of the catalogue at its reference parameters and at perturbed ones.

A case is what a corpus would hold: 20 periods of transient from `ic`, then 1,024 points, 100 a period. The label comes from the
1,000 periods behind it, by the variational equations (the tests use twins, over 15 or 100 periods): `chaotic` where the largest
exponent times the period is above UPPER both over all of them and over the last 250; `regular` where it is below LOWER over the last
500, or where the trajectory escapes; everything else is ambiguous and left out, but counted. So chaos that dies
within 1,000 periods is regular; `fate` tells those apart. Where the vector field jumps, the variational equations do
not hold: there, twins at a hundred times the distance of those that are tested. The half is drawn for each family of flows.
"""

import argparse
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from chronos_dysts.integration import integrate_ensemble, sample_initial_conditions
from chronos_dysts.lyapunov import lyapunov_spectrum
from chronos_dysts.store import write_atomically
from chronos_dysts.systems import System, catalogue, get_system, perturb_parameters, stream_key

PATH = Path(__file__).resolve().parent.parent / "nbs" / "results" / "labelled_cases.json"
SEED, TRANSIENT, LENGTH, PERIODS, SETTLE = 0, 20, 1024, 1000, 50
LOWER, UPPER = 0.01, 0.03
PERTURBED, SCALE = 3, 0.1
COSTLY = {"BelousovZhabotinsky", "MacArthur", "InteriorSquirmer", "BlinkingRotlet", "BlinkingVortex", "LidDrivenCavityFlow",
          "CellCycle", "ExcitableCell", "Hopfield", "StickSlipOscillator", "CellularNeuralNetwork", "BeerRNN", "BickleyJet"}


def made_systems() -> dict[str, System]:
    """Systems beside the catalogue: oscillators and tori of which everything is known, and Lorenz' model of 1996."""
    tau = 2 * np.pi

    def make(name, variables, equations, parameters, ic, period, scale=()):
        return System(name, tuple(variables.split()), tuple(equations), tuple(parameters.items()), tuple(ic), period,
                      (name,), scale=tuple(scale))

    def lorenz96(n):
        names = [f"x{i}" for i in range(n)]
        return make(f"Lorenz96 of {n}", " ".join(names), [f"({names[(i + 1) % n]} - {names[i - 2]})*{names[i - 1]} - {names[i]} + F" for i in range(n)],
                    {"F": 8.0}, [1.0 + 0.1 * i for i in range(n)], 1.7, [3.0] * n)

    circle = ("x*(m - x**2 - y**2) - w*y", "y*(m - x**2 - y**2) + w*x", "u*(n - u**2 - v**2) - q*v + k*(x - u)", "v*(n - u**2 - v**2) + q*u + k*(y - v)")
    made = [
        make("Damped oscillator", "x y", ("y", "-x - 2*d*y"), {"d": 0.01}, (1, 0), tau, (1, 1)),
        make("Damped pair", "x y u v", ("y", "-x - 2*d*y", "v", "-w**2*u - 2*d*v"), {"d": 0.002, "w": 1.4142135}, (1, 0, 0.5, 0), tau, (1, 1, 1, 1)),
        make("Damped Duffing", "x y", ("y", "x - x**3 - d*y"), {"d": 0.02}, (1.6, 0), tau, (1, 1)),
        make("Van der Pol", "x y", ("y", "m*(1 - x**2)*y - x"), {"m": 1.0}, (2, 0), 6.7, (1.4, 1.5)),
        make("Weak Hopf", "x y", ("x*(m - x**2 - y**2) - y", "y*(m - x**2 - y**2) + x"), {"m": 0.01}, (1, 0), tau, (0.7, 0.7)),
        make("Pair of circles", "x y u v", circle, {"m": 1.0, "n": 1.0, "w": 1.0, "q": 1.618034, "k": 0.0}, (1, 0, 1, 0), tau, (0.7,) * 4),
        make("Harmonic torus", "x y u v", ("y", "-x", "v", "-w**2*u"), {"w": 1.4142135}, (1, 0, 1, 0), tau, (0.7,) * 4),
        make("Three-torus", "x y u v r s", ("y", "-x", "v", "-w**2*u", "s", "-q**2*r"), {"w": 1.4142135, "q": 1.7320508},
             (1, 0, 1, 0, 1, 0), tau, (0.7,) * 6),
        make("Forced Van der Pol of weak force", "x y p q", ("y", "m*(1 - x**2)*y - x + a*p", "-w*q", "w*p"),
             {"m": 0.3, "a": 0.2, "w": 1.618034}, (2, 0, 1, 0), tau, (1.4, 1.4, 0.7, 0.7)),
        make("Pendulum", "x y", ("y", "-w*sin(x)"), {"w": 1.0}, (2.5, 0), 9.0, (1.5, 1.0)),
        make("Lotka-Volterra", "x y", ("x*(a - y)", "y*(x - b)"), {"a": 1.0, "b": 1.0}, (2, 1), 6.8, (0.6, 0.6)),
        make("Slow growth", "x y", ("e*x - y", "x + e*y"), {"e": 0.02}, (1, 0), tau, (1, 1)),
        make("Falling slope", "x y z", ("y", "-x - 0.1*y + z", "-e*z"), {"e": 0.01}, (1, 0, 2), tau, (1, 1, 1)),
        make("Driven pendulum", "x y p q", ("y", "-g*y - sin(x) + a*p", "-w*q", "w*p"), {"g": 0.5, "a": 1.5, "w": 0.66667}, (0.1, 0, 1, 0), 9.42, (1.5, 1.2, 0.7, 0.7)),
        lorenz96(5), lorenz96(10)]
    return {system.name: system for system in made}


def grid(**axes) -> list[dict]:
    """All combinations of the values of some parameters."""
    cases = [{}]
    for name, values in axes.items():
        cases = [{**case, name: float(value)} for case in cases for value in np.atleast_1d(values)]
    return cases


SPACE = np.linspace
# parameters by flow, from the literature or through its known windows
REGIMES: dict[str, list[dict]] = {
    "Lorenz": grid(beta=8 / 3, rho=[0.5, 5, 10, 13.5, 18, 20, 21, 22, 22, 22, 22, 23, 23.5, 26, 28, 28, 35, 45, 60, 80, 93, 99.7, 100.5, 100.8, 120,
                                    132.5, 146, 150, 160, 163, 166.1, 168, 180, 200, 215, 230, 260, 300, 350]),
    "Rossler": grid(c=[2.2, 2.5, 2.8, 3.1, 3.5, 3.8, 4, 4.1, 4.15, 4.2, 4.3, 4.5, 4.6, 4.8, 5, 5.2, 5.3, 5.4, 5.7, 6, 6.5, 7, 8, 9, 10, 12, 14, 18]),
    "Duffing": grid(gamma=[0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7], delta=[0.1, 0.2]),
    "Chua": grid(alpha=SPACE(6, 18, 18)), "Thomas": grid(b=[0.05, 0.1, 0.14, 0.16, 0.18, 0.19, 0.2, 0.203, 0.208, 0.22, 0.25, 0.3, 0.33, 0.35]),
    "Halvorsen": grid(a=SPACE(1.2, 2.2, 16)), "Torus": grid(a=[0.5, 0.9], n=[3.7, 7.13, 15.3, 20.1]),
    "Chen": grid(c=SPACE(18, 30, 12)), "SprottB": [{}], "NoseHoover": [{}], "Aizawa": grid(a=SPACE(0.6, 1.0, 8)),
    "Damped oscillator": grid(d=[1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3]), "Damped pair": grid(d=[1e-4, 1e-3, 5e-3, 0.02], w=[1.4142135, 2.7182818]),
    "Damped Duffing": grid(d=[3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1]), "Van der Pol": grid(m=[0.05, 0.1, 0.3, 1, 2, 3, 5, 8]),
    "Weak Hopf": grid(m=[-0.01, -0.001, 0.0, 0.001, 0.01, 0.1]),
    "Pair of circles": grid(q=[1.618034, 1.01, 3.3166], k=[0, 0.05, 0.3, 1]), "Harmonic torus": grid(w=[1.4142135, 1.05, 2.23607, 3.1415927, 0.1234]),
    "Three-torus": grid(w=[1.4142135, 1.1, 0.3], q=[1.7320508, 2.618]), "Forced Van der Pol of weak force": grid(m=[0.1, 0.3, 1], a=[0.1, 0.5], w=[1.618034, 1.1]),
    "Pendulum": grid(w=[0.7, 1, 1.3]), "Lotka-Volterra": grid(a=[0.7, 1, 1.5]), "Slow growth": grid(e=[1e-3, 3e-3, 0.01, 0.02, 0.05]),
    "Falling slope": grid(e=[1e-3, 3e-3, 0.01, 0.03]), "Lorenz84": grid(a=0.25, b=4, f=[1, 3, 5, 6, 7, 8, 9], g=[0.5, 1.0]),
    "Driven pendulum": grid(a=[0.5, 0.9, 1.05, 1.07, 1.15, 1.2, 1.35, 1.4, 1.45, 1.47, 1.5, 1.6]),
    "Lorenz96 of 5": grid(F=[0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]), "Lorenz96 of 10": grid(F=[0.5, 2, 3, 4, 5, 6, 8, 10])}
ENERGIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)  # of Hénon–Heiles, in those of its reference


def starts_and_params(system: System) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The cases of one flow: initial states (n, dim), parameter sets (n, n_parameters), and where they come from."""
    rng = np.random.default_rng(np.random.SeedSequence([SEED, stream_key("labelled cases"), stream_key(system.name)]))
    params = [system.with_params(values).parameter_values for values in REGIMES.get(system.name, [])]
    ics = [np.asarray(system.ic) * (1 + 0.01 * rng.standard_normal(system.dim)) for _ in params]
    sources = ["regime"] * len(params)
    if system.name == "HenonHeiles":
        for energy in ENERGIES:
            for _ in range(2):
                params.append(system.parameter_values)
                ics.append(np.sqrt(energy) * np.asarray(system.ic) * (1 + 0.05 * rng.standard_normal(system.dim)))
                sources.append("regime")
    if system.name in catalogue():
        sets = perturb_parameters(system, rng, SCALE, PERTURBED)
        params += [system.parameter_values, *sets]
        ics += list(sample_initial_conditions(system, rng, PERTURBED + 1))
        sources += ["reference"] + ["perturbed"] * PERTURBED
    return np.array(ics), np.array(params).reshape(len(ics), -1), sources


def label(system: System) -> list[dict]:
    """The labelled cases of one flow."""
    ics, params, sources = starts_and_params(system)
    ensemble = integrate_ensemble(system, params, ics, transient=TRANSIENT, length=LENGTH)
    alive = np.flatnonzero(ensemble.ok)
    rates = np.full((len(ics), SETTLE + PERIODS), np.nan)
    jumps = bool(system.kinks & {"sign", "step"})
    method = {"method": "twins", "separation": 1e-6} if jumps else {"method": "variational"}
    if len(alive):
        spectrum = lyapunov_spectrum(system, params[alive], ensemble.last_states[alive], periods=SETTLE + PERIODS, settle=0, directions=1,
                                     start=float(ensemble.times[-1]), **method)
        rates[alive] = spectrum.rates[:, 0] * system.period
    family = system.families[0] if system.families else system.name
    half = int(np.random.SeedSequence([SEED, stream_key("half"), stream_key(family)]).generate_state(1)[0] >> 31)
    cases = []
    for ic, p, source, rate, whole in zip(ics, params, sources, rates, ensemble.ok):
        total, late, last, early = rate[SETTLE:].mean(), rate[-500:].mean(), rate[-250:].mean(), rate[10:SETTLE].mean()
        if not np.isfinite(total):
            answer, fate = "regular", "escapes later" if whole else "escapes"
        elif total > UPPER and last > UPPER:
            answer, fate = "chaotic", "chaos"
        elif late < LOWER:
            answer, fate = "regular", "chaos dies" if early > 0.1 else "point" if late < -LOWER else "cycle or torus"
        else:
            answer, fate = "ambiguous", "weak"
        cases.append({"params": [float(f"{v:.12g}") for v in p], "ic": [float(f"{v:.12g}") for v in ic], "source": source,
                      "method": "twins" if jumps else "variational", "exponent": round(float(total), 5) if np.isfinite(total) else None,
                      "late": round(float(late), 5) if np.isfinite(late) else None, "label": answer, "fate": fate, "half": ("tune", "report")[half]})
    return cases


def write(header: dict, table: dict, path: Path) -> None:
    """JSON with a line for each case."""
    flows = ",\n".join(f'  {json.dumps(name)}: [\n   ' + ",\n   ".join(map(json.dumps, cases)) + "]" for name, cases in table.items())
    head = json.dumps(header, indent=1).removesuffix("\n}")
    write_atomically(path, lambda temporary: temporary.write_text(f'{head},\n "cases": {{\n{flows}\n }}\n}}\n'))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="flows to label again (default: what is missing)")
    parser.add_argument("--part", default="0/1", help="of those the k-th of n, as k/n, to PATH.k: for several processes; without, the parts are joined")
    args = parser.parse_args()
    k, n = map(int, args.part.split("/"))
    made = made_systems()
    path = PATH.with_suffix(f".{k}.json") if n > 1 else PATH
    table = {}
    for known in [path] if n > 1 else [path, *sorted(PATH.parent.glob("labelled_cases.?.json"))]:
        content = json.loads(known.read_text()) if known.exists() else {}
        table |= content.get("cases", {}) if content.get("seed") == SEED else {}
    names = [*made, *(name for name in catalogue() if name not in COSTLY)]
    order = sorted(names, key=lambda name: name not in REGIMES)
    header = {"seed": SEED, "transient": TRANSIENT, "length": LENGTH, "periods": PERIODS, "settle": SETTLE, "lower": LOWER, "upper": UPPER,
              "versions": {"python": platform.python_version(), **{name: version(name) for name in ("dysts", "heyoka", "numpy")}},
              "systems": {name: system.to_json() for name, system in made.items()}}
    for name in order[k::n]:
        if name in table and name not in args.names:
            continue
        begin = time.process_time()
        table[name] = label(made.get(name) or get_system(name))
        write(header, {name: table[name] for name in names if name in table}, path)
        print(f"{time.process_time() - begin:6.1f} s  {name}: {' '.join(case['label'][0] for case in table[name])}", flush=True)
    write(header, {name: table[name] for name in names if name in table}, path)


if __name__ == "__main__":
    main()
