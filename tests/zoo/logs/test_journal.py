"""What people are shown of a run while it goes on."""

import re

import numpy as np

from zoo.figures import ACCURACY
from zoo.logs.journal import Journal

SOLVED = {"loss": 1.0, "residual": 1e-2, "nfe": 9.0}


def test_the_solver_is_shown_beside_what_phantom_steps_make_of_it(tmp_path, capsys):
    with Journal(tmp_path, ACCURACY, start=0, steps=3, tensorboard=False) as journal:
        for step, (solver, after) in enumerate([(0.5, 0.5), (0.0, 0.75), (1.0, 1.0)], start=1):
            figures = SOLVED | {"solver_converged": solver, "converged": after}
            journal.train(step, {k: np.asarray(v) for k, v in figures.items()})
    first, second, third = re.findall("^step.*$", capsys.readouterr().out, re.M)
    assert "unconverged 50%" in first and "phantom" not in first
    assert "unconverged 25%, before phantom steps 100%" in second
    assert "unconverged 0%, before phantom steps 0%" in third
