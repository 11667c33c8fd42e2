"""Files of a run on disk: whose they are, who holds them, and how they are replaced in one step."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from gradcheck.errors import GradcheckError, LockedError, StorageError

APPLICATION_ID = 0x67726463
USER_VERSION = 1
AGAIN = "choose another path, or run `gradcheck verify` to make a new run file"

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_ADVICE = {
    "SQLITE_FULL": "the disk is full; free some space and run again",
    "SQLITE_READONLY": "the file or its folder is read-only; make it writable or choose another with --out",
    "SQLITE_BUSY": "another process has kept it busy for too long; wait for it and try again",
    "SQLITE_LOCKED": "another process has kept it busy for too long; wait for it and try again",
    "SQLITE_CORRUPT": f"the file is damaged; {AGAIN}",
    "SQLITE_NOTADB": f"the file is damaged; {AGAIN}",
    "SQLITE_TOOBIG": "one value is larger than a run file may hold",
    "SQLITE_CANTOPEN": "the file cannot be opened; check that its folder exists and is writable",
}


@contextlib.contextmanager
def storage(path: Path, doing: str) -> Iterator[None]:
    """Turn failures of the file system, SQLite and stored text into a `StorageError` that names `path`."""
    try:
        yield
    except GradcheckError:
        raise
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        advice = next((text for prefix, text in _ADVICE.items() if name.startswith(prefix)), AGAIN)
        raise StorageError(f"cannot {doing} {str(path)!r}: {error}: {advice}") from error
    except OSError as error:
        raise StorageError(f"cannot {doing} {str(path)!r}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"cannot {doing} {str(path)!r}: unexpected content: {error}; {AGAIN}") from error


def hold(path: Path) -> int:
    """Hold the run at `path` until the descriptor that is returned is closed.

    The lock is the kernel's, on a file beside the run, and ends with the process however that ends. Raises
    `LockedError` while another holds it.
    """
    lock = path.with_name(path.name + ".lock")
    with storage(lock, "lock the run with"):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace")
            os.close(descriptor)
            who = f"process {holder}" if holder.isdecimal() else "another process"
            raise LockedError(
                f"{who} is writing the run {str(path)!r}; wait for it, or choose another folder with --out"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def refuse_foreign(path: Path) -> None:
    """Raise `StorageError` if there is something at `path` that is not a run file."""
    if not os.path.lexists(path):
        return
    header = _header(path, "replace")
    if _application(header) != APPLICATION_ID:
        raise StorageError(
            f"cannot replace {str(path)!r}: expected a run file of gradcheck, got {_describe(header)}; "
            f"move it away or choose another path"
        )


def require_run_file(path: Path) -> None:
    """Raise `StorageError` unless `path` is a whole run file that this version reads; nothing is changed."""
    header = _header(path, "open")
    if _application(header) != APPLICATION_ID:
        raise StorageError(
            f"cannot open {str(path)!r}: expected a run file of gradcheck, got {_describe(header)}; {AGAIN}"
        )
    version = struct.unpack_from(">I", header, 60)[0]
    if version != USER_VERSION:
        change = "upgrade gradcheck" if version > USER_VERSION else "run `gradcheck verify` again"
        raise StorageError(
            f"cannot open {str(path)!r}: expected run file version {USER_VERSION}, got {version}; {change}"
        )
    size, expected = path.stat().st_size, _declared_size(header)
    if size < expected:
        raise StorageError(
            f"cannot open {str(path)!r}: it is truncated: expected {expected} bytes, got {size}; {AGAIN}"
        )


def require_sound(path: Path, connection: sqlite3.Connection) -> None:
    """Raise `StorageError` if SQLite finds the file damaged."""
    answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if answer != "ok":
        raise StorageError(f"cannot open {str(path)!r}: the file is damaged ({answer}); {AGAIN}")


def replace_database(path: Path, build: Callable[[Path], None]) -> None:
    """Let `build` write a database to a temporary file, then put it in the place of `path`."""
    with storage(path, "create the run file"), _temporary(path) as new:
        build(new)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        _settle(path)
        # SQLite would replay a log that is left from the old file into the new one.
        for suffix in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        new.replace(path)
        _sync_folder(path.parent)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`: completely or, on any failure, not at all, with a `StorageError`."""
    with storage(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as new:
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
            _sync_folder(path.parent)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    # Not `tempfile`: its files are private, and this one takes a public name.
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield new
    finally:
        new.unlink(missing_ok=True)


def _settle(path: Path) -> None:
    """Bring the log of the old run into its file, so that it survives if the replacement does not happen."""
    if path.exists():
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _header(path: Path, doing: str) -> bytes:
    with storage(path, doing):
        if path.is_symlink() and doing == "replace":
            raise StorageError(f"cannot replace {str(path)!r}: it is a link; name the file itself")
        if path.is_dir():
            raise StorageError(
                f"cannot {doing} {str(path)!r}: expected a run file, got a folder; name the file in it"
            )
        if not path.exists():
            raise StorageError(f"cannot {doing} {str(path)!r}: expected a run file, there is none; {AGAIN}")
        if not path.is_file():
            raise StorageError(f"cannot {doing} {str(path)!r}: expected a run file, got a device or a pipe")
        with path.open("rb") as file:
            return file.read(_HEADER_BYTES)


def _application(header: bytes) -> int | None:
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        return None
    return int(struct.unpack_from(">I", header, 68)[0])


def _describe(header: bytes) -> str:
    if not header:
        return "an empty file"
    if header.startswith(_MAGIC):
        return "another SQLite database" if len(header) == _HEADER_BYTES else "a truncated SQLite database"
    return f"a file that begins with {header[:8]!r}"


def _declared_size(header: bytes) -> int:
    page = struct.unpack_from(">H", header, 16)[0]
    return (65_536 if page == 1 else page) * int(struct.unpack_from(">I", header, 28)[0])
