# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Driver for the eSpeak NG library that the ``espeakng-loader`` wheel carries, through its C API.

eSpeak NG keeps state from one utterance to the next (wave phase, flutter position, noise generators, the previous
voice), and neither ``espeak_Terminate`` nor ``espeak_ng_SetRandSeed`` clears all of it: with them alone, 85 of the
wheel's 107 voices gave other samples when the order of the utterances changed. :class:`Synthesizer` therefore
unloads and reloads the library before every utterance (half a millisecond), which gives it fresh static data, and
seeds both random generators it uses (its own and the C library's). An utterance then depends on its own arguments
alone.
"""

import ctypes
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nemo_oracle_kd.errors import ConfigError

# Values of the enums in speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_PHONEMES = 0x100
_RATE, _PITCH, _RANGE, _WORDGAP = 1, 3, 4, 7
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

# One library, one C random generator and one callback per process: two threads must not be inside it at once.
_LOCK = threading.Lock()


class EspeakError(ConfigError):
    """The eSpeak NG library is missing or refused a request; the message says how to mend it."""


@dataclass(frozen=True)
class Prosody:
    """How an utterance is spoken.

    Attributes:
        rate: words per minute, 80 to 450.
        pitch: base pitch, 0 to 99; 50 is the voice's own.
        pitch_range: liveliness of the intonation, 0 (monotone) to 99; 50 is the voice's own.
        word_gap: extra pause between words, in units of 10 ms at the default rate.
    """

    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50
    word_gap: int = 0


class Synthesizer:
    """Text to samples; the result of a call does not depend on the calls before it.

    Raises:
        EspeakError: the library or its data is not installed, or cannot be loaded.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise EspeakError("the speech synthesiser is not installed: run `pip install espeakng-loader`") from None
        self._library_path = espeakng_loader.get_library_path()
        try:
            self._data_path = str(espeakng_loader.get_data_path())
        except RuntimeError:
            self._data_path = ''
        if not Path(self._library_path).is_file() or not Path(self._data_path, 'phontab').is_file():
            raise EspeakError(
                "the espeakng-loader package is installed without its library or its data: "
                "run `pip install --force-reinstall espeakng-loader`"
            )
        self._library: ctypes.CDLL | None = None
        self._chunks: list[bytes] = []
        # Kept on self: ctypes callbacks that are garbage collected crash the process.
        self._callback = _Callback(self._collect)
        with _LOCK:
            self.sample_rate = self._load()
            self._unload()

    def _collect(self, samples, count: int, _events) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def _load(self) -> int:
        try:
            library = ctypes.CDLL(self._library_path)
        except OSError as error:
            raise EspeakError(f"the eSpeak NG library cannot be loaded ({error}): reinstall espeakng-loader") from None
        # The native rate is static data, zero until the first initialisation: the cheapest proof of a fresh image.
        if library.espeak_ng_GetSampleRate() != 0:
            raise EspeakError(
                "the eSpeak NG library is already in use in this process, so its output would depend on what was "
                "spoken before: run the synthesis in a process of its own"
            )
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        library.espeak_ng_SetRandSeed.restype = ctypes.c_int
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, self._data_path.encode(), _INITIALIZE_DONT_EXIT)
        if rate <= 0:
            raise EspeakError(f"eSpeak NG cannot read its data in {self._data_path}: reinstall espeakng-loader")
        library.espeak_SetSynthCallback(self._callback)
        self._library = library
        return rate

    def _unload(self) -> None:
        import _ctypes

        library, self._library = self._library, None
        library.espeak_Terminate()
        close = _ctypes.FreeLibrary if sys.platform == 'win32' else _ctypes.dlclose
        close(library._handle)

    def speak(self, text: str, voice: str, prosody: Prosody = Prosody(), seed: int = 1) -> np.ndarray:
        """Synthesises one utterance.

        Args:
            text: UTF-8 text; ``[[...]]`` holds eSpeak phoneme mnemonics.
            voice: accent and variant, for example ``en-us+f3``.
            prosody: rate, pitch, range and word gap.
            seed: for the generators behind breath and aspiration noise.

        Returns:
            Samples ``[N]``, int16, at :attr:`sample_rate` Hz.

        Raises:
            EspeakError: unknown voice, or no sound came back.
        """
        with _LOCK:
            self._load()
            try:
                return self._speak(text, voice, prosody, seed)
            finally:
                self._unload()

    def _speak(self, text: str, voice: str, prosody: Prosody, seed: int) -> np.ndarray:
        library = self._library
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise EspeakError(
                f"eSpeak NG has no voice {voice!r}: install the version of espeakng-loader that holds eSpeak NG 1.52"
            )
        for parameter, value in (
            (_RATE, prosody.rate),
            (_PITCH, prosody.pitch),
            (_RANGE, prosody.pitch_range),
            (_WORDGAP, prosody.word_gap),
        ):
            library.espeak_SetParameter(parameter, int(value), 0)
        library.espeak_ng_SetRandSeed(seed)
        # A few Klatt voices draw their noise from the C library's generator instead.
        libc = ctypes.cdll.msvcrt if sys.platform == 'win32' else ctypes.CDLL(None)
        libc.srand(ctypes.c_uint(seed))
        data = text.encode('utf-8') + b'\0'
        self._chunks.clear()
        status = library.espeak_Synth(data, len(data), 0, _POS_CHARACTER, 0, _CHARS_UTF8 | _PHONEMES, None, None)
        samples = np.frombuffer(b''.join(self._chunks), dtype=np.int16)
        self._chunks.clear()
        if status != 0 or not samples.size or not samples.any():
            raise EspeakError(
                f"eSpeak NG gave no sound for {text!r} with voice {voice!r} (status {status}): reinstall espeakng-loader"
            )
        return samples
