"""The one exception that the command line turns into a single line."""


class UserError(Exception):
    """A mistake of the person at the command line; its text is all that they see.

    `python -m zoo` prints it without a traceback and exits with status 2.
    """
