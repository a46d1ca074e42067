"""The MODEL of a command, which comes first; looked at before anything slow is imported."""

from collections.abc import Sequence

from zoo.errors import UserError
from zoo.program_name import program_name
from zoo.registry import model_names

HELP = ("-h", "--help")


def usage_without_model(command: str, argv: Sequence[str]) -> str | None:
    """What to print if the arguments ask for help and name no model; None if they name one.

    Raises:
        UserError: they neither name one nor ask for help.
    """
    if argv and not argv[0].startswith("-"):
        return None
    models = ", ".join(model_names())
    if any(flag in argv for flag in HELP):
        return f"usage: {program_name()} {command} MODEL [options]\n\nMODEL: {models}"
    raise UserError(f"expected a model right after the command: {models}")
