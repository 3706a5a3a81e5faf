"""Chronos time-series foundation models on dynamical systems."""

__version__ = "0.1.0"


def __getattr__(name):
    # Rooms are imported when they are first used (PEP 562), so that a bare import costs milliseconds.
    from importlib import import_module
    from importlib.util import find_spec

    full = f"{__name__}.{name}"
    if name.startswith("_") or find_spec(full) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(full)


def __dir__():
    from pkgutil import iter_modules

    rooms = (module.name for module in iter_modules(__path__) if not module.name.startswith("_"))
    return sorted({*globals(), *rooms})
