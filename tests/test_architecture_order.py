"""The shape of the package, read off its syntax trees: what may import what, and habits that must not slip in.

ORDER lists folders, and the modules beside them; what is in a folder needs no entry of its own.
"""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

import moss_tts

ROOT = Path(moss_tts.__file__).parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.name != "__init__.py" or path.parent != ROOT
}
# From the ground up: folders and modules of the root, as patterns. Each imports from its own entry and those before it.
ORDER = [
    "_version errors strict atomic",
    "config sampling text audio device weights adapters",
    "presets context codec",
    "backbone",
    "*_model",
    "inference_utils rows frames realtime",
    "long_form voices subtitles result",
    "prompts",
    "architectures",
    "processor request",
    "speaking",
    "checkpoints sessions",
    "diffusion model",
    "kinds books bulk dubbing server bench tensor_parallel mlx_audio evidence",
    "cli __main__",
]
MOST_ENTRIES = 15
# A library of the outside -> the folders and modules that may know of it.
EDGES = {
    "typer": "cli",
    "rich": "cli",
    "mlx_lm": "device.mlx_lm",
    "transformers": "checkpoints.tokenizer subtitles.word_errors",
    "tokenizers": "prompts.messages checkpoints.demo",
    "sentencepiece": "prompts.sentence_pieces",
    "jinja2": "prompts.template_program books.report.page",
    "huggingface_hub": (
        "checkpoints.hub checkpoints.hub_failures checkpoints.outline checkpoints.kept checkpoints.upload "
        "checkpoints.model_card"
    ),
    "safetensors": "prompts.reference_codes checkpoints.demo books.kept_segments audio.voice_files",
    "ftfy": "diffusion.description",
    "mlx_audio": "mlx_audio",
    "faster_whisper": "subtitles.recogniser",
    "pysubs2": "dubbing.subtitle_files",
    "soxr": "audio.waveform",
    "av": "audio.av_program audio.tempo audio.m4b server.formats",
    "pydantic": "server.bodies server.errors server.openapi server.schema server.sockets.messages",
    "pydantic_core": "server.sockets.messages",
    "soundfile": "audio.decoders audio.files",
}
WEB = {"starlette", "fastapi", "uvicorn", "aiohttp", "flask", "websockets"}
MOST_FILES_OF_THE_ROOT = 26
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60
MEDIAN_LINES_OF_A_FUNCTION = 6
LINES_OF_NINE_FUNCTIONS_IN_TEN = 17


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def imported(module: str) -> set[str]:
    """Every module that an import statement names, wherever it stands."""
    names = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@cache
def own_imports(module: str) -> frozenset[str]:
    """Modules of the package that this one imports."""
    names = {name.removeprefix("moss_tts.") for name in imported(module) if name.startswith("moss_tts.")}
    return frozenset(names & FILES.keys() - {module})


def libraries(module: str) -> set[str]:
    return {name.split(".")[0] for name in imported(module)}


