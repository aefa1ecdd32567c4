# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Draws the pictures of the objectives: toy models, but every number comes from the functions of the package.

    python docs/tools/pictures.py

writes `docs/objectives/pictures/NAME.png`, or those that are named as arguments. The text is "cab". The teacher says each label in
one clear spike; the student is less sure, says the second label two frames late, and takes the third for another one now and then.
"""

import sys
from pathlib import Path

import torch

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.evaluation.figure_style import COLOURS, new_figure, save_png, styled
from nemo_oracle_kd.losses.encoder import EncoderConfig, EncoderLoss, RepresentationConfig, RepresentationLoss
from nemo_oracle_kd.losses.transducer_side import TransducerSide

FOLDER = Path(__file__).parents[1] / 'objectives' / 'pictures'
LABELS = ['a', 'b', 'c', 'd', 'e', 'blank']
BLANK = 5
TEXT = [2, 0, 1]  # c a b
FRAMES = 20
TEACHER_COLOUR, STUDENT_COLOUR, VALUE_COLOUR = COLOURS[2], COLOURS[1], COLOURS[7]
TARGETS = torch.tensor([TEXT])
LENGTHS, TARGET_LENGTHS = torch.tensor([FRAMES]), torch.tensor([len(TEXT)])


def bump(centre: float, width: float, height: float) -> torch.Tensor:
    """`[T]`: how strongly something is heard around a frame."""
    time = torch.arange(FRAMES, dtype=torch.float64)
    return height * torch.exp(-((time - centre) ** 2) / (2 * width**2))


def frame_logits(spikes: list[tuple[int, float, float, float]], blank: float) -> torch.Tensor:
    """`[1, T, V]` logits of a CTC model that hears each `(label, centre, width, height)`."""
    logits = torch.zeros(1, FRAMES, len(LABELS), dtype=torch.float64)
    logits[0, :, BLANK] = blank
    for label, *shape in spikes:
        logits[0, :, label] += bump(*shape)
    return logits


TEACHER = frame_logits([(2, 4, 0.7, 12), (0, 9, 0.7, 12), (1, 15, 0.7, 12)], 5).log_softmax(-1)
STUDENT = frame_logits([(2, 4, 1.3, 5), (0, 11, 1.3, 5), (1, 15, 1.5, 4), (3, 15, 1.2, 4)], 2.5).log_softmax(-1)


def joint(encoded: torch.Tensor, sharpness: float) -> F.JointTensors:
    """A joint over the frames of a CTC toy: after u labels, label u + 1 is expected and those before it are not."""
    prediction = torch.full((1, len(TEXT) + 1, len(LABELS)), -0.5, dtype=torch.float64)
    prediction[0, :, BLANK] = 0.0
    for position, label in enumerate(TEXT):
        prediction[0, position, label] = 0.3
        prediction[0, position + 1 :, label] = -6.0
    weight = sharpness * torch.eye(len(LABELS), dtype=torch.float64)
    return F.JointTensors(encoded, prediction, weight, activation='relu')


def lattices() -> tuple[F.JointTensors, F.JointTensors]:
    """The transducers: student and teacher."""
    heard = [(2, 4, 1.2, 4.0), (0, 9, 1.2, 4.0), (1, 15, 1.2, 4.0), (3, 15, 1.2, 3.9), (4, 15, 1.2, 3.2)]
    teacher = joint(frame_logits(heard, 2.2), 2.5)
    late = [(2, 5, 1.6, 3.2), (0, 11, 1.6, 3.2), (1, 15.5, 1.6, 3.0), (3, 15, 1.5, 3.4), (2, 15, 1.5, 2.8)]
    return joint(frame_logits(late, 2.0), 1.6), teacher


def each_frame(distance, *arguments, **options) -> torch.Tensor:
    """`[T]`: a distance of posteriors, frame by frame, by taking every frame for an utterance of its own."""
    alone = [part[0].unsqueeze(1) for part in arguments]
    return distance(*alone, torch.ones(FRAMES, dtype=torch.long), **options)


def posteriors(axes, log_probs: torch.Tensor, title: str) -> None:
    """The posteriors of a model as lines over the frames, blank in grey."""
    for label, name in enumerate(LABELS):
        values = log_probs[0, :, label].exp()
        if label == BLANK or values.max() > 0.1:
            axes.plot(values, color=COLOURS[0] if label == BLANK else COLOURS[label + 1], label=name, lw=1.6)
    axes.set(title=title, ylabel='probability', ylim=(-0.03, 1.09), xlim=(-0.5, FRAMES - 0.5))
    axes.legend(ncols=6, loc='upper right', fontsize=8, handlelength=1.2, bbox_to_anchor=(1, 1.22))


def bars(axes, values: torch.Tensor, title: str, ylabel: str) -> None:
    """One value per frame."""
    axes.bar(range(FRAMES), values, color=VALUE_COLOUR, width=0.8)
    axes.set(title=title, ylabel=ylabel, xlabel='frame', xlim=(-0.5, FRAMES - 0.5), xticks=range(0, FRAMES, 5))


def on_frames(target: torch.Tensor, target_title: str, values: torch.Tensor, title: str, ylabel: str):
    """Three panels: the target, the student, and what each frame costs."""
    figure, axes = new_figure(7, 5.2, 3, 1, sharex=True)
    posteriors(axes[0, 0], target, target_title)
    posteriors(axes[1, 0], STUDENT, 'student')
    bars(axes[2, 0], values, title, ylabel)
    return figure


@styled
def frame_kl():
    values = each_frame(F.frame_kl, STUDENT, TEACHER, temperature=2.0)
    title = f'cost of each frame at temperature 2, sum {values.sum():.1f}'
    return on_frames(TEACHER, 'teacher', values, title, 'nats')


@styled
def softmax_l2():
    values = each_frame(F.softmax_l2, STUDENT, TEACHER)
    return on_frames(
        TEACHER, 'teacher', values, f'cost of each frame, at most 2, sum {values.sum():.1f}', 'squared distance'
    )


@styled
def guided_ctc():
    values = -each_frame(F.guided_ctc, STUDENT, TEACHER, blank=BLANK)
    title = "reward: the student's probability at the teacher's spikes"
    return on_frames(TEACHER, 'teacher', values, title, 'probability')


@styled
def occupancy():
    # a teacher that is unsure, so that the transcript makes a difference
    unsure = frame_logits([(2, 4, 1.0, 6), (3, 4, 1.0, 5.5), (0, 9, 1.0, 6), (4, 15, 1.0, 6), (1, 15, 1.0, 5.5)], 3)
    log_probs = unsure.log_softmax(-1)
    gamma = F.ctc_occupancy(log_probs, TARGETS, LENGTHS, TARGET_LENGTHS, BLANK)
    values = each_frame(F.occupancy_kl, STUDENT, gamma)
    figure, axes = new_figure(7, 6.6, 4, 1, sharex=True)
    posteriors(axes[0, 0], log_probs, 'posteriors of a teacher that is unsure')
    posteriors(axes[1, 0], gamma.log(), 'its occupancy of the transcript "cab"')
    posteriors(axes[2, 0], STUDENT, 'student')
    bars(axes[3, 0], values, f'cost of each frame, sum {values.sum():.1f}', 'nats')
    return figure


@styled
def hard():
    figure, axes = new_figure(7, 2.9)
    nats = torch.linspace(0, 4, 200, dtype=torch.float64)
    one_token = torch.ones(200, dtype=torch.long)
    settings = {'constant': {}, 'probability': {}, 'sigmoid': {'threshold': 1.5, 'sharpness': 3.0}}
    for number, (mode, options) in enumerate(settings.items()):
        named = ', '.join([mode, *(f'{key} {value:g}' for key, value in options.items())])
        axes[0, 0].plot(
            nats, F.confidence_weight(nats, one_token, mode, **options), label=named, color=COLOURS[number]
        )
    axes[0, 0].set(
        title='weight of an utterance by `confidence`',
        xlabel="the teacher's nats per token",
        ylabel='weight',
        ylim=(0, 1.05),
    )
    axes[0, 0].legend()
    return figure


@styled
def full_sum():
    figure, axes = new_figure(7, 3.2, 1, 2)
    student = torch.linspace(2, 18, 400, dtype=torch.float64).requires_grad_(True)
    teacher = torch.full((400,), 10.0, dtype=torch.float64)
    settings = {
        'hard: no teacher score': None,
        'l1': {'kind': 'l1'},
        'huber, width 4': {'kind': 'huber', 'huber_width': 4.0},
        'l1, dead zone 2': {'kind': 'l1', 'dead_zone': 2.0},
    }
    difference = (student - teacher).detach()
    for number, (name, options) in enumerate(settings.items()):
        value = student if options is None else F.full_sum_distance(student, teacher, **options)
        (slope,) = torch.autograd.grad(value.sum(), student)
        axes[0, 0].plot(difference, value.detach(), label=name, color=COLOURS[number])
        axes[0, 1].plot(difference, slope, color=COLOURS[number])
    axes[0, 0].set(title='value, nats', xlabel='D, nats', ylim=(-0.5, 18))
    axes[0, 1].set(title="factor of NeMo's gradient", xlabel='D, nats', ylim=(-1.15, 1.15))
    axes[0, 0].legend(loc='upper left')
    return figure


@styled
def full_sum_norm():
    texts = ['one two', 'one too', 'won two', 'one']
    nats = {'teacher': [6.0, 6.9, 8.2, 9.5], 'student': [16.4, 16.1, 17.0, 20.0]}
    scores = {name: torch.tensor([values], dtype=torch.float64) for name, values in nats.items()}
    distance = float(F.full_sum_norm_distance(scores['student'], scores['teacher']))
    figure, axes = new_figure(7, 2.9, 1, 2)
    for offset, (name, colour) in zip((-0.2, 0.2), (('teacher', TEACHER_COLOUR), ('student', STUDENT_COLOUR))):
        places = [place + offset for place in range(len(texts))]
        axes[0, 0].bar(places, scores[name][0], 0.38, color=colour, label=name)
        axes[0, 1].bar(places, F.nbest_log_posteriors(scores[name])[0].exp(), 0.38, color=colour)
    axes[0, 0].set(title='nats, -log P(text | audio)')
    axes[0, 1].set(title=f'posterior over the list; value {distance:.2f}', ylim=(0, 1))
    for each in axes[0]:
        each.set_xticks(range(len(texts)), texts, rotation=15)
    axes[0, 0].legend(loc='upper left')
    return figure


def cells(axes, values: torch.Tensor, title: str, path: F.TransducerPath | None = None) -> None:
    """A value of each cell of the lattice; time to the right, labels upwards."""
    picture = axes.imshow(values[0].T, origin='lower', aspect='auto', cmap='cividis', interpolation='nearest')
    axes.figure.colorbar(picture, ax=axes, pad=0.01)
    axes.set(title=title, ylabel='labels said', xticks=range(0, FRAMES, 5))
    axes.set_yticks(range(len(TEXT) + 1), ['none', *(''.join(LABELS[k] for k in TEXT[:u]) for u in (1, 2, 3))])
    if path is not None:
        labels = path.step_labels[0]
        positions = labels.cumsum(0) - labels
        axes.plot(path.step_frames[0], positions, color='white', marker='.', lw=1.2)


@styled
def lattice():
    student, teacher = lattices()
    values = F.lattice_cell_divergence(student, teacher, TARGETS, LENGTHS, TARGET_LENGTHS, BLANK)
    paths = [
        F.transducer_best_path(F.RNNT(BLANK), each, TARGETS, LENGTHS, TARGET_LENGTHS) for each in (teacher, student)
    ]
    nodes = [
        F.transducer_occupancy(F.RNNT(BLANK), each, TARGETS, LENGTHS, TARGET_LENGTHS).node
        for each in (teacher, student)
    ]
    figure, axes = new_figure(7, 5.4, 3, 1, sharex=True)
    cells(axes[0, 0], nodes[0], 'teacher: probability that an alignment of "cab" visits the cell; best path', paths[0])
    cells(axes[1, 0], nodes[1], 'student: the same', paths[1])
    cells(axes[2, 0], values, f'divergence of each cell, nats; sum {values.sum():.1f}')
    axes[2, 0].set(xlabel='frame')
    return figure


@styled
def one_best_path():
    student, teacher = lattices()
    path = F.transducer_best_path(F.RNNT(BLANK), teacher, TARGETS, LENGTHS, TARGET_LENGTHS)
    marked = F.path_cells(path.step_frames, path.step_labels, FRAMES, len(TEXT) + 1)
    band = F.band_cells(marked, 2, 2) & F.valid_cells(LENGTHS, TARGET_LENGTHS, FRAMES, len(TEXT) + 1)
    arguments = (student, teacher, TARGETS, LENGTHS, TARGET_LENGTHS, BLANK)
    figure, axes = new_figure(7, 3.8, 2, 1, sharex=True)
    for row, (title, weights) in enumerate(
        {
            f"the {int(marked.sum())} cells of the teacher's best path": marked,
            f'`cells: band`, {int(band.sum())} cells': band,
        }.items()
    ):
        values = F.lattice_cell_divergence(*arguments, weights=weights)
        shown = values.masked_fill(~weights, torch.nan)
        cells(axes[row, 0], shown, f'{title}: nats, sum {values.sum():.1f}', path)
    axes[1, 0].set(xlabel='frame')
    return figure


def bins(names: tuple[str, ...]):
    """One cell, by the partitions of `names`: its bins and its divergence."""
    student, teacher = lattices()
    frame, position = 15, 2  # "ca" has been said, "b" is next, and both models also hear a "d"
    one = torch.zeros(1, FRAMES, len(TEXT) + 1, dtype=torch.bool)
    one[0, frame, position] = True
    probabilities = [each.logits()[0, frame, position].softmax(-1) for each in (teacher, student)]
    figure, axes = new_figure(7, 2.8, 1, len(names), sharey=True)
    for axis, name in zip(axes[0], names):
        options = {'bins': name, 'top_k': 2}
        divergence = F.lattice_divergence(student, teacher, TARGETS, LENGTHS, TARGET_LENGTHS, BLANK, one, **options)
        single = list(range(len(LABELS)))
        if name != 'full':
            best = probabilities[0].topk(2).indices.tolist() if name == 'topk' else []
            single = sorted({TEXT[position], BLANK, *best})
        titles = [LABELS[k] for k in single]
        heights = [[float(p[k]) for k in single] for p in probabilities]
        if name != 'full':
            titles.append('rest')
            heights = [[*each, 1 - sum(each)] for each in heights]
        for offset, colour, label, height in zip(
            (-0.2, 0.2), (TEACHER_COLOUR, STUDENT_COLOUR), ('teacher', 'student'), heights
        ):
            axis.bar([place + offset for place in range(len(titles))], height, 0.38, color=colour, label=label)
        axis.set_xticks(range(len(titles)), titles)
        axis.set(title=f'{name}: {float(divergence):.3f} nats')
    axes[0, 0].set(ylabel='probability in one cell')
    axes[0, 0].legend()
    return figure


@styled
def lattice_topk():
    return bins(('full', 'topk'))


@styled
def lattice_collapsed():
    return bins(('full', 'topk', 'collapsed'))


def sides() -> tuple[TransducerSide, TransducerSide]:
    """Student and teacher as the encoder objectives see them."""
    return tuple(TransducerSide(each, each.encoder, LENGTHS) for each in lattices())


@styled
def encoder():
    student, teacher = sides()
    loss = EncoderLoss(EncoderConfig(), F.RNNT(BLANK))
    partner = torch.full((FRAMES, 1, FRAMES), -1).squeeze(1)
    partner[range(FRAMES), range(FRAMES)] = torch.arange(FRAMES)
    values = torch.stack([loss.per_utterance(student, teacher, row.unsqueeze(0)) for row in partner]).squeeze(1)
    figure, axes = new_figure(7, 4.8, 3, 1, sharex=True)
    for axis, side, title in zip(axes[:2, 0], (teacher, student), ('teacher', 'student')):
        logits = (side.joint.encoder.relu() @ side.joint.weight.T)[0]
        picture = axis.imshow(
            (logits - logits.mean(1, keepdim=True)).T, aspect='auto', cmap='cividis', interpolation='nearest'
        )
        figure.colorbar(picture, ax=axis, pad=0.01)
        axis.set(title=f"{title}: the joint's logits without a prediction network, centred")
        axis.set_yticks(range(len(LABELS)), LABELS)
    bars(axes[2, 0], values, f'cost of each frame, sum {values.sum():.1f}', 'mean square')
    return figure


@styled
def representation():
    student, teacher = sides()
    values = RepresentationLoss(RepresentationConfig(), F.RNNT(BLANK))(student, teacher, TARGETS, TARGET_LENGTHS)
    alike = [torch.nn.functional.normalize(side.encoded[0], dim=1) for side in (teacher, student)]
    alike = [each @ each.T for each in alike]
    figure, axes = new_figure(7, 2.7, 1, 3)
    pictures = {
        'teacher': alike[0],
        'student': alike[1],
        f'difference², value {float(values):.2f}': (alike[0] - alike[1]) ** 2,
    }
    for axis, (title, matrix) in zip(axes[0], pictures.items()):
        axis.imshow(matrix, cmap='cividis', interpolation='nearest')
        axis.set(title=title, xlabel='frame')
    axes[0, 0].set(ylabel='frame')
    return figure


PICTURES = (
    frame_kl, softmax_l2, guided_ctc, occupancy, hard, full_sum, full_sum_norm, lattice, lattice_topk, lattice_collapsed,
    one_best_path, encoder, representation,
)  # fmt: skip


def main() -> None:
    """Draws all of them, or those that the command line names."""
    FOLDER.mkdir(exist_ok=True)
    for draw in PICTURES:
        if sys.argv[1:] and draw.__name__ not in sys.argv[1:]:
            continue
        save_png(draw(), FOLDER / f'{draw.__name__}.png', dpi=110)


if __name__ == '__main__':
    main()
