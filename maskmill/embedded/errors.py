"""Why the embedded stack cannot run."""


class StackError(Exception):
    """The stack cannot start or go on; the message is for the user and names the mend."""
