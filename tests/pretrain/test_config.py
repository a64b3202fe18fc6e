"""Configurations: bases, overrides, and errors that say what is allowed."""

import pytest

from hear_audiomamba.cli import main
from hear_audiomamba.errors import ConfigError
from hear_audiomamba.pretrain import read_config

PLACES = ["data.path=x", "run.out=y"]


def test_a_size_is_its_base_with_another_model():
    run = read_config("ssam_base", PLACES)
    assert run.model == "ssam_base_200_16x4" and run.optim.lr == 1.5e-4 and run.optim.betas == (0.9, 0.95)


def test_overrides_win_over_the_file_and_the_file_over_its_base(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: ssam_tiny\noptim: {lr: 1e-3, batch: 64}\n")
    run = read_config(tmp_path / "mine.yaml", [*PLACES, "optim.batch=32", "mask.cluster=[2, 4]"])
    assert (run.optim.lr, run.optim.batch, run.mask.cluster, run.optim.epochs) == (1e-3, 32, (2, 4), 100)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["optim.bacth=3"], "did you mean 'batch'"),
        (["optin.batch=3"], "did you mean 'optim'"),
        (["optim.batch=many"], "expected int, got 'many'"),
        (["objective.loss_on=some"], "use one of 'all', 'masked'"),
        (["mask.ratio=1.5"], "mask.ratio: 1.5 is not within 0 to 1"),
        (["seed=-1"], "seed: -1 is not within 0"),
        (["threads=0"], "threads: 0 is not within 1 to 1024"),
        (["optim.micro_batch=0"], "optim.micro_batch: 0 is not within 1"),
        (["mask.cluster=[5,3]"], "mask.cluster"),
        (["augment.speed_range=[0, 1]"], "must be [lowest, highest], from 0.01"),
        (["seed"], "KEY=VALUE"),
        (["seed.deep=1"], "expected int"),
        (["recipe=distill"], "distill.targets"),
        (["data.path="], "expected str"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(overrides, text):
    with pytest.raises(ConfigError, match=text.replace("[", r"\[")) as caught:
        read_config("ssam_tiny", [*PLACES, *overrides])
    assert "\n" not in str(caught.value)


def test_an_unknown_configuration_names_the_bundled_ones():
    with pytest.raises(ConfigError, match="did you mean 'ssam_tiny'"):
        read_config("ssam_tinny")


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "1E-4", ".1e-3", "+1e-4", "0.0001"])
def test_numbers_are_numbers_with_and_without_a_point(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(f"base: ssam_tiny\noptim: {{lr: {text}}}\ndata: {{path: 1e-4.wav}}\n")
    run = read_config(tmp_path / "mine.yaml", ["run.out=y", f"optim.min_lr={text}"])
    assert run.optim.lr == run.optim.min_lr == 1e-4 and run.data.path == "1e-4.wav"


def test_bases_in_a_circle(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(ConfigError, match="circle"):
        read_config(tmp_path / "a.yaml")


def test_the_command_line(corpus, tmp_path, capsys):
    words = ["pretrain", "ssam_tiny", f"data.path={corpus}", f"run.out={tmp_path / 'run'}", "optim.batch=4",
             "model_options={embed_dim: 32, depth: 1, d_state: 4}", "run.progress=false"]  # fmt: skip
    assert main([*words, "--dry-run", "optim.steps=2", "optim.lr=1e-4"]) == 0  # a setting behind an option
    assert "15 clips" in capsys.readouterr().out and not (tmp_path / "run").exists()
    assert main([*words, "optim.steps=2"]) == 0
    assert "finished at step 2" in capsys.readouterr().out
    assert main([*words, "optim.steps=2"]) == 1
    error = capsys.readouterr().err
    assert "already holds a run" in error and error.count("\n") == 1
    assert main([*words, "optim.steps=2", "--resume"]) == 0
    assert "finished at step 2, nothing was left to do" in capsys.readouterr().out
