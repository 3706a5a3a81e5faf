"""Packaging of chronos-dysts. Names and the version come from settings.ini, which nbdev reads as well."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
_ini = ConfigParser(delimiters=["="])
_ini.read(ROOT / "settings.ini", encoding="utf-8")
cfg = _ini["DEFAULT"]

# What the code needs, as ranges. The exact set that is tested is pinned in requirements.txt.
REQUIREMENTS = [
    "accelerate>=1.1",
    "chronos-forecasting>=2.2,<3",
    "dysts>=0.96",
    "filelock>=3.13",
    "gluonts[arrow]>=0.16",
    "huggingface-hub>=1.0",
    "hydra-core>=1.3.2",
    # No wheel elsewhere: there, the integrators fall back to scipy.
    "heyoka>=7.9; sys_platform == 'linux' and (platform_machine == 'x86_64' or platform_machine == 'aarch64')",
    "ipython>=8.20",
    "ipywidgets>=8.1",
    "joblib>=1.4",
    "jupyterlab>=4.2",
    "matplotlib>=3.9",
    "numpy>=2.0,<3",
    "omegaconf>=2.3",
    # Without it GluonTS warns at every import, and reads metadata slowly.
    "orjson>=3.9",
    "pandas>=2.2,<3",
    "pillow>=10.3",
    "pyarrow>=17",
    "pyyaml>=6.0",
    "rich>=13.7",
    "safetensors>=0.4.5",
    "scipy>=1.13",
    "statsmodels>=0.14.2",
    "torch>=2.6",
    "transformers>=5.0,<6",
]

EXTRAS = {
    "lab": ["ipympl>=0.9.4", "jupytext>=1.16"],
    "lora": ["peft>=0.18.1"],
    "tensorboard": ["tensorboardX>=2.6.2"],
    "wandb": ["wandb>=0.19"],
    "baselines": ["pydmd>=2025.1", "pysindy>=2.1", "reservoirpy>=0.4"],
    "hub": ["datasets>=4.0"],
    "dask": ["dask>=2025.1", "distributed>=2025.1"],
    "probing": [
        "kooplearn>=2.0",
        "peft>=0.18.1",
        "pydmd>=2025.1",
        "reservoirpy>=0.4",
        "scikit-learn>=1.5",
        "umap-learn>=0.5.7",
    ],
    "browser": ["playwright>=1.45"],
    "docs": ["furo>=2025.9", "myst-nb>=1.3", "sphinx>=9.0,<10", "sphinx-copybutton>=0.5.2"],
    # nbdev 3 reads no settings.ini; nbdev 2 breaks with the later majors of its own dependencies.
    "dev": [
        "nbdev>=2.4,<3",
        "execnb<0.2",
        "fastcore>=1.12.3,<2",
        "fastgit<0.1",
        "ghapi<2",
        "build>=1.2",
        "hypothesis>=6.100",
        "nbclient>=0.10",
        "nbformat>=5.10",
        # 0.6.3 does not import on Python 3.11; the tests check our estimators against its.
        "nolds>=0.6.2,<0.6.3",
        "pytest>=8.2",
        "setuptools>=77",
    ],
}

PYTHONS = ("3.11", "3.12", "3.13")
STATUS = {"1": "1 - Planning", "2": "2 - Pre-Alpha", "3": "3 - Alpha", "4": "4 - Beta", "5": "5 - Production/Stable"}

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=cfg["keywords"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    project_urls={"Documentation": cfg["doc_host"] + cfg["doc_baseurl"], "Source": cfg["git_url"]},
    license="Apache-2.0",
    classifiers=[
        f"Development Status :: {STATUS[cfg['status']]}",
        "Intended Audience :: Science/Research",
        "Natural Language :: English",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: {version}" for version in PYTHONS),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Physics",
    ],
    python_requires=f">={cfg['min_python']},<3.14",
    packages=find_packages(include=[cfg["lib_name"], f"{cfg['lib_name']}.*"]),
    package_data={cfg["lib_name"]: ["configs/*.yaml", "configs/recipes/*/*.yaml", "data/*.json", "data/*.csv", "data/models/*/*"]},
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [f"{cfg['repo']} = {cfg['lib_name']}.cli:main"],
        # Where nbdev finds the symbols that stand in back-ticks, to link them in the documentation.
        "nbdev": [f"{cfg['lib_name']} = {cfg['lib_name']}._modidx:d"],
    },
    zip_safe=False,
)
