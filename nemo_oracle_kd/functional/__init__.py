# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The mathematics of distillation: pure tensor functions that need torch and nothing else.

Shapes are `[B, T, V]` for posteriors, `[B, T, U+1, V]` for transducer logits, `[B, U]` for labels and `[B]` for
lengths and results; logarithms are natural.
"""

from nemo_oracle_kd.functional.ctc import ctc_full_sum, ctc_occupancy, label_log_prior
from nemo_oracle_kd.functional.ctc_paths import (
    PATH_PADDING,
    collapse_path,
    ctc_best_path,
    ctc_greedy_path,
    spike_times,
)
from nemo_oracle_kd.functional.frames import (
    BLANK_MODES,
    blank_frame_weights,
    frame_agreement,
    frame_entropy,
    frame_kl,
    guided_ctc,
    occupancy_kl,
    softmax_l2,
)
from nemo_oracle_kd.functional.full_sum import (
    CONFIDENCE_MODES,
    FULL_SUM_DISTANCES,
    FULL_SUM_NORMALIZATIONS,
    NBEST_OVER,
    confidence_weight,
    full_sum_comparable,
    full_sum_distance,
    full_sum_norm_comparable,
    full_sum_norm_distance,
    nbest_log_posteriors,
)
from nemo_oracle_kd.functional.label_classes import merge_labels
from nemo_oracle_kd.functional.lattice.cells import (
    band_cells,
    next_labels,
    occupancy_weights,
    path_cells,
    teacher_frame_map,
    to_student_frames,
    valid_cells,
)
from nemo_oracle_kd.functional.lattice.distances import LATTICE_BINS, LATTICE_DIVERGENCES, LatticeOptions
from nemo_oracle_kd.functional.lattice.divergence import lattice_cell_divergence, lattice_divergence
from nemo_oracle_kd.functional.lattice.joint import JOINT_ACTIVATIONS, JointTensors
from nemo_oracle_kd.functional.lattice.shifts import (
    WINDOW_MODES,
    WINDOW_UNITS,
    EmissionDelay,
    WindowedDivergence,
    best_shift,
    estimate_delay,
    windowed_lattice_divergence,
)
from nemo_oracle_kd.functional.lattice.stored import StoredLattice, remaining_log_prob
from nemo_oracle_kd.functional.reference.ctc import enumerate_ctc_alignments
from nemo_oracle_kd.functional.resample import RESAMPLE_MODES, resample_frames, shift_frames
from nemo_oracle_kd.functional.tensors import NEG_INF, compute_dtype, fill_padding, length_mask, recursion_dtype
from nemo_oracle_kd.functional.top_posteriors import IMPOSSIBLE, TopPosteriors, top_posteriors
from nemo_oracle_kd.functional.transducer.alignment import (
    TransducerOccupancy,
    TransducerPath,
    transducer_best_path,
    transducer_forward_backward,
    transducer_occupancy,
)
from nemo_oracle_kd.functional.transducer.full_sum import (
    multiblank_full_sum,
    rnnt_full_sum,
    tdt_full_sum,
    transducer_full_sum,
)
from nemo_oracle_kd.functional.transducer.kinds import (
    RNNT,
    TDT,
    TRANSDUCERS,
    MultiBlank,
    Transducer,
    make_transducer,
)
from nemo_oracle_kd.functional.transducer.log_probs import select_log_probs
from nemo_oracle_kd.functional.transducer.nbest_sum import tree_full_sum
from nemo_oracle_kd.functional.transducer.nbest_tree import NBestTree, TreeCells, build_nbest_tree

__all__ = [
    # tensors
    'NEG_INF',
    'compute_dtype',
    'fill_padding',
    'length_mask',
    'recursion_dtype',
    # ctc
    'ctc_full_sum',
    'ctc_occupancy',
    'label_log_prior',
    # ctc_paths
    'PATH_PADDING',
    'collapse_path',
    'ctc_best_path',
    'ctc_greedy_path',
    'spike_times',
    # frames
    'frame_agreement',
    'frame_entropy',
    'frame_kl',
    'guided_ctc',
    'occupancy_kl',
    'softmax_l2',
    'BLANK_MODES',
    'blank_frame_weights',
    # label_classes
    'merge_labels',
    # top_posteriors
    'IMPOSSIBLE',
    'TopPosteriors',
    'top_posteriors',
    # resample
    'RESAMPLE_MODES',
    'resample_frames',
    'shift_frames',
    # reference
    'enumerate_ctc_alignments',
    # transducer: kinds, full_sum, alignment
    'RNNT',
    'TDT',
    'TRANSDUCERS',
    'MultiBlank',
    'Transducer',
    'make_transducer',
    'multiblank_full_sum',
    'rnnt_full_sum',
    'select_log_probs',
    'tdt_full_sum',
    'transducer_full_sum',
    'TransducerOccupancy',
    'TransducerPath',
    'transducer_best_path',
    'transducer_forward_backward',
    'transducer_occupancy',
    # full_sum
    'CONFIDENCE_MODES',
    'FULL_SUM_DISTANCES',
    'FULL_SUM_NORMALIZATIONS',
    'NBEST_OVER',
    'confidence_weight',
    'full_sum_comparable',
    'full_sum_distance',
    'full_sum_norm_comparable',
    'full_sum_norm_distance',
    'nbest_log_posteriors',
    # transducer: N-best lists
    'NBestTree',
    'TreeCells',
    'build_nbest_tree',
    'tree_full_sum',
    # lattice
    'lattice_cell_divergence',
    'lattice_divergence',
    'JOINT_ACTIVATIONS',
    'JointTensors',
    'LATTICE_BINS',
    'LATTICE_DIVERGENCES',
    'LatticeOptions',
    'StoredLattice',
    'remaining_log_prob',
    'band_cells',
    'next_labels',
    'occupancy_weights',
    'path_cells',
    'valid_cells',
    'teacher_frame_map',
    'to_student_frames',
    'EmissionDelay',
    'estimate_delay',
    'WINDOW_MODES',
    'WINDOW_UNITS',
    'WindowedDivergence',
    'best_shift',
    'windowed_lattice_divergence',
]
