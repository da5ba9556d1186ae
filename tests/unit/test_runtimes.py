"""The table of runtimes, and finding a row of it."""

import importlib
from dataclasses import dataclass, replace
from pathlib import PurePath

import pytest
from edge_harness import runtimes
from edge_harness.commands import doctor_checks
from edge_harness.device.loading import Loading
from edge_harness.errors import BrokenExtension, ModelError, OptionError, UnsupportedModel
from edge_harness.extensions import Extension
from edge_harness.models.file import read_model
from edge_harness.outside_runtimes import registered
from edge_harness.profiles import default_registry
from edge_harness.runtimes import (
    FORMATS,
    RUNTIMES,
    Companion,
    Format,
    Option,
    Outside,
    Part,
    Runtime,
    Runtimes,
    load_request,
    named,
    pinned,
    resolve,
)
from packaging.specifiers import SpecifierSet

TFLITE, ONNX = FORMATS["tflite"], FORMATS["onnx"]


HERE = PurePath("folder/model.bin")


@dataclass
class Board:
    name: str = "rpi4"
    total_cores: int = 4
    published: tuple[str, ...] = ("tflite", "litert", "onnx")

    def checked_threads(self, threads):
        if threads > self.total_cores:
            raise OptionError(f"has {self.total_cores} core(s)")
        return threads

    def default_runtime(self, model_format):
        return RUNTIMES.first_running(model_format).name

    def runtime_requirement(self, runtime):
        if runtime.name not in self.published:
            raise UnsupportedModel(f"{self.name} has no runtime {runtime.name!r}")
        return f"{runtime.distribution}==1.0"


@dataclass
class Model:
    format: Format
    content: bytes = b"model"
    path: PurePath = HERE


@pytest.fixture
def no_others(monkeypatch):
    """Whatever else is installed on this machine is not looked at."""
    monkeypatch.setitem(RUNTIMES.__dict__, "outside", Outside())


pytestmark = pytest.mark.usefixtures("no_others")


# -- the rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "distribution", "module", "formats", "options"),
    [
        (
            "tflite",
            "tflite-runtime",
            "tflite_runtime",
            ["tflite"],
            {"kernels": "xnnpack", "preserve_all_tensors": False, "delegates": ()},
        ),
        (
            "litert",
            "ai-edge-litert",
            "ai_edge_litert",
            ["tflite"],
            {"kernels": "xnnpack", "preserve_all_tensors": False, "delegates": ()},
        ),
        (
            "onnx",
            "onnxruntime",
            "onnxruntime",
            ["onnx"],
            {"graph_optimization": "all", "providers": (), "config": ()},
        ),
    ],
)
def test_each_row_says_who_carries_a_runtime_and_what_it_takes(
    name, distribution, module, formats, options
):
    row = RUNTIMES[name]
    assert (row.distribution, row.imports, row.brought) == (distribution, module, "wheel")
    assert [each.name for each in row.formats] == formats
    assert {each.name: each.default for each in row.options} == options


def test_the_table_has_no_other_rows():
    assert list(RUNTIMES) == ["tflite", "litert", "onnx"]
    assert list(FORMATS) == ["tflite", "onnx"]
    assert (len(RUNTIMES), len(FORMATS)) == (3, 2)


def test_reference_kernels_and_dot_products_by_row():
    assert RUNTIMES["tflite"].reference_options == (("kernels", "reference"),)
    assert RUNTIMES["litert"].reference_options == (("kernels", "reference"),)
    assert RUNTIMES["onnx"].reference_options == ()
    assert [row.name for row in RUNTIMES.values() if not row.dot_product] == ["tflite"]
    assert [row.name for row in RUNTIMES.values() if row.fuses == "always"] == ["onnx"]


