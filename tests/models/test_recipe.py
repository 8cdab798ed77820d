"""Recipes: what a file and flags come to, what is refused and how it is said, and where a recipe is stored."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from export.source import of_checkpoint
from models import __main__ as commands
from models import pipeline
from models.checkpoint import Checkpoint
from models.errors import RecipeError
from models.fit_settings import FitSettings
from models.flags import SETTINGS
from models.head_settings import HeadSettings
from models.recipe import ClipSettings, Recipe, read, root_settings, table_settings
from models.settings import flag_of
from service.bundle import ModelDocument, read_document
from tests.models.footage import film, manifest
from tests.server import ROOT
from tests.zoo import ZOO

RECIPES = sorted((ROOT / "models" / "recipes").glob("*.toml"))
SHIPPED = ROOT / "models" / "recipes" / "actions-lstm.toml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


def refused(file: Path, text: str, **flags: object) -> str:
    """The complaint, without the file's name before it."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        read(file, {key.replace("__", "."): value for key, value in flags.items()})
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{file}: ")


def told(monkeypatch: pytest.MonkeyPatch, data: Path, *arguments: str) -> tuple[Result, list[Recipe]]:
    """What `python -m models train` says, and the recipe that it would train."""
    asked: list[Recipe] = []

    class Saved:
        def save(self, out: Path) -> None: ...

    def train(recipe: Recipe, *_: object) -> Saved:
        asked.append(recipe)
        return Saved()

    monkeypatch.setattr(pipeline, "train", train)
    return CliRunner().invoke(commands.app, ["train", "--data", str(data), *arguments]), asked


# What a recipe is


def test_the_defaults_are_those_of_the_settings() -> None:
    recipe = read()
    assert (recipe.head, recipe.fit, recipe.clip) == (HeadSettings(), FitSettings(), ClipSettings())
    assert (recipe.name, recipe.seed, recipe.data.split) == ("actions-lstm", 0, "split")
    assert (recipe.encoder.name, recipe.encoder.weights) == ("efficientnet-lite0", "pretrained")
    assert (recipe.clip.spec.window_frames, recipe.clip.spec.stride_frames) == (16, 8)


def test_it_cannot_be_changed() -> None:
    recipe = read()
    for part, name in ((recipe, "seed"), (recipe.head, "cell"), (recipe.clip, "sample_fps"), (recipe.data, "split")):
        with pytest.raises((AttributeError, ValueError), match=r"frozen|cannot assign"):
            setattr(part, name, getattr(part, name))


def test_every_setting_has_meaning_and_default() -> None:
    tables = {"": root_settings()} | table_settings()
    assert list(tables) == ["", "data", "task", "clip", "encoder", "head", "fit"]
    assert set(tables["head"]) == {field.name for field in fields(HeadSettings)}
    assert set(tables["fit"]) == {field.name for field in fields(FitSettings)}
    for settings in tables.values():
        assert all(setting.description.endswith(".") for setting in settings.values())


@pytest.mark.parametrize(
    ("clip", "size", "windows"),
    [
        ("size = 96", (96, 96), (16, 8)),
        ("frame_height = 64\nframe_width = 96", (64, 96), (16, 8)),
        ("frame_width = 96", (224, 96), (16, 8)),
        ("sample_fps = 0.5", (224, 224), (2, 1)),
        ("window_seconds = 3\nstride_seconds = 3\nsample_fps = 8", (224, 224), (24, 24)),
    ],
)
def test_seconds_and_size_become_ticks_and_pixels(
    file: Path, clip: str, size: tuple[int, int], windows: tuple[int, int]
) -> None:
    file.write_text(f"[clip]\n{clip}\n")
    spec = read(file).clip.spec
    assert (spec.frame_height, spec.frame_width) == size
    assert (spec.window_frames, spec.stride_frames) == windows


def test_region_and_resize_reach_the_spec(file: Path) -> None:
    file.write_text(
        '[clip]\nresize = "stretch"\nregion = {x = 0, y = 0.5, width = 1, height = 0.5}\n'
        '[head]\ncell = "lstm"\nforget_bias = 1\n'
    )
    recipe = read(file)
    assert (recipe.clip.spec.resize, str(recipe.clip.spec.region)) == ("stretch", "0,0.5,1,0.5")
    assert recipe.head.forget_bias == 1.0


# Precedence: flag, file, default


