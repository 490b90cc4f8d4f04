"""What comes ready-made works as it is typed: public models, inspect, shipped recipes, the demo, the README's lines."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import cv2
import pytest

import helmlite
from helmlite.compress.checkpoint import save_checkpoint
from helmlite.compress.recipe import load_recipe, recipe_names
from helmlite.data.roles import with_roles
from helmlite.data.scenes import write_scenes
from helmlite.detector.detector import Detector
from helmlite.detector.macs import count_macs
from helmlite.detector.tiny import new_tiny
from helpers import helmlite_command

_REPOSITORY = Path(__file__).resolve().parents[2]
_TOO_MUCH = ("fast", "smallest")  # 0.18 of the MACs, which `tiny` cannot lose
_PLANNED_ALWAYS = ("balanced", "low-rank", "untrained")
_READMES = ("README.md", "README.zh-CN.md")


def _tiny() -> Detector:
    return new_tiny(with_roles(["helmet", "no_helmet"]), input_size=160)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint `model` and drawn pictures `scenes/data.yaml`."""
    folder = tmp_path_factory.mktemp("made")
    write_scenes(folder / "scenes", train=8, val=12, test=12, seed=0)
    save_checkpoint(_tiny(), folder / "model", {})
    return folder


def test_the_version_is_told_and_is_that_of_the_package() -> None:
    done = helmlite_command("--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"helmlite {helmlite.__version__}" == f"helmlite {metadata.version('helmlite')}"


def test_public_models_are_listed_with_both_licences() -> None:
    done = helmlite_command("models", "list")
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("helmet-yolo12m", "MIT", "AGPL-3.0"))


def test_an_unknown_model_is_one_line_that_names_the_known_ones() -> None:
    done = helmlite_command("models", "get", "helmet-yolo99")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "helmet-yolo12m" in done.stderr


@pytest.mark.slow
def test_inspect_prints_draws_and_writes_the_same_layers(made: Path, tmp_path: Path) -> None:
    plot, numbers = tmp_path / "layers.png", tmp_path / "layers.json"
    done = helmlite_command("inspect", made / "model", "--plot", plot, "--json", numbers)
    assert done.returncode == 0, done.stderr
    layers = json.loads(numbers.read_text())
    assert all(layer["path"] in done.stdout for layer in layers)
    assert sum(layer["macs"] for layer in layers) == count_macs(_tiny().network, 160)
    assert all(layer["time_ms"] > 0 for layer in layers)
    assert cv2.imread(str(plot)).shape[0] > 400


@pytest.mark.parametrize(
    ("option", "file", "message"),
    [
        ("--json", "weights.safetensors", "give --json a file outside of it."),
        ("--plot", "layers.png", "give --plot a file outside of it."),
        ("--plot", "layers.txt", "--plot is a PNG, for instance layers.png; got"),
    ],
)
def test_inspect_writes_nothing_into_the_checkpoint(made: Path, option: str, file: str, message: str) -> None:
    before = {path.name: path.read_bytes() for path in (made / "model").iterdir()}
    done = helmlite_command("inspect", made / "model", option, made / "model" / file)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert message in done.stderr
    assert {path.name: path.read_bytes() for path in (made / "model").iterdir()} == before


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_say_what_they_are_for(name: str) -> None:
    recipe = load_recipe(name, minutes=30.0)
    assert (recipe.name, bool(recipe.purpose)) == (name, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        name if name in _PLANNED_ALWAYS else pytest.param(name, marks=pytest.mark.matrix)
        for name in recipe_names()
        if name not in _TOO_MUCH
    ],
)
def test_shipped_recipes_have_a_plan_for_a_small_detector(made: Path, tmp_path: Path, name: str) -> None:
    words = ["--data", made / "scenes" / "data.yaml", "--recipe", name, "--minutes", "5", "--input-size", "96"]
    done = helmlite_command("compress", made / "model", *words, "--out", tmp_path / "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "times faster" in done.stdout
    training = "none" if name == "untrained" else "5 minutes"
    assert f"training: {training} on 8 pictures" in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.matrix
@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_go_the_whole_way(made: Path, tmp_path: Path, name: str) -> None:
    """Every step for real, trained for seconds: a bundle, a report and a verdict, whatever the accuracy."""
    model = made / "model"
    if name in _TOO_MUCH:
        model = tmp_path / "wide"
        save_checkpoint(new_tiny(with_roles(["helmet", "no_helmet"]), input_size=96, width=2.0), model, {})
    words = ["--data", made / "scenes" / "data.yaml", "--recipe", name, "--minutes", "0.2", "--input-size", "96"]
    done = helmlite_command("compress", model, *words, "--out", tmp_path / "out")
    assert done.returncode in (0, 3, 4), done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    steps = [step.name for step in load_recipe(name).steps]
    rows = {item["name"] for item in (*report["steps"], report["result"])}
    assert {f"{number}. {step}" for number, step in enumerate(steps, start=1)} <= rows | {report["result"]["name"]}
    assert (tmp_path / "out" / "bundle" / "manifest.json").is_file()


@pytest.mark.slow
def test_a_recipe_that_is_too_much_for_a_small_detector_is_one_line(made: Path, tmp_path: Path) -> None:
    words = ["--data", made / "scenes" / "data.yaml", "--recipe", "fast", "--input-size", "96", "--dry-run"]
    done = helmlite_command("compress", made / "model", *words, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "18% of the MACs cannot be reached" in done.stderr


@pytest.mark.matrix
def test_the_demo_goes_the_whole_way(tmp_path: Path) -> None:
    done = helmlite_command("demo", "--out", tmp_path / "demo", "--minutes", "0.5")
    assert done.returncode in (0, 3, 4), done.stderr
    assert "drawn by helmlite" in done.stdout
    assert (tmp_path / "demo" / "run" / "bundle" / "manifest.json").is_file()


def _python_blocks(readme: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (_REPOSITORY / readme).read_text(encoding="utf-8"), re.S)


@pytest.mark.slow
@pytest.mark.parametrize("readme", _READMES)
def test_the_readme_s_python_runs(
    readme: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As written, with a small detector in place of the public one and drawn pictures."""
    blocks = _python_blocks(readme)
    assert blocks
    monkeypatch.chdir(made / "scenes")
    monkeypatch.setattr(helmlite, "load_detector", lambda name: _tiny())
    for block in blocks:
        assert 'load_detector("helmet-yolo12m")' in block
        names: dict[str, object] = {}
        exec(compile(block.replace("416", "96"), readme, "exec"), names)
        lighter, detector = names["lighter"], names["detector"]
        assert isinstance(lighter, Detector)
        assert isinstance(detector, Detector)
        assert count_macs(lighter.network, 96) <= 0.4 * count_macs(detector.network, 96)


@pytest.mark.parametrize("readme", _READMES)
def test_the_readme_names_commands_that_there_are(readme: str) -> None:
    text = (_REPOSITORY / readme).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^    |`)helmlite ([a-z]+)", text, re.M))
    assert {"compress", "detect", "inspect"} <= named
    assert named <= set(re.findall(r"^\W*([a-z]+)\b", helmlite_command("--help").stdout, re.M))
