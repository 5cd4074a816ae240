"""Names that tell one export from another."""

from hashlib import sha256

from domain.exports import ExportInfo


def fingerprint(info: ExportInfo) -> str:
    """The same for the same export, whenever and wherever it is made."""
    return sha256(info.model_dump_json().encode()).hexdigest()[:12]
