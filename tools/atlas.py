"""Thumbnails of an archive: `python tools/atlas.py ARCHIVE nbs/results/atlas.png`.

One square for each entry, in the order of the archive, `COLUMNS` to a row: the density of the observed trajectory over its first two principal components, 60 periods from the
system's own initial state, in 8 shades.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from chronos_dysts.discovery import read_archive  # noqa: E402
from chronos_dysts.integration import integrate_ensemble  # noqa: E402

SIZE, COLUMNS, SHADES = 40, 20, 8


def thumbnail(system):
    """Shades (SIZE, SIZE), 0 where the attractor never is."""
    x = integrate_ensemble(system, length=60 * 100, points_per_period=100).observed()[0]
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    axes = np.linalg.svd(x[:, ::10], full_matrices=False)[0][:, :2]
    axes *= np.sign(axes[np.abs(axes).argmax(0), range(axes.shape[1])])
    low, high = np.percentile(axes.T @ x, [0.1, 99.9], axis=1)
    edges = [np.linspace(a - 0.05 * (b - a), b + 0.05 * (b - a), SIZE + 1) for a, b in zip(low, high)]
    counts = np.histogram2d(*(axes.T @ x), bins=edges)[0].T[::-1]
    shades = np.log1p(counts) / np.log1p(np.percentile(counts[counts > 0], 98))
    return np.where(counts > 0, np.clip(np.ceil(shades * (SHADES - 1)), 1, SHADES - 1), 0).astype(np.uint8)


def main(archive, path):
    entries = read_archive(archive)
    sheet = np.zeros((-(-len(entries) // COLUMNS) * SIZE, COLUMNS * SIZE), np.uint8)
    for k, entry in enumerate(entries):
        row, column = divmod(k, COLUMNS)
        sheet[row * SIZE:(row + 1) * SIZE, column * SIZE:(column + 1) * SIZE] = thumbnail(entry.system)
    image = Image.fromarray(sheet, "P")
    light, dark = np.array([255, 255, 255]), np.array([11, 60, 110])
    palette = [light if k == 0 else 0.85 * light + 0.15 * dark + (dark - light) * 0.85 * (k / (SHADES - 1)) for k in range(SHADES)]
    image.putpalette(np.concatenate([np.clip(color, 0, 255) for color in palette]).astype(np.uint8).tobytes())
    image.save(f"{path}.part", format="PNG", optimize=True, bits=4)
    os.replace(f"{path}.part", path)
    print(f"{len(entries)} thumbnails, {Path(path).stat().st_size // 1024} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
