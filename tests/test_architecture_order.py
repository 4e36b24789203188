"""The shape of the package, read off its syntax trees: who may import whom, and habits that must not slip in.

A module is judged by all it reaches, so new modules need no entry here until they belong to one of the layers.
"""

from __future__ import annotations

import ast
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
# From the ground up. A module reaches its own layer and those before it.
LAYERS = {
    "ground": "errors strict config codes audio sampling text",
    "networks": "memory quantisation gptq compiled blas kernels checkpoint batch_cache quantised_cache backbone "
    "delay_model local_model local_v1_5_model codec codec.compiled_network codec.config codec.inputs codec.model "
    "codec.patch codec.precision codec.quantizer codec.streaming codec.transformer codec.weights codec.window",
    "rows": "inference_utils prefixes rows frames architectures teacher_forcing decoding speech result",
    "requests": "presets prompts dialogue voices options request references packing processor",
    "model": "shards loading tokenizer conversion model_card convert upload footprint long_form narration model demo "
    "calibration packaged",
    "commands": "cli cli.arguments cli.bench cli.checkpoints cli.convert cli.generate cli.help cli.live_speaking "
    "cli.options cli.read cli.reading cli.recording cli.say cli.serve cli.speaking cli.terminal cli.voices inspection "
    "__main__",
}
LAYER = {module: level for level, modules in enumerate(LAYERS.values()) for module in modules.split()}
# A library of the outside -> the modules that may know of it.
EDGES = {
    "typer": "cli cli.bench cli.checkpoints cli.convert cli.generate cli.help cli.options cli.read cli.say cli.serve "
    "cli.voices",
    "rich": "cli.help cli.live_speaking cli.reading cli.terminal",
    "transformers": "tokenizer",
    "tokenizers": "prompts demo",
    "jinja2": "prompts",
    "huggingface_hub": "loading upload",
    "safetensors": "demo references books.kept_segments voices",
    "soxr": "audio",
    "av": "audio books.m4b server.encoders",
    "pydantic": "server.bodies server.errors server.routes server.schema",
    "soundfile": "audio books.chapter_files",
}
WEB = {"starlette", "fastapi", "uvicorn", "aiohttp", "flask", "websockets"}
MOST_LINES_OF_A_FUNCTION = 60
MOST_LINES_OF_A_FILE = 400


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


def reached(module: str) -> dict[str, tuple[str, ...]]:
    """Every module that this one imports, at once or through others, with the way to it."""
    ways: dict[str, tuple[str, ...]] = {module: (module,)}
    waiting = [module]
    while waiting:
        current = waiting.pop()
        for name in own_imports(current) - ways.keys():
            ways[name] = (*ways[current], name)
            waiting.append(name)
    return ways


def libraries(module: str) -> set[str]:
    return {name.split(".")[0] for name in imported(module)}


def functions(module: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


# ----------------------------------------------------------------------------------------------------- order


def test_the_layers_name_modules_that_exist():
    assert sorted(LAYER.keys() - FILES.keys()) == []


@pytest.mark.parametrize("module", LAYER)
def test_imports_go_down_the_layers(module):
    upwards = {name: way for name, way in reached(module).items() if LAYER.get(name, 0) > LAYER[module]}
    assert upwards == {}


def test_nothing_imports_itself_in_a_circle():
    circles = {module: way for module in FILES for name, way in reached(module).items() if module in own_imports(name)}
    assert circles == {}


def test_libraries_stay_at_their_edges():
    strangers = {
        (module, name)
        for module in FILES
        for name in libraries(module) & EDGES.keys()
        if module not in EDGES[name].split()
    }
    assert strangers == set()


def test_there_is_no_torch_and_only_a_server_knows_the_web():
    for module in FILES:
        assert libraries(module) & {"torch", "torchaudio", "tensorflow", "jax"} == set(), module
        assert module.startswith("server") or libraries(module) & WEB == set(), module


def test_the_ground_knows_nothing_of_devices():
    """Configs are plain values."""
    for module in ("errors", "strict", "config"):
        assert libraries(module).isdisjoint({"mlx", "numpy", "mlx_lm"})


# ------------------------------------------------------------------------------------------------ the surface


def test_the_packages_names_are_these():
    assert moss_tts.__all__ == ["GenerationResult", "Model", "__version__", "load", "write_audio"]
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


def test_no_error_is_swallowed_whole():
    for module in FILES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
                assert raises or caught not in ("everything", "Exception", "BaseException"), place(module, node)


def test_no_function_passes_unnamed_options_through():
    """`**options: Unpack[...]` names them; `**kwargs` does not."""
    for module in FILES:
        for function in functions(module):
            rest = function.args.kwarg
            named = rest is None or (rest.annotation is not None and "Unpack" in ast.unparse(rest.annotation))
            assert named, f"{place(module, function)} {function.name}"


def test_networks_do_not_ask_which_architecture_they_are():
    """A method that the class overrides is the cure."""
    kinds = ("DelayConfig", "LocalConfig", "LocalV15Config")
    for module in (LAYERS["networks"] + " " + LAYERS["rows"]).split():
        for call in calls(module):
            asks = is_bare(call, "isinstance") and any(kind in ast.unparse(call) for kind in kinds)
            assert not asks, place(module, call)


def test_networks_never_wait_for_the_device():
    """One wait per frame is the loop's: a codebook that waits costs a frame its time."""
    for module in ("backbone", "delay_model", "local_model", "local_v1_5_model", "sampling"):
        for call in calls(module):
            waits = isinstance(call.func, ast.Attribute) and call.func.attr in ("item", "tolist", "eval", "synchronize")
            assert not waits, place(module, call)


def test_print_is_the_commands():
    for module in FILES:
        prints = [call for call in calls(module) if is_bare(call, "print")]
        assert not prints or LAYER.get(module) == LAYER["cli"], module


def test_names_say_what_a_thing_is():
    """The one exception is the seed's own name."""
    empty = {"helper", "helpers", "utils", "util", "manager", "misc", "data"}
    vague = {module for module in FILES if set(module.replace(".", "_").split("_")) & empty}
    assert vague == {"inference_utils"}


def test_files_stay_small():
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in FILES.items()}
    assert {module: count for module, count in lines.items() if count > MOST_LINES_OF_A_FILE} == {}


def test_functions_stay_small():
    """Argument parsers are as long as their arguments are many."""
    lines = {
        f"{module}.{function.name}": function.end_lineno - function.lineno + 1
        for module in FILES
        if "typer" not in libraries(module)
        for function in functions(module)
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES_OF_A_FUNCTION} == {}
    # Nine in ten are far smaller.
    assert sorted(lines.values())[len(lines) * 9 // 10] <= 25
