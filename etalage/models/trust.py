"""Which files of shops' `models/` folders may be run on this machine, by this user: those with these hashes.

Kept in the user's own state, `$XDG_STATE_HOME/etalage/trusted/` (by default `~/.local/state/…`), one file a
folder: a shop that is copied, sent or unpacked brings no trust along. docs/decisions/safety.md says why.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from etalage.errors import DataError
from etalage.lake.durable_files import replace_durably


def trusted(folder: Path) -> dict[str, str]:
    """The files of a folder that somebody trusted: name → SHA-256. Raises DataError: the note on it is not
    this user's alone, or damaged."""
    note, real = _note(folder), str(folder.resolve())
    try:
        about = note.stat()
        if os.name == "posix" and (about.st_uid not in (os.getuid(), 0) or about.st_mode & 0o022):
            raise DataError(
                f"{note}: others may write it, so that it says nothing; remove it, and trust again"
            )
        kept = json.loads(note.read_bytes())
        files = {str(name): str(sha256) for name, sha256 in kept["files"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{note}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{note}: damaged; remove it, and trust again") from error
    return files if kept.get("folder") == real else {}


def trust(folder: Path, files: Mapping[str, str]) -> Path:
    """From now on just these files of the folder are trusted, name → SHA-256; none: none. → the note.

    Raises DataError: it cannot be written.
    """
    note = _note(folder)
    try:
        if not files:
            note.unlink(missing_ok=True)
            return note
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = {"folder": str(folder.resolve()), "files": dict(sorted(files.items()))}
        replace_durably(note, json.dumps(content, indent=1).encode())
        note.chmod(0o600)
    except OSError as error:
        raise DataError(
            f"{note}: cannot be written: {error.strerror}; XDG_STATE_HOME names another folder for it"
        ) from error
    return note


def _note(folder: Path) -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        home = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise DataError(
            f"there is no home folder to keep in what is trusted: set XDG_STATE_HOME: {error}"
        ) from error
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
    return home / "etalage" / "trusted" / f"{digest}.json"
