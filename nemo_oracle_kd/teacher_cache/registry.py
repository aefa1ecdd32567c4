# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The signals that a cache can hold, by name and head, and the choice among them for a teacher."""

from typing import Any

from nemo_oracle_kd.bridge.joint import joint_problems
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.teacher_cache.encoder_signal import EncoderSignal
from nemo_oracle_kd.teacher_cache.frame_signals import BestPathSignal, OccupancySignal, TopPosteriorsSignal
from nemo_oracle_kd.teacher_cache.index import CacheIndex, CacheOptions
from nemo_oracle_kd.teacher_cache.lattice_signals import CollapsedLatticeSignal, PathCellsSignal, TopLatticeSignal
from nemo_oracle_kd.teacher_cache.signals import CachedSignal

__all__ = ['SIGNALS', 'choose_options', 'signal_of']

#: name -> head -> class
SIGNALS: dict[str, dict[str, type[CachedSignal]]] = {}
for _signal in (
    TopPosteriorsSignal,
    OccupancySignal,
    BestPathSignal,
    CollapsedLatticeSignal,
    TopLatticeSignal,
    PathCellsSignal,
    EncoderSignal,
):
    SIGNALS.setdefault(_signal.name, {})[_signal.head] = _signal

#: where a divergence is tempered by default: that of frames is, that of lattices is not
_TEMPERATURES = {'frame': (1.0, 2.0), 'lattice': (1.0,)}


def signal_of(index: CacheIndex) -> CachedSignal:
    """The signal of an index.

    Raises:
        ConfigError: the index names none that this package knows.
    """
    options, facts = index.options, index.teacher
    signal = SIGNALS.get(options.signal, {}).get(options.head)
    if signal is None or options.head not in facts['blanks']:
        raise ConfigError(
            f"the cache holds the signal {options.signal!r} of a {options.head} head, which is none of this package: cache the teacher "
            "again"
        )
    # the labels, the big blanks of a multi-blank joint and the blank
    extra = len(index.transducer.transducer.blanks) if options.head == 'transducer' else 1
    return signal(options, len(facts['vocabulary']) + extra, index.transducer)


def choose_options(
    model: Any,
    signal: str,
    head: str = 'auto',
    top_k: int = 8,
    temperatures: tuple[float, ...] | None = None,
    dtype: str = 'float16',
) -> CacheOptions:
    """The options of a cache for a teacher.

    Args:
        model: a NeMo model.
        signal: a key of `SIGNALS`.
        head: `ctc`, `rnnt`, or `auto`, which takes the transducer of a hybrid model where the signal exists for both.
        top_k: number of classes that are kept one by one.
        temperatures: for which the sum of the others is kept; by default those of the presets.
        dtype: `float16` or `float32`.

    Raises:
        ConfigError: the model does not have the head, or options that the signal does not have.
        ValueError: the model has neither a CTC nor a transducer head.
    """
    from nemo_oracle_kd.bridge.attention_prompt import is_attention_model
    from nemo_oracle_kd.bridge.model import describe

    if is_attention_model(model):
        raise ConfigError(
            f"a {type(model).__name__} has an attention decoder, of which no signal is kept: use a CTC, transducer or hybrid teacher, "
            "or store its scores with `nemo-oracle-kd score`"
        )
    has = describe(model).blanks
    classes = SIGNALS[signal]
    wanted = {'auto': None, 'ctc': 'ctc', 'rnnt': 'transducer'}[head]
    able = [name for name in ('transducer', 'ctc') if name in classes and name in has and wanted in (None, name)]
    if not able:
        needed = ' or '.join('a CTC head' if name == 'ctc' else 'a transducer head' for name in classes)
        raise ConfigError(
            f"the signal {signal} is that of {needed}, and {type(model).__name__} has {' and '.join(has)}"
            + (f" (--head {head})" if wanted else '')
            + ": choose another signal or teacher"
        )
    chosen = classes[able[0]]
    temperatures = tuple(temperatures or _TEMPERATURES[chosen.family])
    problems = [f"--temperature {at:g} must be above 0" for at in temperatures if not 0 < at < float('inf')]
    if chosen.family == 'lattice' and len(temperatures) > 1:
        problems.append("a lattice is kept at one temperature: give --temperature one value")
    if signal in ('occupancy', 'encoder') or (signal == 'best_path' and able[0] == 'ctc'):
        temperatures = (1.0,)
    if top_k < 1:
        problems.append(f"--top-k must be at least 1, not {top_k}")
    if able[0] == 'transducer':
        problems += joint_problems(model, 'teacher', training=False)
    ConfigError.raise_if_any(problems)
    return CacheOptions(signal, able[0], top_k, temperatures, dtype)