PARTS = [
    "damage",
    "inputs",
    "operators",
    "quantization",
    "computes_in_integers",
    "output_steps",
    "graph",
    "evaluator",
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("row", FORMATS.built_in, ids=str)
def test_every_part_of_a_format_that_is_named_exists(row, part):
    where = getattr(row, part)
    if where:
        module, _, name = where.path.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_a_part_that_a_format_lacks_says_which_and_of_what():
    row = Format(name="npy", title="NumPy matrix", suffixes=(".npy",))
    with pytest.raises(UnsupportedModel, match="output steps of NumPy matrix files"):
        row.output_steps(b"")


def test_a_part_is_called_with_what_it_is_given():
    row = Format(name="npy", title="NumPy", suffixes=(".npy",), inputs=Part(path="math:gcd"))
    assert row.inputs(12, 18) == 6


def sevens(*_):
    return [7]


def raising(*_):
    raise KeyError("nothing there")


def refusing(*_):
    raise ModelError("it is cut short")


@pytest.mark.parametrize(
    ("part", "path", "says"),
    [
        ("inputs", "nothing_of_that_name:f", "ModuleNotFoundError: No module named 'nothing_of"),
        ("inputs", f"{__name__}:nothing", "AttributeError"),
        ("graph", f"{__name__}:raising", r"KeyError: 'nothing there' \(test_runtimes.py:\d+\)"),
        *(
            (part, f"{__name__}:sevens", rf"gives \[7\], which is not {kind}")
            for part, kind in (
                ("inputs", "a list of"),
                ("damage", "a text"),
                ("operators", "a list of edge_harness.clock.operators.Operator"),
                ("quantization", "a pair"),
                ("computes_in_integers", "True or False"),
                ("output_steps", "a dictionary"),
            )
        ),
    ],
)
def test_a_part_of_another_distribution_that_fails_is_its_own_fault(point, part, path, says):
    formats = f"(Format(name='npy', title='npy', suffixes=('.npy',), {part}=Part(path={path!r})),)"
    found = registered(RUNTIMES.built_in, [point(formats=formats)])
    (row,) = found.runtimes["npy"].formats
    with pytest.raises(BrokenExtension, match=f"{path} of npy-runtime 1.0, .*{says}") as caught:
        getattr(row, part)(b"")
    assert caught.value.details == {"part": path, "distribution": "npy-runtime 1.0"}
    assert row == replace(row, origin="")


def test_what_a_part_says_of_a_file_stands():
    row = Format(
        name="npy",
        title="npy",
        suffixes=(".npy",),
        damage=Part(path=f"{__name__}:refusing"),
        graph=Part(path=f"{__name__}:sevens"),
        origin="npy-runtime 1.0",
    )
    with pytest.raises(ModelError, match="it is cut short"):
        row.damage(b"")
    assert row.graph(b"") == [7]


# -- finding a row -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "runtime", "requirement"),
    [
        ("tflite", "tflite", ""),
        ("onnxruntime", "onnx", ""),
        ("onnxruntime==1.21.0", "onnx", "onnxruntime==1.21.0"),
        ("ai_edge_litert==1.0.1", "litert", "ai_edge_litert==1.0.1"),
        ("Tflite.Runtime~=2.14", "tflite", "Tflite.Runtime~=2.14"),
    ],
)
def test_runtimes_are_named_short_by_distribution_or_pinned(asked, runtime, requirement):
    assert named(asked) == (RUNTIMES[runtime], requirement)


@pytest.mark.parametrize("asked", ["torch", "", "onnx runtime", "../evil", "tflite==2"])
def test_an_unknown_runtime_lists_the_known_ones(asked):
    with pytest.raises(OptionError, match="no runtime") as error:
        named(asked)
    assert "tflite, litert, onnx" in error.value.next_step


PINS = ("onnxruntime==1.21.0", "litert")


@pytest.mark.parametrize(
    ("asked", "model_format", "expected"),
    [
        (None, ONNX, "onnxruntime==1.21.0"),
        (None, TFLITE, "litert"),
        ("onnx", ONNX, "onnxruntime==1.21.0"),
        ("onnxruntime==1.20.1", ONNX, "onnxruntime==1.20.1"),
        ("tflite", TFLITE, "tflite"),
    ],
)
def test_a_pin_fills_what_a_test_leaves_open(asked, model_format, expected):
    assert pinned(asked, PINS, model_format) == expected
    assert pinned(asked, (), model_format) == asked


