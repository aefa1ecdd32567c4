# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The architecture as a test: imports point down, the mathematics knows torch only, start-up stays light."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = 'nemo_oracle_kd'

# folder or module of the package -> (layer, layers that it may import besides itself)
ALLOWED = {
    'errors': (1, set()),
    'processes': (1, set()),
    'strict_config': (1, {'errors'}),
    'folder_lock': (1, set()),
    'spaces': (1, set()),
    'functional': (1, set()),
    'losses': (2, {1}),
    'modules': (2, {1}),
    'corpus': (2, {1}),
    'bridge': (3, {1}),
    'labelling': (4, {1, 2, 3}),
    'teacher_cache': (4, {1, 2, 3, 'labelling'}),
    'distillation': (4, {1, 2, 3, 'labelling', 'teacher_cache'}),
    # evaluation draws the pictures that a callback logs
    'callbacks': (5, {1, 2, 3, 4, 'evaluation'}),
    # One mechanism behind both front doors: the model classes put the callback into their trainer.
    'models': (5, {1, 2, 3, 4, 'callbacks'}),
    'evaluation': (5, {1, 2, 3, 4}),
    # models of word pictures are models with data of their own
    'scene_text': (5, {1, 2, 3, 4, 'models'}),
    'cli': (6, {1, 2, 3, 4, 5, 'experiments'}),
    'experiments': (6, {1, 2, 3, 4, 5}),
    'conf': (6, set()),
}
HEAVY = {'torch', 'nemo', 'lightning', 'pytorch_lightning', 'transformers', 'matplotlib', 'librosa', 'lhotse'}
LIGHT_FILES = ['nemo_oracle_kd/__init__.py', 'nemo_oracle_kd/errors.py', 'nemo_oracle_kd/bridge/__init__.py']
LIGHT_FOLDERS = ['nemo_oracle_kd/cli', 'nemo_oracle_kd/bridge/register', 'hydra_plugins', 'conf']
LIGHT_PARTS = (None, 'cli', 'bridge', 'errors', 'processes', 'strict_config', 'conf')
#: what of NeMo's collections may be named outside bridge/: classes that stand in its documentation
PUBLIC_COLLECTIONS = {
    'scene_text': ('nemo.collections.asr.models.ctc_models.EncDecCTCModel',),
    'experiments': ('nemo.collections.asr.models',),
    'models': ('nemo.collections.asr.models.', 'nemo.collections.asr.losses.', 'nemo.collections.asr.metrics.wer.WER')
    + ('nemo.collections.common.parts.preprocessing.parsers.make_parser',),
}
#: parts of NeMo's and Lightning's loaders and loops, which change from version to version
LOADER_PARTS = {'fit_loop', 'epoch_loop', 'epoch_progress', 'batch_progress', 'manifest_processor', 'return_sample_id'}
#: private names of others that are used outside bridge/ all the same, each with its reason
PRIVATE_OF_OTHERS = {
    (
        'nemo_oracle_kd/cli/_device.py',
        '_ActionsContainer',
    ): "argparse's own name for parsers and groups, in an annotation",
    ('nemo_oracle_kd/cli/main.py', '_SubParsersAction'): "argparse's own name, in an annotation",
    ('nemo_oracle_kd/corpus/espeak.py', '_handle'): 'ctypes closes a library only by its handle',
    (
        'nemo_oracle_kd/models/oracle_transcription.py',
        '_internal',
    ): "a part of NeMo's transcribe hooks that is handed over",
    (
        'nemo_oracle_kd/modules/oracle_encoder.py',
        '_feat_out',
    ): "the width of an encoder's output, by which NeMo joins modules",
}
KERNEL_FILES = ['nemo_oracle_kd/functional/lattice/triton_kernel.py']
HEADER = '''# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

'''


def _sources(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob('*.py'))


def _relative(path):
    return path.relative_to(ROOT).as_posix()


PACKAGE_FILES = [_relative(path) for path in _sources(PACKAGE)]
ALL_FILES = [_relative(path) for path in _sources(PACKAGE, 'hydra_plugins', 'conf', 'examples', 'tests', 'benchmarks')]


