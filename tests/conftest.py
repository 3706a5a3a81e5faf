"""What all tests share."""

import os
import signal
from pathlib import Path

import pytest

# The test processes are small: more threads than cores only make them slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "agg")
# A shell's job in the background ignores control-C, and so would all that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")
    parser.addoption("--weights", action="store_true", help="also run the tests that load pretrained weights from a hub")
    parser.addoption("--browser", action="store_true", help="also run the tests in a browser; they need Chromium and playwright")
    parser.addoption("--site", help="the built site to be tested in a browser; default: it is built")
    parser.addoption("--pictures", help="a folder for screenshots of what the browser shows")


def pytest_collection_modifyitems(config, items):
    def skip(marker, reason):
        for item in items:
            if marker in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))

    if not config.getoption("--slow"):
        skip("slow", "takes minutes: --slow runs it")
    if not config.getoption("--weights"):
        skip("weights", "needs a hub: --weights runs it")
    if not config.getoption("--browser"):
        skip("browser", "needs Chromium: --browser runs it")
    if any("gpu" in item.keywords for item in items):
        import torch

        if not torch.cuda.is_available():
            skip("gpu", "needs an accelerator")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parent.parent
