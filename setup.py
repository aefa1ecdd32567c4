# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Installation of nemo_oracle_kd: metadata, dependencies, packages, entry points."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r"^__version__ = '([^']+)'", (ROOT / 'nemo_oracle_kd/__init__.py').read_text(), re.M).group(1)

# Triton comes with the CUDA builds of PyTorch; beside a CPU build the tests run its kernel in its interpreter.
TEST = [
    'pytest>=8',
    'pytest-xdist>=3.5',
    'hypothesis>=6',
    'triton>=3.2; platform_system == "Linux" and platform_machine == "x86_64"',
]
# Formatters change their mind between releases, so the exact versions stand in constraints.txt.
LINT = ['black', 'isort', 'ruff']

# The documentation site; formulas become MathML, so that a page fetches no script.
DOCS = ['mkdocs>=1.6,<2', 'mkdocs-material>=9.5', 'mkdocstrings[python]>=0.26', 'latex2mathml>=3.77']

# A Whisper model as a teacher; its texts are normalised by a package that NeMo brings.
WHISPER = ['faster-whisper>=1.2', 'whisper-normalizer>=0.1']

# Pictures of words: a decoder, and fonts besides matplotlib's to render words from.
SCENE_TEXT = [
    'pillow>=10',
    'font-amatic-sc',
    'font-caladea',
    'font-fredoka-one',
    'font-hanken-grotesk',
    'font-intuitive',
    'font-lato',
    'font-manrope',
    'font-rhd',
    'font-roboto',
    'font-source-sans-pro',
    'font-source-serif-pro',
]

setup(
    name='nemo_oracle_kd',
    version=VERSION,
    description='Knowledge distillation for NeMo speech recognition, with teachers that also read the transcript',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='The nemo_oracle_kd authors',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords='speech recognition, ASR, knowledge distillation, NeMo, CTC, RNN-T, transducer, PyTorch',
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Multimedia :: Sound/Audio :: Speech',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    python_requires='>=3.10',
    # The configuration folder stands at the top of the repository and is installed inside the package, where Hydra
    # reads it as pkg://nemo_oracle_kd.conf.  hydra_plugins is a namespace package, shared with other plug-ins; it has
    # to be listed itself, or else an editable installation hides its folder from Hydra's scan.
    packages=[
        *find_packages(include=['nemo_oracle_kd', 'nemo_oracle_kd.*']),
        'nemo_oracle_kd.conf',
        *find_namespace_packages(include=['hydra_plugins', 'hydra_plugins.*']),
    ],
    package_dir={'nemo_oracle_kd.conf': 'conf'},
    package_data={'nemo_oracle_kd': ['py.typed'], 'nemo_oracle_kd.conf': ['**/*.yaml']},
    zip_safe=False,
    install_requires=[
        'nemo_toolkit[asr]>=2.4',
        'torch>=2.6',
        'lightning>2.2.1',
        'omegaconf>=2.3',
        'hydra-core>=1.3,<1.5',
        'wrapt>=1.15',
        'safetensors>=0.4.5',
        'numpy',
        'scipy>=1.12',
        'soundfile',
        'jiwer>=3.1',
        'whisper_normalizer>=0.1.15',
        'matplotlib',
        'tensorboard',
        'tqdm',
        'espeakng-loader>=0.2.4',
    ],
    extras_require={
        'test': TEST,
        'lint': LINT,
        'docs': DOCS,
        'dev': TEST + LINT,
        'whisper': WHISPER,
        'scene_text': SCENE_TEXT,
    },
    entry_points={
        'console_scripts': ['nemo-oracle-kd = nemo_oracle_kd.cli.main:main'],
        # Hydra 1.3 finds the plug-in by scanning the hydra_plugins namespace, Hydra 1.4 through this entry point.
        'hydra.plugins': [
            'nemo_oracle_kd = hydra_plugins.nemo_oracle_kd_plugin.plugin:OracleKDSearchPathPlugin',
        ],
    },
)