@pytest.mark.parametrize(
    ("asked", "model_format", "pins", "expected"),
    [
        (None, TFLITE, (), ("tflite", "tflite-runtime==1.0")),
        (None, TFLITE, PINS, ("litert", "ai-edge-litert==1.0")),
        (None, ONNX, PINS, ("onnx", "onnxruntime==1.21.0")),
        ("onnxruntime", ONNX, (), ("onnx", "onnxruntime==1.0")),
        ("onnxruntime==1.17.3", ONNX, PINS, ("onnx", "onnxruntime==1.17.3")),
    ],
)
def test_resolving_gives_a_row_and_a_requirement(asked, model_format, pins, expected):
    row, requirement = resolve(Board(), model_format, asked, pins)
    assert (row.name, requirement) == expected


@pytest.mark.parametrize(("asked", "model_format"), [("onnx", TFLITE), ("litert", ONNX)])
def test_a_runtime_of_another_format_is_refused_and_those_of_this_one_named(asked, model_format):
    with pytest.raises(OptionError, match=f"{asked!r} cannot run a {model_format} model") as error:
        resolve(Board(), model_format, asked)
    assert ", ".join(row.name for row in RUNTIMES.running(model_format)) in error.value.next_step


def test_a_third_format_is_never_taken_for_another():
    third = Format(name="third", title="Third", suffixes=(".third",))
    for asked in RUNTIMES:
        with pytest.raises(OptionError, match="cannot run a third model"):
            resolve(Board(), third, asked)
    assert pinned(None, PINS, third) is None


def test_a_board_that_has_no_such_runtime_says_so_unless_a_version_is_pinned():
    board = Board(published=())
    with pytest.raises(UnsupportedModel):
        resolve(board, ONNX)
    assert resolve(board, ONNX, "onnxruntime==1.20.1")[1] == "onnxruntime==1.20.1"


def test_most_tests_will_ask_for_the_first_format_of_the_table():
    assert runtimes.likely(Board()) == (RUNTIMES["tflite"], "tflite-runtime==1.0")
    assert runtimes.likely(Board(), ["onnx", "litert"])[0] is RUNTIMES["litert"]


# -- companions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "versions", "companions"),
    [
        ("tflite", "", ["numpy<2"]),
        ("tflite", "==2.14.0", ["numpy<2"]),
        ("tflite", ">=2.5", ["numpy<2"]),
        ("litert", "==2.3.0", []),
        ("onnx", "==1.18.1", ["numpy<2"]),
        ("onnx", "==1.17.*", ["numpy<2"]),
        ("onnx", "~=1.17.0", ["numpy<2"]),
        ("onnx", "<1.19", ["numpy<2"]),
        ("onnx", ">=1.16,<1.19", ["numpy<2"]),
        ("onnx", "==1.19.0", []),
        ("onnx", "==1.20.1", []),
        ("onnx", "<=1.19", []),
        ("onnx", "<1.20", []),
        ("onnx", ">=1.16", []),
        ("onnx", "~=1.17", []),
        ("onnx", "!=1.20", []),
        ("onnx", "", []),
    ],
)
def test_companions_go_by_the_versions_that_will_be_taken(name, versions, companions):
    assert RUNTIMES[name].companions_for(SpecifierSet(versions)) == companions


def test_companions_of_a_range_of_versions():
    companion = Companion(versions=">=2,<3", requirement="x", because="")
    assert companion.goes_with(SpecifierSet("==2.4"))
    assert not companion.goes_with(SpecifierSet("==1.9"))
    assert not companion.goes_with(SpecifierSet("==3.0"))


# -- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runtime", "given", "kept"),
    [
        ("tflite", {}, ()),
        ("tflite", {"kernels": "xnnpack", "preserve_all_tensors": False}, ()),
        ("litert", {"kernels": "builtin"}, (("kernels", "builtin"),)),
        ("tflite", {"delegates": {"a.so": {"k": 1}}}, (("delegates", (("a.so", (("k", "1"),)),)),)),
        (
            "onnx",
            {"providers": ["CPUExecutionProvider"], "config": {"a": "b"}},
            (("config", (("a", "b"),)), ("providers", ("CPUExecutionProvider",))),
        ),
    ],
)
def test_options_are_kept_in_one_form_without_the_defaults(runtime, given, kept):
    assert RUNTIMES[runtime].checked(given) == kept