def test_a_flag_goes_over_the_file_and_the_file_over_the_default(file: Path) -> None:
    file.write_text("seed = 3\n[head]\nhidden_size = 8\nnum_layers = 2\n[fit]\nepochs = 7\n")
    recipe = read(file, {"head.hidden_size": 16, "fit.patience": 2})
    assert (recipe.head.hidden_size, recipe.fit.patience) == (16, 2)
    assert (recipe.seed, recipe.head.num_layers, recipe.fit.epochs) == (3, 2, 7)
    assert (recipe.head.pooling, recipe.fit.batch_windows) == ("mean", 64)


def test_the_flag_of_the_size_goes_over_both_sides(file: Path) -> None:
    file.write_text("[clip]\nframe_height = 64\nframe_width = 96\n")
    spec = read(file, {"clip.size": 128}).clip.spec
    assert (spec.frame_height, spec.frame_width) == (128, 128)


def test_the_command_takes_a_flag_only_where_it_is_given(
    monkeypatch: pytest.MonkeyPatch, file: Path, tmp_path: Path
) -> None:
    file.write_text(
        'name = "m"\n[data]\nsplit = "part"\n[head]\nbidirectional = true\nhidden_size = 9\n[fit]\nweight_decay = 0.5\n'
    )
    result, asked = told(
        monkeypatch, tmp_path, "--recipe", str(file), "--hidden-size", "64", "--weight-decay", "0", "--seed", "0",
        "--no-bidirectional",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    [recipe] = asked
    assert (recipe.head.hidden_size, recipe.fit.weight_decay, recipe.head.bidirectional) == (64, 0.0, False)
    assert (recipe.name, recipe.data.split) == ("m", "part")


def test_without_a_recipe_and_flags_the_defaults_are_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result, asked = told(monkeypatch, tmp_path)
    assert result.exit_code == 0, result.output
    assert asked == [read()]


OTHER = {bool: "", int: "17", float: "0.75", str: "other"}


@pytest.mark.parametrize("key", SETTINGS)
def test_every_flag_reaches_its_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str) -> None:
    setting = SETTINGS[key]
    word = setting.choices[-1] if setting.choices else {"head.cell": "gru"}.get(key, OTHER[setting.kind])
    # Dropout between layers needs a second one, and overlapping windows a stride that is no longer than they are.
    # Frames that are ticks have windows of so many.
    beside = {
        "head.dropout": ["--layers", "2"],
        "clip.window_seconds": ["--stride-seconds", "0.5"],
        "clip.stride_frames": ["--window-frames", "17"],
        "clip.every_frame": ["--whole-clip"],
    }.get(key, [])
    result, asked = told(monkeypatch, tmp_path, *filter(None, [flag_of(key), word]), *beside)
    assert result.exit_code == 0, result.output
    table, _, name = key.rpartition(".")
    part: Any = getattr(asked[0], table) if table else asked[0]
    found = part.frame_width if key == "clip.size" else getattr(part, name)
    assert found == (setting.kind is bool or setting.kind(word))
    assert found != setting.default


def test_flags_have_the_ranges_of_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key, setting in SETTINGS.items():
        if setting.least is not None:
            result, asked = told(monkeypatch, tmp_path, flag_of(key), str(setting.kind(setting.least) - 1))
            assert (result.exit_code, asked) == (2, []), key
            assert "is not in the range" in result.output