@functools.cache  # half of the tests ask for the same files
def _parsed(path):
    return ast.parse(path.read_text(encoding='utf-8'))


def _imports(file, module_level_only=False):
    """Returns the absolute dotted names that ``file`` imports, with their line numbers."""
    return _imports_of(ROOT, file, module_level_only)


@functools.cache
def _imports_of(root, file, module_level_only):
    found = []

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, child.lineno) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ''
                if child.level:
                    parents = list(Path(file).parent.parts)
                    parents = parents[: len(parents) - child.level + 1]
                    base = '.'.join([*parents, base] if base else parents)
                found.extend((f'{base}.{alias.name}', child.lineno) for alias in child.names)
            if module_level_only and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            if module_level_only and isinstance(child, ast.If) and 'TYPE_CHECKING' in ast.unparse(child.test):
                continue
            visit(child)

    visit(_parsed(root / file))
    return found


def _part(dotted):
    """Returns the folder or module of the package that a dotted name lies in, or None for the package itself."""
    names = dotted.split('.')
    return names[1] if len(names) > 1 and names[0] == PACKAGE and names[1] in ALLOWED else None


def _own_part(file):
    names = Path(file).with_suffix('').parts
    return names[1] if len(names) > 1 else None


def _upward_imports(file):
    own = _own_part(file)
    if own == '__init__':
        return [entry for entry in _imports(file) if _part(entry[0]) not in (None, 'bridge')]
    _, allowed = ALLOWED[own]
    wrong = []
    for dotted, line in _imports(file):
        part = _part(dotted)
        if part in (None, own) or part in allowed or part == 'errors':
            continue
        if ALLOWED[part][0] not in allowed:
            wrong.append((dotted, line))
    return wrong


def _outside(imports, allowed):
    return [entry for entry in imports if entry[0].split('.')[0] not in allowed]


def _offenders(files, find):
    """Returns file -> what ``find`` has against it, for the files with which something is wrong."""
    return {file: wrong for file in files if (wrong := find(file))}


def test_every_folder_of_the_package_has_a_layer():
    parts = {_own_part(file) for file in PACKAGE_FILES} - {'__init__', '__main__'}
    assert parts <= set(ALLOWED), f"give these a layer: {sorted(parts - set(ALLOWED))}"


def test_imports_point_down():
    files = [file for file in PACKAGE_FILES if _own_part(file) != '__main__']
    assert len(files) > 20 and _offenders(files, _upward_imports) == {}


def test_the_mathematics_imports_only_torch():
    allowed = set(sys.stdlib_module_names) | {'torch', PACKAGE}
    files = [file for file in PACKAGE_FILES if _own_part(file) == 'functional' and file not in KERNEL_FILES]
    assert files and _offenders(files, lambda file: _outside(_imports(file), allowed)) == {}


def test_triton_which_is_optional_stays_in_files_that_nobody_imports_at_module_level():
    # A kernel's decorators need triton when its file is imported, hence files of their own.
    kernels = {Path(file).with_suffix('').as_posix().replace('/', '.') for file in KERNEL_FILES}
    allowed = set(sys.stdlib_module_names) | {'torch', 'triton'}
    assert _offenders(KERNEL_FILES, lambda file: _outside(_imports(file), allowed)) == {}

    def eager(file):
        imports = _imports(file, module_level_only=True)
        return [entry for entry in imports if any(entry[0].startswith(name) for name in (*kernels, 'triton'))]

    assert _offenders([file for file in PACKAGE_FILES if file not in KERNEL_FILES], eager) == {}


def _own_names(tree):
    """Names that a file defines itself: attributes of `self` and `cls`, functions, classes and class attributes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node.value):
            names.add(node.attr)
    return names


def _is_own(node):
    """`self`, `cls` or `super()`."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == 'super'
    return isinstance(node, ast.Name) and node.id in ('self', 'cls')


