# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The recipe of the label branch: its command lines, and how it measures when alignments have settled."""

from pathlib import Path

import pytest
import tiny
import tiny_oracle
from load_script import load_script
from recipes import composed

from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.experiments.comparison import Comparison
from nemo_oracle_kd.models import EncDecOracleCTCModel


@pytest.fixture(scope='module')
def recipe():
    return load_script('examples/label_branch/run.py')


def planned(recipe, folder, *options):
    """Arguments, manifest and trainings as the recipe makes them."""
    manifest = Path(tiny.write_tone_corpus(folder, 'train', 3))
    words = ['--model', str(folder / 'm.nemo'), '--data', str(folder), '--test', str(manifest)]
    args = recipe.make_parser().parse_args([*words, '--out', str(folder / 'out'), *options])
    return args, manifest, lambda: recipe.teacher_runs(args, {'train': manifest, 'dev': manifest}, folder / 'out')


@pytest.mark.integration
def test_every_command_composes_and_only_the_label_branch_has_a_frozen_encoder(recipe, tmp_path):
    options = ['--budgets', '8', '4', '--kinds', 'label_branch', 'unfrozen', 'scratch', '--seeds', '0', '2']
    args, manifest, runs = planned(recipe, tmp_path, *options, '--overrides', 'model.width=96')
    found = {(run.name, run.seed): run for run in runs()}
    names = {f'{kind}_at_{seconds}' for kind in recipe.KINDS for seconds in (4, 8)}
    assert set(found) == {(name, seed) for name in names for seed in (0, 2)}
    for (name, seed), run in found.items():
        cfg, kind = composed(run), name.split('_at_')[0]
        assert cfg.seed == seed and cfg.model.width == 96
        assert cfg.trainer.callbacks[1].seconds == int(name.rsplit('_', 1)[1])
        oracle = cfg.model.oracle
        assert oracle.freeze_audio_encoder == (kind == 'label_branch')
        assert oracle.init_audio_encoder_from == (None if kind == 'scratch' else str(tmp_path / 'm.nemo'))
        assert oracle.start_below == 2.0 and oracle.audio_only_steps == 0
        assert (tmp_path / 'm.nemo' in run.job.inputs) == (kind != 'scratch')


@pytest.mark.unit
def test_budgets_that_make_no_curve_are_refused(recipe, tmp_path):
    for budgets in (['5'], ['5', '5'], ['0', '5']):
        with pytest.raises(ValueError, match='at least two numbers above 0'):
            planned(recipe, tmp_path, '--budgets', *budgets)[2]()


@pytest.mark.unit
@pytest.mark.parametrize(
    'distances, expected',
    [([90, 40, 9, 0], 20), ([9, 40, 9, 0], 20), ([9, 9, 9, 0], 5), ([90, 40, 11, 0], 40), ([90, 10, 10, 0], 10)],
)
def test_alignments_have_settled_when_no_longer_training_is_farther_than_the_tolerance(recipe, distances, expected):
    assert recipe.settled(distances, [5, 10, 20, 40], 10) == expected


@pytest.mark.integration
def test_alignments_are_compared_with_those_of_the_largest_budget_of_the_same_seed(recipe, tmp_path):
    options = ['--budgets', '4', '8', '--seeds', '0', '1']
    args, manifest, runs = planned(recipe, tmp_path, *options)
    comparison = Comparison(runs(), manifest, tmp_path / 'out', baseline='label_branch_at_8')
    for seed, models in ((0, (1, 1)), (1, (2, 3))):  # the teachers of seed 0 are the same, those of seed 1 are not
        for seconds, weights in zip((4, 8), models):
            path = comparison.model_path(f'label_branch_at_{seconds}', seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            teacher = tiny.ctc_model(tiny_oracle.oracle_config(), cls=EncDecOracleCTCModel, seed=weights)
            teacher.save_to(str(path))
    found = recipe.measure(comparison, 'label_branch', [4.0, 8.0], read_manifest(manifest))
    (same, other), final = found['distance_ms']
    assert same == 0 < other and final == [0, 0]
    assert found['within_frame'][0][0] == 1 > found['within_frame'][0][1] and found['within_frame'][1] == [1, 1]
    assert found['tolerance_ms'] == found['between_seeds_ms'] > 0
    assert found['settled_seconds'] == (4 if (same + other) / 2 <= found['tolerance_ms'] else 8)
