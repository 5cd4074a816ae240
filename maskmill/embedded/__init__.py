"""The embedded stack: PostgreSQL, Valkey, API and workers as children of one command."""

from maskmill.embedded.data_folder import default_data_folder
from maskmill.embedded.errors import StackError
from maskmill.embedded.stack import EmbeddedStack, StackOptions

__all__ = ["EmbeddedStack", "StackError", "StackOptions", "default_data_folder"]