@pytest.mark.parametrize(
    ("runtime", "given", "says"),
    [
        ("tflite", {"kernels": "fast"}, "kernels='fast' is none of"),
        ("tflite", {"kernels": ["xnnpack"]}, "kernels=.* is none of"),
        ("onnx", {"graph_optimization": "most"}, "graph_optimization='most' is none of"),
        ("onnx", {"kernels": "xnnpack"}, "has no meaning for ONNX models run by onnx"),
        ("litert", {"providers": ["x"]}, "has no meaning for TFLite models run by litert"),
        ("tflite", {"preserve_all_tensors": 1}, "is not True or False"),
        ("onnx", {"providers": "CPUExecutionProvider"}, "is not a list of texts"),
        ("onnx", {"providers": [1]}, "is not a list of texts"),
        ("onnx", {"config": ["a"]}, "is not a dictionary of texts"),
        ("tflite", {"delegates": {"a.so": "x"}}, "is not a dictionary of dictionaries of texts"),
    ],
)
def test_a_wrong_option_names_the_value_and_what_would_do(runtime, given, says):
    with pytest.raises(OptionError, match=says) as error:
        RUNTIMES[runtime].checked(given)
    assert error.value.next_step


@pytest.mark.parametrize(
    ("kind", "good", "bad"), [("number", 3, True), ("text", "x", 3), ("flag", True, "yes")]
)
def test_options_of_plain_kinds(kind, good, bad):
    option = Option(name="o", kind=kind, default="")
    assert option.checked(good) == good
    with pytest.raises(OptionError, match=f"o={bad!r} is not"):
        option.checked(bad)


# -- load requests -------------------------------------------------------------------------------


def test_a_request_is_the_content_not_the_path():
    one = load_request(Model(TFLITE), Board(), options={"kernels": None})
    two = load_request(Model(TFLITE, path=PurePath("other.tflite")), Board())
    assert one == two
    assert hash(one) == hash(two)
    assert one != load_request(Model(TFLITE, content=b"another"), Board())
    assert one.sha256 == "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4"
    assert replace(one, content=b"").sha256.startswith("e3b0c442")


def test_a_worker_is_told_every_option():
    request = load_request(Model(ONNX), Board(), threads=2, options={"config": {"a": "b"}})
    assert request.header() == {
        "threads": 2,
        "graph_optimization": "all",
        "providers": (),
        "config": (("a", "b"),),
    }


def test_a_request_as_json():
    request = load_request(
        Model(TFLITE), Board(), threads=3, options={"delegates": {"a.so": {"k": "v"}}}
    )
    assert request.as_json() == {
        "file_name": "model.bin",
        "sha256": request.sha256,
        "format": "tflite",
        "runtime": "tflite",
        "requirement": "tflite-runtime==1.0",
        "agent_sha256": "",
        "threads": 3,
        "options": {"delegates": [["a.so", [["k", "v"]]]]},
        "shapes": {},
    }


@pytest.mark.parametrize(
    ("model_format", "options", "off"),
    [
        (TFLITE, {"kernels": "builtin"}, {}),
        (TFLITE, {"delegates": {"/lib/gpu.so": {}}}, {"delegates": ["/lib/gpu.so"]}),
        (ONNX, {"providers": ["CPUExecutionProvider"]}, {}),
        (
            ONNX,
            {"providers": ["ACLExecutionProvider", "CPUExecutionProvider"]},
            {"providers": ["ACLExecutionProvider"]},
        ),
    ],
)
def test_what_may_leave_the_cores_is_named(model_format, options, off):
    assert load_request(Model(model_format), Board(), options=options).off_cores() == off


def test_threads_are_checked_by_the_board():
    board = Board(total_cores=6)
    assert load_request(Model(TFLITE), board, threads=6).threads == 6
    with pytest.raises(OptionError, match=r"has 6 core\(s\)"):
        load_request(Model(TFLITE), board, threads=7)


# -- runtimes of others --------------------------------------------------------------------------

