# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs every benchmark of this folder, one after the other, and keeps its JSON (and picture) in one folder.

python benchmarks/run.py --out benchmark_out            (make benchmark)
python benchmarks/run.py --out benchmark_out --only lattice
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHMARKS = sorted(path.stem for path in HERE.glob('*.py') if path.stem != Path(__file__).stem)


def main() -> int:
    """Returns the number of benchmarks that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('benchmark_out'), help='folder (default: benchmark_out)')
    parser.add_argument('--only', nargs='+', choices=BENCHMARKS, default=BENCHMARKS, help='default: all')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in args.only:
        print(f'== {name}', flush=True)
        command = [sys.executable, str(HERE / f'{name}.py'), '--json', str(args.out / f'{name}.json')]
        failed += subprocess.run(command, check=False).returncode != 0
    return failed


if __name__ == '__main__':
    sys.exit(main())