# What is refused


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "sed = 1",
            "sed = 1 is unknown; did you mean seed? a recipe has name, seed, data, task, clip, encoder, head, fit",
        ),
        ("[heads]\ncell = 'gru'", 'heads = {"cell": "gru"} is unknown; did you mean head? '),
        ("[head]\nhiden_size = 3", "head.hiden_size = 3 is unknown; did you mean hidden_size? [head] has hidden_size,"),
        ("[fit]\nmomentum = 0.9", "fit.momentum = 0.9 is unknown; remove it. [fit] has epochs, patience, "),
        ("[data]\npath = '/d'", 'data.path = "/d" is unknown; remove it. [data] has name, licence, split, '),
        ("[clip]\nfps = 4", "clip.fps = 4 is unknown; remove it. [clip] has size, sample_fps, "),
        ("[encoder]\nstore = 'x'", 'encoder.store = "x" is unknown; '),
        ("[clip.region]\nx = 0\ny = 0\nwidth = 1\nheight = 1\nz = 1", "clip.region.z is 1: Extra inputs are not"),
    ],
)
def test_unknown_keys_are_refused_at_every_level(file: Path, text: str, said: str) -> None:
    assert refused(file, text).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = '1'", 'seed is "1"; it has to be a whole number, from 0 to 4294967295; '),
        ("name = 1", "name is 1; it has to be a string; "),
        ("name = 2026-01-01", 'name is ["2026-01-01"]; it has to be a string; '),
        ("name = ''", 'name is ""; it has to be a string that is not empty; '),
        ("head = 3", "head is 3; it has to be a table: write [head], and its settings below"),
        ("[[fit]]\nepochs = 1", 'fit is [{"epochs": 1}]; it has to be a table: '),
        ("[head]\nbidirectional = 1", "head.bidirectional is 1; it has to be true or false; "),
        ("[head]\nnum_layers = true", "head.num_layers is true; it has to be a whole number, at least 1; "),
        ("[head]\nhidden_size = 64.0", "head.hidden_size is 64.0; it has to be a whole number, at least 1; "),
        (
            "[head]\nforget_bias = 'one'",
            'head.forget_bias is "one"; it has to be a number; correct it, or leave it out',
        ),
        ("[fit]\nlearning_rate = '1e-3'", 'fit.learning_rate is "1e-3"; it has to be a number, from 1e-09 to 1000; '),
        ("[clip]\nregion = '0,0,1,1'", 'clip.region is "0,0,1,1": '),
        ("[clip.region]\nx = '0'\ny = 0\nwidth = 1\nheight = 1", 'clip.region.x is "0": '),
        ("[clip]\nsize = '64'", 'clip.size is "64"; it has to be a whole number, from 16 to 4096; '),
    ],
)
def test_wrong_types_are_refused(file: Path, text: str, said: str) -> None:
    assert refused(file, text).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "seed = -1",
            "seed is -1; it has to be a whole number, from 0 to 4294967295; correct it, or leave it out: the",
        ),
        ("seed = 4294967296", "seed is 4294967296; "),
        (
            "[data]\nvalidation_fraction = 1",
            "data.validation_fraction is 1; it has to be a number, above 0 and below 1",
        ),
        ("[clip]\nsample_fps = 0.4", "clip.sample_fps is 0.4; it has to be a number, from 0.5 to 240; "),
        ("[clip]\nsize = 8", "clip.size is 8; it has to be a whole number, from 16 to 4096; "),
        ("[clip]\nframe_width = 4097", "clip.frame_width is 4097; "),
        (
            "[clip]\nresize = 'pad'",
            'clip.resize is "pad"; it has to be a string, one of crop, stretch; correct it, or ',
        ),
        ("[head]\npooling = 'none'", 'head.pooling is "none"; it has to be a string, one of last, mean, attention; '),
        ("[head]\ninput_weights = 'zeros'", 'head.input_weights is "zeros"; '),
        ("[head]\noutput_dropout = 1.0", "head.output_dropout is 1.0; it has to be a number, from 0 to 0.99; "),
        (
            "[fit]\nepochs = 0",
            "fit.epochs is 0; it has to be a whole number, at least 1; correct it, or leave it out: ",
        ),
        ("[fit]\nlearning_rate = 0", "fit.learning_rate is 0; "),
        ("[fit]\nweight_decay = nan", "fit.weight_decay is NaN; it has to be a number, from 0 to 1000; "),
        ("[fit]\ngradient_norm = inf", "fit.gradient_norm is Infinity; "),
        ("[head]\ncell = 'qrnn'", "head: cell 'qrnn' is unknown; there are rnn, "),
        ("[head]\ndropout = 0.5", "head: dropout between layers is 0.5, and there is 1 layer; "),
        ("[head]\ncell = 'gru'\nforget_bias = 1", "head: forget_bias is 1, and the head has no forget gate (gru): "),
        (
            "[clip]\nstride_seconds = 5",
            "clip: stride_seconds is 5 and window_seconds is 4: 20 ticks from one window of 16",
        ),
        (
            "[clip]\nstride_seconds = 0.1",
            "clip: stride_seconds is 0.1, less than a tick at 4 a second: make it 0.25 at",
        ),
        ("[clip]\nsize = 64\nframe_width = 96", "clip.size and clip.frame_width are both there; leave one of them out"),
    ],
)
def test_what_is_out_of_range_is_refused(file: Path, text: str, said: str) -> None:
    assert refused(file, text).startswith(said)


