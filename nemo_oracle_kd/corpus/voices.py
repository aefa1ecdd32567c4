# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Which voices speak in which part of the synthetic corpus.

A voice is an accent (an English language definition of eSpeak NG) with a variant (a set of formants, pitch and voice
quality, from ``voices/!v``). Train, dev and test share neither accents nor variants, and variants that are versions
of one another (``steph``, ``steph2``, ``steph3``) stay on one side. Left out are the effects that are not
human voices (robots, ``Demonic``, ``croak``) and whispers, which have no pitch.
"""

import numpy as np

ACCENTS: dict[str, tuple[str, ...]] = {
    'train': ('en-us', 'en', 'en-gb-scotland', 'en-gb-x-gbclan'),
    'dev': ('en-029', 'en-gb-x-gbcwmd'),
    'test': ('en-us-nyc', 'en-gb-x-rp'),
}

# Women's and men's voices listed apart, so that each is drawn half of the time in every part.
WOMEN: dict[str, tuple[str, ...]] = {
    'train': ('Alicia', 'Annie', 'anika', 'aunty', 'f1', 'f3', 'f5', 'linda', 'steph', 'steph2', 'steph3', 'zac'),
    'dev': ('belinda', 'f2', 'Andrea'),
    'test': ('f4', 'grandma', 'shelby'),
}
MEN: dict[str, tuple[str, ...]] = {
    'train': tuple(
        'Alex,Diogo,Gene,Gene2,Henrique,Hugo,Jacky,Lee,Marco,Michael,Mr serious,Nguyen,RicishayMax,RicishayMax2,'
        'RicishayMax3,adam,announcer,antonio,benjamin,david,ed,gustave,iven,iven2,iven3,iven4,kaukovalta,klatt3,'
        'klatt4,klatt5,klatt6,m1,m3,m5,m6,m8,marcelo,michel,pablo,paul,pedro,rob,sandro,victor'.split(',')
    ),
    'dev': ('Andy', 'AnxiousAndy', 'Denis', 'Reed', 'boris', 'john', 'm2', 'miguel', 'quincy'),
    'test': tuple('Mario,Mike,mike2,edward,edward2,grandpa,m4,m7,max,norbert,robert,travis'.split(',')),
}


def draw_voice(rng: np.random.Generator, split: str) -> str:
    """Draws a voice of a split.

    Args:
        rng: source of the choice.
        split: ``train``, ``dev`` or ``test``.

    Returns:
        eSpeak voice name, for example ``en-us+f3``.
    """
    variants = (WOMEN if rng.random() < 0.5 else MEN)[split]
    accents = ACCENTS[split]
    return f'{accents[int(rng.integers(len(accents)))]}+{variants[int(rng.integers(len(variants)))]}'