def _insides(file):
    """What a file takes from the inside of NeMo, Lightning or any other library, with line numbers."""
    tree = _parsed(ROOT / file)
    own, found = _own_names(tree), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner, name = node.value, node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            if node.func.id not in ('getattr', 'setattr', 'hasattr', 'delattr'):
                continue
            owner, name = node.args[0], node.args[1].value if isinstance(node.args[1], ast.Constant) else ''
        else:
            continue
        private = name.startswith('_') and not name.startswith('__') and name not in own and not _is_own(owner)
        if (private or name in LOADER_PARTS) and (file, name) not in PRIVATE_OF_OTHERS:
            found.append((name, node.lineno))
    public = PUBLIC_COLLECTIONS.get(_own_part(file), ())
    found += [
        (dotted, line)
        for dotted, line in _imports(file)
        if dotted.startswith('nemo.collections') and not dotted.startswith(public or ('-',))
    ]
    return found


def test_only_the_bridge_knows_the_inside_of_nemo_and_lightning():
    files = [file for file in PACKAGE_FILES if _own_part(file) != 'bridge']
    assert len(files) > 100 and _offenders(files, _insides) == {}
    # every exception is still one, and the bridge is where such things are
    for file, name in PRIVATE_OF_OTHERS:
        assert name in (ROOT / file).read_text(encoding='utf-8')
    assert '_train_dl' in {name for name, _ in _insides('nemo_oracle_kd/bridge/rows/shares.py')}


def test_what_runs_at_start_up_imports_nothing_heavy_at_module_level():
    def heavy(file):
        imports = _imports(file, module_level_only=True)
        return [entry for entry in imports if entry[0].split('.')[0] in HEAVY or _part(entry[0]) not in LIGHT_PARTS]

    files = LIGHT_FILES + [_relative(path) for path in _sources(*LIGHT_FOLDERS)]
    assert _offenders(files, heavy) == {}


def test_nobody_imports_the_second_lightning():
    # pytorch_lightning may be installed beside lightning; its Trainer is another class, which NeMo refuses.
    def second(file):
        return [entry for entry in _imports(file) if entry[0].split('.')[0] == 'pytorch_lightning']

    assert _offenders(ALL_FILES, second) == {}


def test_every_file_has_the_licence_header():
    def without(file):
        text = (ROOT / file).read_text(encoding='utf-8')
        return not (text.startswith(HEADER) or (text.startswith('#!') and HEADER in text))

    assert _offenders(ALL_FILES + ['setup.py'], without) == {}


def test_every_file_says_what_it_is_for():
    def silent(file):
        return not ast.get_docstring(_parsed(ROOT / file))

    assert _offenders(ALL_FILES + ['setup.py'], silent) == {}


def test_importing_the_package_and_the_plugin_brings_neither_torch_nor_nemo():
    code = (
        "import sys, nemo_oracle_kd, hydra_plugins.nemo_oracle_kd_plugin.plugin as plugin; "
        f"print(sorted({{name.split('.')[0] for name in sys.modules}} & {HEAVY!r}))"
    )
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == '[]'


def test_the_check_finds_an_import_that_points_up(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], 'ROOT', tmp_path)
    file = tmp_path / PACKAGE / 'functional' / 'wrong.py'
    file.parent.mkdir(parents=True)
    file.write_text("def f():\n    from ..distillation import distiller\n    import nemo_oracle_kd.errors\n")
    assert _upward_imports(_relative(file)) == [('nemo_oracle_kd.distillation.distiller', 2)]


def test_the_check_finds_private_attributes_loader_parts_and_imports_of_data_sets(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], 'ROOT', tmp_path)
    file = tmp_path / PACKAGE / 'distillation' / 'wrong.py'
    file.parent.mkdir(parents=True)
    file.write_text(
        "from nemo.collections.asr.data import audio_to_text\n"
        "class A:\n"
        "    def f(self, model, other):\n"
        "        self._kept = other._kept\n"
        "        setattr(model, '_train_dl', model.trainer.fit_loop)\n"
        "        return model._trainer, self._anything, super()._anything\n"
    )
    names = [('_train_dl', 5), ('_trainer', 6), ('fit_loop', 5), ('nemo.collections.asr.data.audio_to_text', 1)]
    assert sorted(_insides(_relative(file))) == names