def functions(module: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


# ----------------------------------------------------------------------------------------------------- order


def room(module: str) -> str:
    """The folder of a module, or the module itself if it stands in the root."""
    return module.split(".")[0]


def levels(module: str) -> list[int]:
    """The entries of ORDER that a module belongs to: one, if all is well."""
    patterns = [(level, pattern) for level, entry in enumerate(ORDER) for pattern in entry.split()]
    return [level for level, pattern in patterns if fnmatchcase(room(module), pattern)]


def belongs(module: str, rooms: str) -> bool:
    """Whether a module is one of those named, or lies in one of those folders."""
    return any(module == name or module.startswith(f"{name}.") for name in rooms.split())


def circles(ways: dict[str, set[str]]) -> list[str]:
    """What reaches itself, of a graph."""

    def reached(start: str) -> set[str]:
        found, waiting = set[str](), [start]
        while waiting:
            new = ways[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    return sorted(name for name in ways if name in reached(name))


def test_every_module_belongs_to_one_entry():
    assert len(ORDER) <= MOST_ENTRIES
    assert {module: levels(module) for module in FILES if len(levels(module)) != 1} == {}
    rooms = {room(module) for module in FILES}
    empty = [pattern for entry in ORDER for pattern in entry.split() if not any(fnmatchcase(r, pattern) for r in rooms)]
    assert empty == []


def test_imports_go_down_the_order():
    upwards = [(module, name) for module in FILES for name in own_imports(module) if levels(name) > levels(module)]
    assert upwards == []


def test_nothing_imports_itself_in_a_circle():
    """Neither a module, nor a folder by way of others."""
    assert circles({module: set(own_imports(module)) for module in FILES}) == []
    ways: dict[str, set[str]] = {room(module): set() for module in FILES}
    for module in FILES:
        ways[room(module)] |= {room(name) for name in own_imports(module)} - {room(module)}
    assert circles(ways) == []


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_the_root_holds_the_spine_alone():
    assert len(list(ROOT.glob("*.py"))) <= MOST_FILES_OF_THE_ROOT


def test_libraries_stay_at_their_edges():
    strangers = {
        (module, name)
        for module in FILES
        for name in libraries(module) & EDGES.keys()
        if not belongs(module, EDGES[name])
    }
    assert strangers == set()
    assert [name for rooms in EDGES.values() for name in rooms.split() if name not in FILES] == []


def test_there_is_no_torch_and_only_a_server_knows_the_web():
    for module in FILES:
        assert libraries(module) & {"torch", "torchaudio", "tensorflow", "jax"} == set(), module
        assert belongs(module, "server") or libraries(module) & WEB == set(), module


def test_the_ground_knows_nothing_of_devices():
    """Configs are plain values."""
    ground = [module for module in FILES if room(module) in ("errors", "strict", "config")]
    assert "config.common" in ground
    for module in ground:
        assert libraries(module).isdisjoint({"mlx", "numpy", "mlx_lm"})


# ------------------------------------------------------------------------------------------------ the surface


def test_the_packages_names_are_these():
    assert set(moss_tts.__all__) >= {"GenerationResult", "Model", "Speech", "__version__", "load", "write_audio"}
    assert dir(moss_tts) == sorted(moss_tts.__all__)
    errors = {name for name, kind in vars(moss_tts.errors).items() if isinstance(kind, type)}
    assert errors <= set(moss_tts.__all__)
    assert all(getattr(moss_tts, name) is not None for name in moss_tts.__all__)


def test_other_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'generate'"):
        moss_tts.generate  # noqa: B018


def test_everything_public_says_what_it_is():
    """Modules, their classes and their functions."""
    bare = [
        f"{module}.{getattr(node, 'name', '')}"
        for module in FILES.keys() - {"_version"}
        for node in [tree(module), *tree(module).body]
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        if not getattr(node, "name", "").startswith("_") and not ast.get_docstring(node)
    ]
    assert bare == []


# -------------------------------------------------------------------------------------------------- habits


def calls(module: str) -> list[ast.Call]:
    return [node for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]


def is_bare(call: ast.Call, *names: str) -> bool:
    """Whether it calls a function of that name, not a method."""
    return isinstance(call.func, ast.Name) and call.func.id in names


def place(module: str, node: ast.AST) -> str:
    return f"{module}:{getattr(node, 'lineno', 0)}"


def test_nothing_runs_what_it_reads():
    risky = ("trust_remote_code", "allow_pickle", "shell")
    for module in FILES:
        assert libraries(module) & {"pickle", "dill", "marshal", "shelve"} == set(), module
        for call in calls(module):
            assert not is_bare(call, "eval", "exec", "__import__"), place(module, call)
            for option in call.keywords:
                allowed = isinstance(option.value, ast.Constant) and option.value.value is False
                assert option.arg not in risky or allowed, place(module, call)


# What hands an error to those who wait for a result.
HANDS_ON = {"set_exception", "tell", "fail_all", "_fail_all"}


def test_no_error_is_swallowed_whole():
    for module in FILES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                passes_on = any(
                    isinstance(inner, ast.Raise) or (isinstance(inner, ast.Attribute) and inner.attr in HANDS_ON)
                    for inner in ast.walk(node)
                )
                assert passes_on or caught not in ("everything", "Exception", "BaseException"), place(module, node)


def test_no_function_passes_unnamed_options_through():
    """`**options: Unpack[...]` names them; `**kwargs` does not."""
    for module in FILES:
        for function in functions(module):
            rest = function.args.kwarg
            named = rest is None or (rest.annotation is not None and "Unpack" in ast.unparse(rest.annotation))
            assert named, f"{place(module, function)} {function.name}"


KINDS = re.compile(r"\w*(Architecture|Config)")


def names_of_kinds(*nodes: ast.AST) -> set[str]:
    """Classes of architectures and of configs that an expression names."""
    inner = [node for outer in nodes for node in ast.walk(outer)]
    names = [node.id if isinstance(node, ast.Name) else getattr(node, "attr", "") for node in inner]
    return {name for name in names if KINDS.fullmatch(name)}


def kinds_asked_for(tree: ast.AST) -> list[tuple[int, set[str]]]:
    """(line, classes) of each place that asks whether a value is of such a class, in any of the ways there are."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and is_bare(node, "isinstance", "issubclass"):
            found.append((node.lineno, names_of_kinds(*node.args[1:])))
        elif isinstance(node, ast.MatchClass):
            found.append((node.cls.lineno, names_of_kinds(node.cls)))
        elif isinstance(node, ast.Compare):
            found.append((node.lineno, names_of_kinds(*node.comparators)))
    return [(line, names) for line, names in found if names]


@pytest.mark.parametrize(
    "asking",
    [
        "isinstance(config, DelayConfig)",
        "isinstance(config, (int, config_module.LocalConfig))",
        "isinstance(model.architecture, DelayArchitecture | LocalArchitecture)",
        "issubclass(kind, LocalV15Architecture)",
        "type(config) is DelayConfig",
        "match config:\n    case LocalConfig():\n        pass",
    ],
)
def test_asking_for_a_kind_is_found(asking):
    assert kinds_asked_for(ast.parse(asking)) != []


def test_nothing_asks_which_architecture_it_has():
    """A method that the class overrides is the cure; the registry alone knows the classes."""
    asking = {
        module: places
        for module in FILES
        if room(module) not in ("architectures", "config") and (places := kinds_asked_for(tree(module)))
    }
    assert asking == {}


def test_few_files_name_an_architecture():
    """They are what CONTRIBUTING.md says a new one costs; inference_utils is the scheduler of the delay pattern.

    evidence.speech says how upstream's own code returns the rows of each.
    """
    places = "architectures config config.* *_model rows frames inference_utils prompts.packing evidence.speech".split()
    places += ["realtime.*", "prompts.turns"]
    kinds = {name.id for name in ast.walk(tree("architectures")) if isinstance(name, ast.Name)}
    kinds = {name for name in kinds if KINDS.fullmatch(name)} - {"Architecture", "MossConfig"}
    assert {"DelayConfig", "DelayArchitecture"} <= kinds
    naming = {module for module in FILES if names_of_kinds(tree(module)) & kinds}
    assert {module for module in naming if not any(fnmatchcase(module, place) for place in places)} == set()


def test_networks_never_wait_for_the_device():
    """One wait per frame is the loop's: a codebook that waits costs a frame its time."""
    for module in [
        name for name in FILES if room(name) in ("backbone", "sampling") or name.endswith(("_model", ".network"))
    ]:
        for call in calls(module):
            waits = isinstance(call.func, ast.Attribute) and call.func.attr in ("item", "tolist", "eval", "synchronize")
            assert not waits, place(module, call)


def test_print_is_the_commands():
    for module in FILES:
        prints = [call for call in calls(module) if is_bare(call, "print")]
        assert not prints or belongs(module, "cli"), module


def test_names_say_what_a_thing_is():
    """The one exception is the seed's own name."""
    empty = {"helper", "helpers", "utils", "util", "manager", "misc", "data"}
    vague = {module for module in FILES if set(module.replace(".", "_").split("_")) & empty}
    assert vague == {"inference_utils"}


def test_no_two_files_of_tests_have_one_name():
    """The suite as a whole would not begin: pytest imports them by their names alone."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_files_stay_small():
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in FILES.items()}
    assert {module: count for module, count in lines.items() if count > MOST_LINES_OF_A_FILE} == {}


def length(module: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function; of a command, without its signature, which is as long as its options are many."""
    start = function.body[0].lineno - 1 if "typer" in libraries(module) else function.lineno
    return (function.end_lineno or start) - start + 1


def test_functions_stay_small():
    lines = {
        (module, function.name, function.lineno): length(module, function)
        for module in FILES
        for function in functions(module)
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES_OF_A_FUNCTION} == {}
    in_order = sorted(lines.values())
    assert in_order[len(in_order) // 2] <= MEDIAN_LINES_OF_A_FUNCTION
    assert in_order[len(in_order) * 9 // 10] <= LINES_OF_NINE_FUNCTIONS_IN_TEN