OUTSIDE = """
def runtime():
    from edge_harness.runtimes import FORMATS, Companion, Format, Option, Part, Runtime
    return Runtime(name={name!r}, distribution="numpy", imports="numpy", formats={formats})


def warm():
    return {{"runtime": "numpy", "version": "1"}}


class Session:
    pass
"""


@pytest.fixture
def point(tmp_path, monkeypatch):
    """Makes an entry point ``name`` to a module with ``text`` as its source."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(text=None, *, name="npy", called=None, formats="(Format(name='npy', title='npy', "
             "suffixes=('.npy',)),)", attribute="runtime"):  # fmt: skip
        module = f"outside_{len(made)}_{tmp_path.name.replace('-', '_')}"
        made.append(module)
        source = OUTSIDE.format(name=called or name, formats=formats) if text is None else text
        (tmp_path / f"{module}.py").write_text(source)
        return Extension(
            group="edge_harness.runtimes",
            name=name,
            target=f"{module}:{attribute}",
            distribution="npy-runtime 1.0",
        )

    return make


def test_a_registered_runtime_carries_the_file_it_stands_in(point, tmp_path):
    found = registered(RUNTIMES.built_in, [point()])
    assert not found.broken
    row = found.runtimes["npy"]
    assert row.agent_source == next(tmp_path.glob("outside_*.py")).read_bytes()
    assert len(row.agent_sha256) == 64


def option(fields, name="x"):
    return f"options=(Option(name={name!r}, {fields}),)"


BROKEN = {
    "import": ({"text": "import nothing_of_that_name"}, "ModuleNotFoundError: No module named"),
    "attribute": ({"attribute": "nothing"}, "AttributeError"),
    "raises": ({"text": "def runtime(): raise KeyError('x')"}, "raises KeyError: 'x'"),
    "kind": ({"text": "def runtime(): return 3"}, "gives a int, not an edge_harness.runtimes.Run"),
    "name": ({"called": "other"}, "its name is 'other', not that of its entry point, 'npy'"),
    "identifier": ({"name": "n-p"}, "'n-p' is not a Python identifier"),
    "formats": ({"formats": "()"}, "it runs no format"),
    "taken": ({"name": "tflite"}, "this package has a runtime of that name"),
    "format": (
        {"formats": "(Format(name='onnx', title='x', suffixes=()),)"},
        "this package has a format 'onnx' that is another one",
    ),
    "way": (
        {"formats": "(FORMATS['onnx'],), brought='snap'"},
        "it is brought as 'snap', which is none of wheel, debian, library",
    ),
    "requirement": (
        {"formats": "(FORMATS['onnx'],), brought='library', requirement='numpy>=1'"},
        "its requirement 'numpy>=1' is none for 'numpy': write it as '/PATH/numpy'",
    ),
    **{
        each: ({"formats": f"(FORMATS['onnx'],), {fields}"}, says)
        for each, fields, says in (
            ("pin", "requirement='numpy=>1'", "its requirement 'numpy=>1' is none for 'numpy'"),
            ("kind of field", "requirement=3", "its row cannot be read: TypeError"),
            ("option", "options=('x',)", "option 'x' is no edge_harness.runtimes.Option"),
            ("kind of option", option("kind='integer', default=1"), "is of kind 'integer', which"),
            ("threads", option("kind='number', default=1", "threads"), "'threads' has a name that"),
            ("op", option("kind='number', default=1", "op"), "'op' has a name that means"),
            ("option's name", option("kind='flag', default=True", "a-b"), "'a-b' is not a Python"),
            ("default", option("kind='flag', default=1"), "x=1 is not True or False"),
            ("choice", option("kind='choice', default='a'"), "is a choice of nothing"),
            ("table", option("kind='table', default=''"), "write ()"),
            ("twice", "options=(Option(name='x', kind='flag', default=True),) * 2", "two options"),
            ("reference", "reference_options=(('x', 1),)", "'x', which is none of its options"),
            (
                "companion",
                "companions=(Companion(versions='', requirement='a<<1', because=''),)",
                "its companion 'a<<1' is no requirement",
            ),
        )
    },
    **{
        each: ({"formats": f"(Format(name='npy', title='npy', {fields}),)"}, says)
        for each, fields, says in (
            ("suffix", "suffixes=('npy',)", "has the suffix 'npy': write it like '.npy'"),
            ("capitals", "suffixes=('.NPY',)", "has the suffix '.NPY'"),
            ("signature", "suffixes=('.npy',), signatures=((0, 'NPY'),)", "write (0, b'NPY')"),
            ("part", "suffixes=('.npy',), inputs=Part(path='npy.f')", "part inputs is 'npy.f'"),
            (
                "title",
                "suffixes=('.npy',)), Format(name='x', title='', suffixes=('.x',)",
                "no title",
            ),
            ("taken suffix", "suffixes=('.onnx',)", "files '.onnx' are of its format 'npy' and of"),
            (
                "one suffix",
                "suffixes=('.m',)), Format(name='x', title='x', suffixes=('.m',)",
                "files '.m' are of its format 'x' and of 'npy'",
            ),
        )
    },
    "incomplete": (
        {
            "text": "def runtime():\n"
            "    from edge_harness.runtimes import FORMATS, Runtime\n"
            "    return Runtime(name='npy', distribution='', imports='', "
            "formats=(FORMATS['onnx'],))\n"
        },
        "defines no warm and no Session",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_registration_is_one_error_and_harms_no_other(point, monkeypatch, case):
    arguments, says = BROKEN[case]
    bad = point(**arguments)
    found = registered(RUNTIMES.built_in, [bad, point(name="sound")])
    assert list(found.runtimes) == ["sound"]
    error = found.broken[bad.name]
    assert says in error.message
    assert f"the runtime {bad.name!r} of npy-runtime 1.0 is broken" in error.message
    assert "uninstall npy-runtime" in error.next_step
    if bad.name in RUNTIMES:
        return  # this package's own of that name goes on
    monkeypatch.setitem(RUNTIMES.__dict__, "outside", found)
    with pytest.raises(BrokenExtension, match="is broken"):
        named(bad.name)
    with pytest.raises(OptionError, match="registered, but broken"):
        named("torch")
    assert named("sound")[0] is found.runtimes["sound"]


def test_files_of_one_suffix_may_be_told_by_their_bytes(point):
    formats = (
        "tuple(Format(name=n, title=n, suffixes=('.m',), signatures=((0, n.encode()),)) "
        "for n in ('npy', 'poly'))"
    )
    assert list(registered(RUNTIMES.built_in, [point(formats=formats)]).runtimes) == ["npy"]


def test_a_broken_runtime_is_told_of_wherever_it_may_have_been_meant(point, monkeypatch, tmp_path):
    found = registered(RUNTIMES.built_in, [point("def runtime(:", name="poly")])
    monkeypatch.setitem(RUNTIMES.__dict__, "outside", found)
    model = tmp_path / "model.poly"
    model.write_bytes(b"POLY 1 2 3")
    why = r"the runtime 'poly' of npy-runtime 1\.0 is broken: .*SyntaxError"
    with pytest.raises(ModelError, match=why) as caught:
        read_model(model)
    assert "mend or update npy-runtime 1.0" in caught.value.next_step
    assert caught.value.details["broken"] == ["poly"]

    def loading(pins=()):
        return Loading(
            profile=None, environment=None, hold=None, endings=None, pins=pins, progress=None
        )

    with pytest.raises(BrokenExtension, match=why):
        loading().request(model, runtime="poly")
    with pytest.raises(BrokenExtension, match=why):
        loading(["poly"]).request(model)
    (check,) = (
        each
        for each in doctor_checks.host([default_registry().get("rpi4")])
        if each.name == "poly runtime"
    )
    assert (check.status, check.optional, check.verdict.word) == ("missing", True, "skipped")
    assert "SyntaxError" in check.found
    assert "npy-runtime" in check.fix


@pytest.mark.parametrize(
    ("brought", "distribution", "asked", "pinned"),
    [
        ("wheel", "ai-edge-litert", "ai_edge_litert", ""),
        ("wheel", "ai-edge-litert", "ai-edge-litert==2.0", "ai-edge-litert==2.0"),
        ("wheel", "ai-edge-litert", "ai-edge-litert=2.0", None),
        ("wheel", "", "numpy", None),
        ("debian", "python3-yaml", "python3-yaml", ""),
        ("debian", "python3-yaml", "python3-yaml=1:6.0-3+b2", "python3-yaml=1:6.0-3+b2"),
        ("debian", "python3-yaml", "python3-yaml==6.0", None),
        ("debian", "python3-yaml", "python3_yaml=6.0", None),
        ("debian", "python3-yaml", "python3-yaml=6.0 bash", None),
        ("library", "libm.so.6", "/opt/lib/libm.so.6", "/opt/lib/libm.so.6"),
        ("library", "/usr/lib/libm.so.6", "/opt/libm.so.6", "/opt/libm.so.6"),
        ("library", "libm.so.6", "/opt/libm.so.7", None),
        ("library", "libm.so.6", "libm.so.6", None),
        ("library", "", "/", None),
    ],
)
def test_a_requirement_is_read_as_the_runtime_is_brought(
    monkeypatch, brought, distribution, asked, pinned
):
    row = Runtime(
        name="own", distribution=distribution, imports="", formats=(TFLITE,), brought=brought
    )
    assert row.pinned(asked) == pinned
    if pinned is not None:
        table = Runtimes((row,), Outside)
        monkeypatch.setattr(runtimes, "RUNTIMES", table)
        assert named(asked) == (row, pinned)


def test_only_wheels_are_looked_up_as_such():
    row = Runtime(name="own", distribution="numpy", imports="", formats=(TFLITE,), brought="debian")
    assert Runtimes((row,), Outside).of_distribution("numpy") == []


def test_two_runtimes_of_one_name_are_told_apart(point):
    found = registered((), [point(), point()])
    assert list(found.runtimes) == ["npy"]
    assert "has a runtime of that name" in found.broken["npy"].message


def test_a_format_of_a_registered_runtime_is_known(point, monkeypatch):
    found = registered(RUNTIMES.built_in, [point()])
    monkeypatch.setitem(RUNTIMES.__dict__, "outside", found)
    assert list(FORMATS) == ["tflite", "onnx", "npy"]
    assert FORMATS["npy"].title == "npy"
    assert resolve(Board(published=("npy",)), FORMATS["npy"])[0] is found.runtimes["npy"]
    assert named("numpy==1.26.4") == (found.runtimes["npy"], "numpy==1.26.4")


def test_of_two_runtimes_of_one_distribution_the_models_format_chooses(point, monkeypatch):
    poly = "(Format(name='poly', title='poly', suffixes=('.poly',)),)"
    found = registered(RUNTIMES.built_in, [point(), point(name="poly", formats=poly)])
    monkeypatch.setitem(RUNTIMES.__dict__, "outside", found)
    board = Board(published=("npy", "poly"))
    for name in ("npy", "poly"):
        row, model_format = found.runtimes[name], FORMATS[name]
        assert resolve(board, model_format, "numpy==2.2.0") == (row, "numpy==2.2.0")
        assert resolve(board, model_format, None, ["numpy==2.2.0"]) == (row, "numpy==2.2.0")
        assert resolve(board, model_format, name, ["numpy==2.2.0"]) == (row, "numpy==2.2.0")
        assert resolve(board, model_format, "numpy")[0] is row
    with pytest.raises(OptionError, match=r"'numpy==2\.2\.0' cannot run a onnx model"):
        resolve(board, ONNX, "numpy==2.2.0")
    assert RUNTIMES.of_distribution("NumPy") == list(found.runtimes.values())


def test_this_packages_own_are_found_without_a_look_at_what_is_installed():
    def never():
        raise AssertionError("entry points were read")

    table = Runtimes(RUNTIMES.built_in, never)
    assert table["onnx"].name == "onnx"
    found = table.of_distribution("ai-edge-litert")
    assert found == [RUNTIMES["litert"]]


def test_a_runtime_is_data():
    assert isinstance(hash(RUNTIMES["tflite"]), int)
    assert isinstance(RUNTIMES["tflite"], Runtime)
