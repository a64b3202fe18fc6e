"""Package metadata, and the two things a plain declaration cannot say: the compiled kernel and the bundled files."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

from build_kernel import KERNEL, BuildKernel

HERE = Path(__file__).resolve().parent
BUNDLED = ("weights", "eval_configs", "pretrain_configs", "finetune_configs", "tasks.txt")


class BuildWithBundled(build_py):
    """Put the top-level weights, configurations and task list into the package, where a wheel finds them.

    With AUDIOMAMBA_WITHOUT_WEIGHTS=1 the weights themselves stay out: for environments that run exported models.
    """

    def run(self) -> None:
        if not self.editable_mode:
            # An earlier build leaves modules and weights there that are not wanted any more.
            shutil.rmtree(Path(self.build_lib) / "hear_audiomamba", ignore_errors=True)
        super().run()
        if self.editable_mode:
            return  # a checkout is read in place: hear_audiomamba/models/bundled.py
        left_out = ["*.safetensors"] if os.environ.get("AUDIOMAMBA_WITHOUT_WEIGHTS") == "1" else []
        target = Path(self.build_lib) / "hear_audiomamba" / "bundled"
        for name in BUNDLED:
            source = HERE / name
            if source.is_dir():
                ignore = shutil.ignore_patterns(*left_out)
                shutil.copytree(source, target / name, dirs_exist_ok=True, ignore=ignore)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target / name)


class WheelForEveryPython(bdist_wheel):
    """One wheel a platform: the kernel is loaded by ctypes, so it fits every Python and every torch."""

    def get_tag(self) -> tuple[str, str, str]:
        _, _, platform = super().get_tag()
        return "py3", "none", platform


# What a part of the package needs beyond install_requires. "gpu" is all that a GPU needs; "mamba-ssm" are the published
# kernels, which are compiled at their installation and need nvcc.
EXTRAS = {
    "gpu": ["triton>=3.3; sys_platform == 'linux'"],
    "mamba-ssm": ["mamba-ssm", "causal-conv1d"],
    "decode": ["av"],
    "parquet": ["pyarrow"],
    "evaluate": ["scipy", "scikit-learn", "matplotlib"],
    "classify": ["scikit-learn", "matplotlib"],
    "pretrain": ["pyarrow", "tensorboard", "scikit-learn", "matplotlib"],
    "scale": ["pyarrow", "ray[data]"],
    "onnx": ["onnx", "onnxscript", "onnxruntime"],
    "transformers": ["transformers"],
    "sentence-transformers": ["sentence-transformers"],
    "mteb": ["mteb"],
    "xares": ["xares", "loguru"],
    "hoplite": ["perch-hoplite"],
    "datasets": ["datasets"],
    "torchaudio": ["torchaudio"],
    "docs": ["mkdocs-material", "mkdocstrings[python]", "nbclient", "nbformat", "ipykernel"],
}
EXTRAS["adapters"] = sorted(
    {
        need
        for name in ("transformers", "sentence-transformers", "xares", "hoplite", "datasets")
        for need in EXTRAS[name]
    }
    | {"duckdb", "lancedb", "loguru", "ml_collections", "mteb", "pandas", "pyarrow", "scikit-learn"}
    | {"torchcodec==0.13.*"}  # mteb decodes with it; newer ones do not load beside a torch without CUDA
)
# Whatever installs on every machine without a compiler and without a second framework.
EXTRAS["all"] = sorted(
    {
        need
        for name in ("gpu", "decode", "parquet", "evaluate", "classify", "pretrain")
        for need in EXTRAS[name]
    }
)
# Of the recipes, which are outside the wheel; kept under the name they had.
EXTRAS["corpus"] = ["onnxruntime", "pandas", "pyarrow"]
EXTRAS["cuda"] = EXTRAS["gpu"]
EXTRAS["test"] = sorted(
    {
        "pytest",
        "pytest-xdist",
        "hypothesis",
        *EXTRAS["onnx"],
        "kaldi-native-fbank",
        "ml_collections",
        "mypy==2.4.*",  # pinned, with ruff: their verdict should change only when we want it to
        "pandas",
        "psutil",
        "py-nanotts; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "pyarrow",
        "ruff==0.17.*",
        "triton; sys_platform == 'linux'",
        "types-PyYAML",
        "types-tqdm",
    }
    | {*EXTRAS["decode"], *EXTRAS["evaluate"], *EXTRAS["pretrain"]}
)

# Links in the README lead to files beside it, which a package index does not have: there, the words stand alone.
RELATIVE_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]*\)")

setup(
    name="hear_audiomamba",
    version=re.search(r'__version__ = "(.+)"', (HERE / "hear_audiomamba/__init__.py").read_text())[1],
    description="Audio embeddings from Mamba models, and the HEAR benchmark, on any machine",
    long_description=RELATIVE_LINK.sub(r"\1", (HERE / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["hear_audiomamba*"]),
    package_data={
        "hear_audiomamba": [
            "**/*.json",
            "**/*.csv",
            "**/*.flac",
            "**/*.txt",
            "**/*.html",
            "**/*.css",
            "**/*.js",
            "**/*.h",
            "**/*.cpp",
        ]
    },
    ext_modules=[KERNEL],
    cmdclass={"build_ext": BuildKernel, "build_py": BuildWithBundled, "bdist_wheel": WheelForEveryPython},
    install_requires=[
        "torch>=2.4",
        "numpy>=1.25",
        "filelock>=3.13",
        "soundfile>=0.12.1",
        "soxr>=0.3.7",
        "safetensors>=0.4",
        "huggingface-hub>=0.25",
        "PyYAML>=6.0.1",
        "tqdm>=4.60",
        "rich>=12.6",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["hear-audiomamba = hear_audiomamba.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