def test_a_complaint_names_the_flag_where_the_value_is_a_flags(file: Path) -> None:
    said = refused(file, "[fit]\nepochs = 5\n", fit__epochs=0, head__num_layers=1)
    assert said.startswith("--epochs is 0; it has to be a whole number, at least 1; ")
    assert refused(file, "", clip__size=1).startswith("--size is 1; it has to be a whole number, from 16 to 4096; ")
    assert refused(file, "", data__name="\udc80") == "the flags are no UTF-8; give names without such bytes"
    with pytest.raises(RecipeError, match=r"^--weight-decay is NaN; it has to be a number, from 0 to 1000; "):
        read(flags={"fit.weight_decay": math.nan})


def test_the_first_of_many_faults_is_named_and_the_others_counted(file: Path) -> None:
    assert refused(file, "[fit]\nepochs = 0\npatience = 0\nx = 1").endswith("the default is 30 (and 2 more)")


@pytest.mark.parametrize(
    "content",
    [
        b"seed = ",
        b"seed: 1",
        b"name = '\xff'",
        b"seed = 1\nseed = 2",
        b"a = " + b"[" * 3000 + b"]" * 3000,
        b"seed = 1" + b"0" * 5000,
    ],
)
def test_a_file_that_is_no_toml_is_one_red_line(monkeypatch: pytest.MonkeyPatch, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    result, asked = told(monkeypatch, file.parent, "--recipe", str(file))
    assert (result.exit_code, asked) == (1, [])
    [line] = result.stderr.splitlines()
    assert line.startswith(f"{file} is not TOML in UTF-8: ")


def test_what_is_nested_too_deeply_is_refused(file: Path) -> None:
    assert refused(file, f"a = {'[' * 250}{']' * 250}").startswith("recursion limit exceeded")
    said = refused(file, '"a\\nb" = 1')  # a line break in a key is shown, not made
    assert said == "a\\nb = 1 is unknown; remove it. a recipe has name, seed, data, task, clip, encoder, head, fit"


def test_a_complaint_of_the_command_is_one_line_with_file_key_value_limit_and_remedy(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    file.write_text("[fit]\nepochs = 0\n")
    result, asked = told(monkeypatch, file.parent, "--recipe", str(file))
    assert (result.exit_code, asked) == (1, [])
    [line] = result.stderr.splitlines()
    assert line == (
        f"{file}: fit.epochs is 0; it has to be a whole number, at least 1; correct it, or leave it out: the default "
        "is 30"
    )


# As TOML and as JSON

TREES: list[dict[str, Any]] = [
    {},
    {"seed": 5, "name": 'a "b" \\ c\n# é', "clip": {"sample_fps": 5.5, "frame_height": 64, "resize": "stretch"}},
    {"clip": {"region": {"x": 0.25, "y": 0.0, "width": 0.5, "height": 1.0}}, "head": {"cell": "gru", "num_layers": 3}},
    {"head": {"forget_bias": 1.5, "bidirectional": True}, "fit": {"learning_rate": 1e-7, "label_smoothing": 0.1}},
]


@pytest.mark.parametrize("tree", TREES)
def test_a_recipe_is_the_same_after_toml(file: Path, tree: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(tree)
    file.write_text(recipe.to_toml(), encoding="utf-8")
    assert read(file) == recipe
    assert read(file).to_toml() == recipe.to_toml()


@pytest.mark.parametrize("tree", TREES)
def test_a_recipe_is_the_same_after_json(tree: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(tree)
    assert Recipe.model_validate_json(json.dumps(recipe.to_dict()), strict=True) == recipe


def test_the_command_prints_every_setting(file: Path) -> None:
    file.write_text("[head]\nhidden_size = 7\nforget_bias = 1\n[clip.region]\nx = 0\ny = 0\nwidth = 1\nheight = 1\n")
    printed = CliRunner().invoke(commands.app, ["recipe", str(file)])
    assert printed.exit_code == 0, printed.output
    tree = tomllib.loads(printed.output)
    assert tree["head"]["hidden_size"] == 7
    for name, settings in ({"": root_settings()} | table_settings()).items():
        held = tree[name] if name else tree
        unset = {key for key in settings if f"\n# {key} =\n" in printed.output}
        assert set(settings) - unset <= set(held)
    assert "# Units of a recurrent layer, each way; at least 1.\nhidden_size = 7\n" in printed.output
    defaults = CliRunner().invoke(commands.app, ["recipe"]).output
    assert "\n# forget_bias =\n" in defaults
    file.write_text(defaults)
    assert read(file) == read()


def test_the_command_writes_a_file_and_goes_over_none(file: Path) -> None:
    written = CliRunner().invoke(commands.app, ["recipe", "--out", str(file)])
    assert written.exit_code == 0, written.output
    assert read(file) == read()
    file.write_text("seed = 8\n")
    again = CliRunner().invoke(commands.app, ["recipe", "--out", str(file)])
    assert again.exit_code == 1
    [line] = again.stderr.splitlines()
    assert line == f"{file} is there already; remove it, or name another with --out"
    assert read(file).seed == 8


# Where it is stored


def test_checkpoint_and_model_hold_it_and_no_path(tmp_path: Path, file: Path) -> None:
    for number in range(4):
        film(tmp_path / "a" / f"a{number}.mp4", number)
        film(tmp_path / "b" / f"b{number}.mp4", 10 + number)
    data = manifest(
        tmp_path,
        *(f"{one}/{one}{n}.mp4,{one},{one}{n},{'test' if n == 3 else 'train'}" for one in "ab" for n in range(4)),
    )
    file.write_text(
        'name = "drawn"\n[data]\nsplit = "part"\nvalidation_fraction = 0.6\nvalidation_seed = 2\n[clip]\nsize = 32\n'
        '[encoder]\nname = "small-16"\nweights = "random"\n[head]\nhidden_size = 4\nforget_bias = 1\n'
        "[fit]\nepochs = 2\n"
    )
    out = tmp_path / "m.pt"
    result = CliRunner().invoke(
        commands.app,
        ["train", "--data", str(data), "--recipe", str(file), "--epochs", "1", "--out", str(out), "--store",
         str(tmp_path / "features")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    wanted = read(file, {"fit.epochs": 1})
    checkpoint = Checkpoint.load(out)
    held = checkpoint.training["recipe"]
    assert Recipe.model_validate_json(json.dumps(held), strict=True) == wanted
    assert (checkpoint.spec, checkpoint.encoder_name) == (wanted.clip.spec, "small-16")
    assert checkpoint.training["validation"] == "60% of train's groups, seed 2"
    assert checkpoint.training["clips"] == {"train": 6, "validation": 4, "test": 2}
    published = of_checkpoint(checkpoint).training
    assert published["recipe"] == held
    assert str(tmp_path) not in json.dumps(published)


def test_a_file_of_weights_is_only_named() -> None:
    recipe = read(flags={"encoder.weights": "/home/me/nets/alexnet.pth"})
    assert recipe.encoder.weights == "/home/me/nets/alexnet.pth"
    assert recipe.to_dict()["encoder"]["weights"] == "alexnet.pth"


# Those that ship


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_that_ships_is_named_as_its_file(path: Path) -> None:
    assert read(path).name == path.stem


@pytest.mark.parametrize("path", [path for path in RECIPES if (ZOO / path.stem).is_dir()], ids=lambda path: path.stem)
def test_a_recipe_of_a_model_that_ships_is_that_of_its_training(path: Path) -> None:
    recipe = read(path)
    [*_, bundle] = sorted((ZOO / recipe.name).glob("*/model.json"))
    model = read_document(bundle, ModelDocument)
    training, source = model.training, recipe.data
    stored = Recipe.model_validate_json(json.dumps(training["recipe"]))  # of settings that came later, the defaults
    assert recipe.seed == training["seed"]
    assert recipe.clip.spec == model.spec
    assert (source.name, source.licence, source.split) == (
        training["data"], training["data_licence"], training["split"]
    )  # fmt: skip
    said = f"{source.validation_fraction:.0%} of train's groups, seed {source.validation_seed}"
    assert said == training["validation"]
    assert model.encoder.name.startswith(f"{recipe.encoder.name}-")
    assert stored.to_dict() == recipe.to_dict()  # of a file of weights the name


def test_every_model_that_ships_has_a_recipe() -> None:
    models = {path.parents[1].name for path in ZOO.glob("*/*/model.json")}
    assert models <= {path.stem for path in RECIPES}
    assert SHIPPED in RECIPES
