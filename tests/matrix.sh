#!/usr/bin/env bash
# tests/matrix.sh: runs the tests under several versions of NeMo and Python, each in an environment of its own. Not part of
# continuous integration: an environment takes some minutes and gigabytes, its tests some minutes more.
#
#   tests/matrix.sh                                   all pairs
#   NEMO="2.7.3" PYTHONS="3.12" tests/matrix.sh       one pair
#
# Variables: NEMO, PYTHONS (versions), MATRIX (folder of environments and results), TEST (arguments of pytest), KEEP=1 (keeps the
# environments). A pair with a result is not run again. The table in MATRIX/results.md is for docs/versions.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NEMO=${NEMO:-"2.4.1 2.5.3 2.6.2 2.7.3 3.0.0"}
PYTHONS=${PYTHONS:-"3.10 3.11 3.12"}
MATRIX=${MATRIX:-matrix_out}
TEST=${TEST:-"tests -m 'not packaging and not gpu' --ignore tests/docs"}
mkdir -p "$MATRIX"
MATRIX=$(cd "$MATRIX" && pwd)
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 CONSTRAINTS=$MATRIX/constraints.txt
# torch as pinned; everything else as the version of NeMo wants it, but NeMo 2.4 and 2.5 want NumPy 1, with which a newer pyarrow fails
grep '^torch==' constraints.txt >"$CONSTRAINTS"
echo "pyarrow<26" >>"$CONSTRAINTS"

found_python() { # VERSION: an interpreter of that version
    local candidate
    for candidate in "python$1" "$HOME"/.pyenv/versions/"$1".*/bin/python; do
        if "$candidate" -c "" >/dev/null 2>&1; then echo "$candidate"; return; fi
    done
    return 1
}

one() { # NEMO PYTHON: writes one line of results
    local name="nemo-$1-python-$2" python summary
    local environment=$MATRIX/$name
    [ ! -s "$MATRIX/$name.result" ] || return 0
    if ! python=$(found_python "$2"); then echo "not run: no Python $2 here" >"$MATRIX/$name.result"; return 0; fi
    echo "== $name"
    [ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
    if ! .ci/install "$environment/bin/python" -q "nemo_toolkit[asr]==$1" -e '.[test]' >"$MATRIX/$name.log" 2>&1; then
        echo "cannot be installed: $(grep -iE 'error|because|conflict' "$MATRIX/$name.log" | head -1 | cut -c1-120)" >"$MATRIX/$name.result"
    else
        eval "\"$environment/bin/python\" -m pytest -q -p no:cacheprovider $TEST" >>"$MATRIX/$name.log" 2>&1 || true
        summary=$(grep -E '^(=+ )?[0-9]+ (passed|failed|error|skipped)|passed.* in |failed.* in |error.* in ' "$MATRIX/$name.log" | tail -1 | tr -d '=')
        echo "${summary:-no result: see the log}" | sed 's/^ *//; s/ *$//' >"$MATRIX/$name.result"
    fi
    [ -n "${KEEP:-}" ] || rm -rf "$environment"
}

for nemo in $NEMO; do for python in $PYTHONS; do one "$nemo" "$python"; done; done

{
    echo "| NeMo | Python | tests |"
    echo "| --- | --- | --- |"
    for result in "$MATRIX"/nemo-*.result; do
        name=$(basename "$result" .result)
        echo "| $(echo "$name" | cut -d- -f2) | $(echo "$name" | cut -d- -f4) | $(cat "$result") |"
    done
} >"$MATRIX/results.md"
cat "$MATRIX/results.md"
