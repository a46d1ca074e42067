"""Options of any configuration: declared once, checked, saved, on a command line."""

import argparse
import dataclasses
import json
import pathlib
import re
from typing import Any, Literal

import numpy as np
import pytest

import jdeq
from jdeq.command_line import add_options, read_options
from jdeq.options import Options, from_data, option, options_for, options_of

SOLVERS = ["plain"]


@dataclasses.dataclass(frozen=True)
class Settings(Options, what="setting", commands=("train",), groups={"solve": "how it solves"}):
    flag: bool = option(False, "a flag")
    count: int = option(2, "a count", low=1)
    share: float = option(0.5, "100% at most", "solve", low=0, below=1)
    rate: float = option(0.1, "a rate", above=0, also=("eval",))
    limit: int | None = option(None, "a limit", low=0, high=9)
    mode: Literal["abs", "rel"] = option("abs", "a mode", "solve")
    solver: str = option("plain", "a solver", "solve", choices=lambda: SOLVERS, alias="method")
    name: str = option("", "a name", defines_parameters=True)
    widths: tuple[int, ...] = option((4, 4), "widths", low=1)
    kernel: tuple[int, int] = option((3, 3), "a kernel", low=1)
    steps: int | tuple[int, ...] = option(1, "steps", low=1, metavar="STEPS")
    modes: tuple[Literal["abs", "rel"], ...] = option((), "several modes")
    more: Any = option((), "of the solver", pairs=True)
    classes: int = from_data(10, low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count > self.classes:
            raise ValueError(f"count={self.count} is more than {self.classes} classes")


@dataclasses.dataclass(frozen=True)
class More(Settings):
    extra: int = option(0, "of the subclass", commands=("eval",))


CHANGES = {
    "flag": True,
    "count": 3,
    "share": 0,
    "rate": 2,
    "limit": 9,
    "mode": "rel",
    "name": "x",
    "widths": (1, 2, 3),
    "kernel": (5, 1),
    "steps": (1, 2),
    "modes": ("rel",),
    "more": (("lam", 1e-4), ("m", 5)),
    "classes": 7,
}


@pytest.mark.parametrize(
    "name, value, error, message",
    [
        ("flag", 1, TypeError, "flag must be True or False, got 1"),
        ("count", 0, ValueError, "count must be >= 1, got 0"),
        ("count", True, TypeError, "count must be an int, got True"),
        ("count", 2.0, TypeError, "count must be an int, got 2.0"),
        ("share", 1, ValueError, "share must be in [0, 1), got 1"),
        ("share", float("nan"), ValueError, "share must be in [0, 1), got nan"),
        ("share", "x", TypeError, "share must be a number, got 'x'"),
        ("rate", 0, ValueError, "rate must be > 0, got 0"),
        ("rate", None, TypeError, "rate must be a number, got None"),
        ("limit", 10, ValueError, "limit must be in [0, 9], got 10"),
        (
            "mode",
            "ab",
            ValueError,
            "mode must be one of 'abs', 'rel'; got 'ab' (did you",
        ),
        ("mode", 1, ValueError, "mode must be one of 'abs', 'rel'; got 1"),
        ("solver", "plane", ValueError, "solver must be one of 'plain'; got 'plane' (did you mean"),
        ("name", 3, TypeError, "name must be a string, got 3"),
        ("widths", 3, TypeError, "widths must be a sequence of ints, got 3"),
        ("widths", (4, 0), ValueError, "widths[1] must be >= 1, got 0"),
        ("widths", "44", TypeError, "widths must be a sequence of ints, got '44'"),
        ("kernel", (3,), TypeError, "kernel must be 2 ints, got (3,)"),
        ("steps", 0, ValueError, "steps must be >= 1, got 0"),
        ("steps", (1, 2.5), TypeError, "steps[1] must be an int, got 2.5"),
        ("modes", ("abs", "x"), ValueError, "modes[1] must be one of 'abs', 'rel'; got 'x'"),
        ("more", "m", ValueError, "more takes options such as 'm=5,lam=1e-4'"),
        ("classes", 0, ValueError, "classes must be >= 1, got 0"),
        ("classes", 1, ValueError, "count=2 is more than 1 classes"),
    ],
)
def test_a_mistake_names_the_option_its_value_and_what_would_be_right(name, value, error, message):
    with pytest.raises(error) as raised:
        Settings(**{name: value})
    assert str(raised.value).startswith(message)


def test_plain_values_and_back():
    settings = Settings(**CHANGES)
    assert all(getattr(settings, name) == value for name, value in CHANGES.items())
    plain = json.loads(json.dumps(settings.to_dict()))
    assert plain["widths"] == [1, 2, 3] and plain["more"] == {"lam": 1e-4, "m": 5}
    assert Settings.from_dict(plain) == settings and hash(Settings.from_dict(plain))
    assert Settings.from_dict({}) == Settings()
    assert Settings(steps=(3,)).steps == 3  # one for all
    counts: Any = {"classes": np.int64(7), "widths": (np.int32(2),), "share": np.float32(0.25)}
    counted = Settings(**counts)
    assert json.loads(json.dumps(counted.to_dict())) == counted.to_dict()
    unknown: Any = {"shar": 0.3}
    for make in (lambda: Settings.from_dict(unknown), lambda: Settings(**unknown)):
        with pytest.raises(TypeError, match="unknown setting 'shar' .did you mean .share...: use"):
            make()
    with pytest.raises(TypeError, match="unknown setting 'shar'"):
        dataclasses.replace(settings, **unknown)


def test_a_command_line():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_options(parser, Settings(), "settings", command="train")
    line = (
        "--flag --count 3 --share 0 --rate 2 --limit 9 --mode rel --name x --widths 1 2 3 "
        "--kernel 5 1 --steps 1 2 --modes rel --more m=5,lam=1e-4"
    )
    want = dataclasses.replace(Settings(**CHANGES), classes=10)
    assert read_options(parser.parse_args(line.split()), Settings(), command="train") == want
    silent = argparse.ArgumentParser()
    add_options(silent, want, "settings", command="train")
    assert read_options(silent.parse_args([]), want, command="train") == want
    changed = "--no-flag --limit none --widths --method plain".split()
    read = read_options(silent.parse_args(changed), want, command="train")
    assert not read.flag and read.limit is None and read.widths == ()


@pytest.mark.parametrize(
    "line, message",
    [
        ("--count x", "argument --count: invalid int value: 'x'"),
        ("--limit x", "argument --limit: invalid int value: 'x'"),
        ("--kernel 3", "argument --kernel: expected 2 arguments"),
        ("--steps", "argument --steps: expected at least one argument"),
        ("--classes 3", "unrecognized arguments: --classes 3"),
    ],
)
def test_a_mistake_on_a_command_line(line, message, capsys):
    parser = argparse.ArgumentParser()
    add_options(parser, Settings(), "settings", command="train")
    with pytest.raises(SystemExit):
        parser.parse_args(line.split())
    assert message in capsys.readouterr().err


def test_help_is_grouped_and_complete(monkeypatch):
    parser = argparse.ArgumentParser()
    monkeypatch.setattr("tests.test_options.SOLVERS", ["plain", "mine"])
    add_options(parser, Settings(limit=3), "settings", command="train")
    shown = " ".join(parser.format_help().split())
    for said in (
        "settings: --flag",
        "settings: how it solves: --share FLOAT 100% at most (default: 0.5)",
        "--solver NAME, --method NAME a solver: plain, mine (default: plain)",
        "--mode NAME a mode: abs, rel (default: abs)",
        "--limit INT a limit (default: 3)",
        "--name STR a name (default: none)",
        "--kernel INT INT a kernel (default: 3 3)",
        "--steps STEPS [STEPS ...] steps (default: 1)",
        "--more NAME=VALUE,... of the solver (default: none)",
    ):
        assert said in shown


def test_which_options_a_command_may_change():
    names = lambda command: [each.name for each in options_for(More, command)]
    assert names("train") == [name for name in options_of(Settings) if name != "classes"]
    assert names("eval") == ["rate", "extra"]
    assert names("export") == names(None) == []
    assert len(options_for(jdeq.DEQConfig, None)) == len(options_of(jdeq.DEQConfig))


def test_groups_and_what_defines_parameters():
    assert Settings().part("solve") == {"share": 0.5, "mode": "abs", "solver": "plain"}
    assert Settings(name="x").defining_parameters() == {"name": "x"}


def test_words_that_are_registered_later(monkeypatch):
    monkeypatch.setattr("tests.test_options.SOLVERS", ["plain", "mine"])
    assert Settings(solver="mine").solver == "mine"


def test_a_declaration_that_is_no_option():
    @dataclasses.dataclass(frozen=True)
    class Wrong(Options):
        count: int = option(1, "a count", least=1)

    with pytest.raises(TypeError, match="least"):
        Wrong()


def test_what_a_configuration_answers():
    config = jdeq.DEQConfig(
        f_solver="anderson", norm_type="weight_norm", norm_clip=True, sn_n_power_iters=2, ift=True
    )
    assert config.criterion == ("abs", 1e-3)
    once = config.without_solver()
    assert once == jdeq.DEQConfig(
        f_max_iter=0, norm_type="weight_norm", norm_clip=True, sn_n_power_iters=2
    )
    assert once.part("norm") == config.part("norm")
    assert config.defining_parameters() == {"norm_type": "weight_norm", "norm_no_scale": False}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"f_stop_mode": "abs", "f_tol": 0.1}, "f_stop_mode must be 'rel' and f_tol not below"),
        ({"f_stop_mode": "rel", "f_tol": 1e-3}, "down to 8e-03 in bfloat16: f_stop_mode"),
        ({"f_max_iter": 0, "ift": True}, "b_stop_mode must be 'rel' and b_tol not below that, got"),
        ({"f_max_iter": 0}, None),
        ({"f_stop_mode": "rel", "f_tol": 1e-2}, None),
    ],
)
def test_tolerances_that_a_dtype_cannot_meet(options, message):
    config = jdeq.DEQConfig(**options)
    if message is None:
        config.check_dtype("bfloat16")
    else:
        with pytest.raises(ValueError, match=message):
            config.check_dtype("bfloat16")


def test_the_page_about_options():
    page = pathlib.Path(__file__).parents[1].joinpath("docs/options.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    with pytest.raises(ValueError, match=re.escape("dropout must be in [0, 1), got 1")):
        names["Sizes"](dropout=1)
