# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Accumulated and uneven batches: a row counts in the objectives as it counts in NeMo's own loss."""

import batches
import pytest
import torch

OF_FIVES = [5, 5, 5, 1]


@pytest.fixture(scope='module')
def teachers(tone_teacher, tmp_path_factory):
    return {'ctc': tone_teacher, 'transducer': batches.save_transducer(tmp_path_factory.mktemp('rnnt') / 'rnnt.nemo')}


@pytest.mark.integration
@pytest.mark.parametrize('case', list(batches.CASES))
def test_the_mean_over_rows_does_not_depend_on_batches_and_accumulation_is_that_of_the_label_loss(
    case, tone_corpus, teachers
):
    whole = batches.train(case, tone_corpus, teachers[case], batch_size=16)
    uneven = batches.train(case, tone_corpus, teachers[case], batch_size=5, updates=4)
    joined = batches.train(case, tone_corpus, teachers[case], batch_size=5, accumulate_grad_batches=4)
    assert [rows for rows, _ in uneven.terms] == [rows for rows, _ in joined.terms] == OF_FIVES
    (rows, terms), *others = whole.terms
    assert rows == 16 and not others and set(batches.CASES[case][1]) < set(terms)
    for name, value in terms.items():
        mean = sum(count * of_one[name] for count, of_one in uneven.terms) / 16
        assert mean == pytest.approx(value, rel=2e-6), name
    (gradient,) = joined.gradients
    for name, accumulated in gradient.items():
        # Lightning gives every batch the same weight, the last one too: to the label loss, and so to the objectives
        mean = torch.stack([of_one[name] for of_one in uneven.gradients]).mean(0)
        torch.testing.assert_close(accumulated, mean, rtol=1e-5, atol=1e-6 * float(mean.abs().max()))
        by_rows = torch.stack([n / 16 * of_one[name] for n, of_one in zip(OF_FIVES, uneven.gradients)]).sum(0)
        scale = float(by_rows.abs().max())
        torch.testing.assert_close(whole.gradients[0][name], by_rows, rtol=1e-5, atol=2e-6 * scale)
