"""Models as a user types them, with their settings and with names that tell them apart."""

from __future__ import annotations

from helmlite.models.wanted import WantedModel, named, parse_model, typed_again


def test_a_model_with_its_settings() -> None:
    assert parse_model("a,b/best.onnx,layout=end2end,classes=x+ y,precision=bf16", "openvino") == WantedModel(
        "a,b/best.onnx", runtime="openvino", precision="bf16", layout="end2end", classes=("x", "y")
    )
    assert parse_model("odd,colour=red.onnx").model == "odd,colour=red.onnx"
    assert parse_model("m,runtime=pytorch", "openvino").runtime == "pytorch"


def test_names_that_tell_apart() -> None:
    def names(*models: WantedModel) -> list[str]:
        return [item.name for item in named(models)]

    assert names(WantedModel("runs/a/bundle"), WantedModel("runs/b/bundle")) == ["a", "b"]
    assert names(WantedModel("x/a.onnx"), WantedModel("y/a.onnx")) == ["x/a.onnx", "y/a.onnx"]
    assert names(WantedModel("m", input_size=640), WantedModel("m", input_size=416)) == ["m 640", "m 416"]
    assert names(WantedModel("m", name="big"), WantedModel("m")) == ["big", "m"]


def test_a_command_shows_only_the_last_parts_of_paths() -> None:
    words = ["eval", "/alice/a b/best.pt,name=x", "--data=/alice/secret client/data.yaml", "--out", "out"]
    assert typed_again("helmlite", words) == (
        "helmlite eval 'a b/best.pt,name=x' '--data=secret client/data.yaml' --out out"
    )
    assert typed_again("python benchmarks/x.py", ["--time", "--limit=3"]) == "python benchmarks/x.py --time --limit=3"
