# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd profile STUDENT TEACHER`: where the time of a distillation step goes, and what a plain step takes."""

import argparse
from typing import Any

from nemo_oracle_kd.cli._device import add_device_argument, check_device
from nemo_oracle_kd.cli.check import add_distillation_arguments, distillation_section, make_student

HELP = 'measure a training step: the share of data, student, teacher, objectives, backward and logging'

EPILOG = """examples:
  nemo-oracle-kd profile student.nemo teacher.nemo --manifest train.jsonl --preset frame_kl
  nemo-oracle-kd profile recipe.yaml teacher.nemo --manifest train.jsonl --preset lattice --batch-size 16 --json profile.json

Nothing is saved. The student is trained for a few steps, first as it is and then with the distillation.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_distillation_arguments(parser)
    parser.add_argument('--manifest', metavar='TRAIN', help='training manifest (default: that of the recipe)')
    parser.add_argument('--batch-size', type=int, default=8, metavar='N', help='utterances per step (default: 8)')
    parser.add_argument('--steps', type=int, default=20, metavar='N', help='steps that are measured (default: 20)')
    parser.add_argument('--warm-up', type=int, default=3, metavar='N', help='steps before these (default: 3)')
    parser.add_argument('--num-workers', type=int, default=0, metavar='N', help='loader workers (default: 0)')
    parser.add_argument('--precision', default='32-true', metavar='P', help='as trainer.precision (default: 32-true)')
    parser.add_argument('--json', metavar='FILE', help='also write the figures to a file')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing file')
    add_device_argument(parser, default='auto')


def run(args: argparse.Namespace) -> int:
    """Measures both trainings and prints the table."""
    from nemo_oracle_kd.corpus.outputs import check_outputs
    from nemo_oracle_kd.errors import ConfigError

    counts = {'batch-size': args.batch_size, 'steps': args.steps, 'warm-up': args.warm_up}
    ConfigError.raise_if_any(
        f"--{name} must be at least 1, not {value}" for name, value in counts.items() if value < 1
    )
    check_device(args.device)
    if args.json is not None:
        check_outputs({'--json': args.json}, [path for path in (args.manifest,) if path], args.overwrite)
    section, train_ds = distillation_section(args)
    if args.manifest is not None:
        train_ds = {'manifest_filepath': args.manifest}
    if train_ds is None:
        raise ConfigError(
            "there are no training data: give --manifest, or set model.train_ds.manifest_filepath with --set"
        )

    from nemo_oracle_kd.callbacks.knowledge_distillation import KnowledgeDistillation

    plain = _train(args, train_ds, None)
    distilled = _train(args, train_ds, KnowledgeDistillation(**section))
    print(f'{"part":<12}{"ms a step":>10}{"share":>9}')
    for part, seconds, share, text in distilled.table():
        print(f'{part:<12}{1000 * seconds:>10.1f}{share:>9.1%}   {text}')
    print(f'{"a step":<12}{1000 * distilled.total:>10.1f}')
    print(
        f'{"plain step":<12}{1000 * plain.total:>10.1f}   the same without distillation: {distilled.total / plain.total:.2f} times'
    )
    if args.json is not None:
        _write(args, plain, distilled)
    return 0


def _train(args: argparse.Namespace, train_ds: Any, distillation: Any) -> Any:
    """Trains a student for a few steps; returns their profile."""
    import lightning.pytorch as pl
    import torch

    from nemo_oracle_kd.bridge.restore import quiet_nemo
    from nemo_oracle_kd.callbacks.step_profile import StepProfile

    torch.manual_seed(0)
    profile = StepProfile(distillation, args.warm_up)
    callbacks = [profile] if distillation is None else [distillation, profile]
    with quiet_nemo():
        trainer = pl.Trainer(
            max_steps=args.warm_up + args.steps,
            max_epochs=-1,
            **_accelerator(args.device),
            precision=args.precision,
            logger=False,
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            use_distributed_sampler=False,
        )
        student = make_student(args)
        _set_up(student, train_ds, args)
        student.set_trainer(trainer)
        trainer.fit(student)
    return profile


def _accelerator(device: str) -> dict[str, Any]:
    if device in ('auto', 'cpu'):
        return {'accelerator': device, 'devices': 1}
    kind, _, index = device.partition(':')
    return {'accelerator': 'gpu' if kind == 'cuda' else kind, 'devices': [int(index or 0)]}


def _set_up(student: Any, train_ds: Any, args: argparse.Namespace) -> None:
    """Makes a restored model trainable, with data and an optimizer."""
    from omegaconf import OmegaConf, open_dict

    student.requires_grad_(True)
    rate = student.cfg.get('sample_rate', student.cfg.preprocessor.get('sample_rate', 16000))
    data = {'sample_rate': int(rate), 'shuffle': False, 'pin_memory': False}
    if getattr(student, 'tokenizer', None) is None:
        data['labels'] = list(student.cfg.labels)
    given = OmegaConf.to_container(train_ds, resolve=True) if OmegaConf.is_config(train_ds) else dict(train_ds)
    given |= {'batch_size': args.batch_size, 'num_workers': args.num_workers}
    with open_dict(student.cfg):
        student.cfg.pop('validation_ds', None)  # a restored model has one whose set-up is deferred to the fit
        student.cfg.train_ds = OmegaConf.create({**data, **given})
        student.cfg.optim = {'name': 'adamw', 'lr': 1e-6}
    student.setup_training_data(student.cfg.train_ds)


def _write(args: argparse.Namespace, plain: Any, distilled: Any) -> None:
    import json

    import torch

    from nemo_oracle_kd.corpus.outputs import write_text_atomically

    figures = {
        'parts': {part: {'seconds': seconds, 'share': share} for part, seconds, share, _ in distilled.table()},
        'seconds': distilled.total,
        'plain_seconds': plain.total,
        'steps': distilled.steps,
        'batch_size': args.batch_size,
        'torch': torch.__version__,
        'threads': torch.get_num_threads(),
        'device': torch.cuda.get_device_name() if torch.cuda.is_available() and args.device != 'cpu' else 'cpu',
    }
    write_text_atomically(args.json, json.dumps(figures, indent=2) + '\n')
