"""The exceptions that the command line turns into a single line."""


class UserError(Exception):
    """A mistake of the person at the command line; its text is all that they see.

    `python -m zoo` prints it without a traceback and exits with status 2.
    """


class Interrupted(Exception):
    """A run was asked to stop and has saved its state; the text says how to go on."""
