"""An export into an annotation server, from where the user is: we never have their token."""

from maskmill.push.cvat import push_cvat
from maskmill.push.label_studio import push_label_studio
from maskmill.push.outcome import Pushed
from maskmill.push.project import ProjectChoice
from maskmill.push.server import PushError

__all__ = ["ProjectChoice", "PushError", "Pushed", "push_cvat", "push_label_studio"]
