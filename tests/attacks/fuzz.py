"""Damages well-formed files, and sees that readers give only errors of this package's own types.

    python -m tests.attacks.fuzz --seconds 3600

Each reader must end within seconds and within its memory, write nothing beside its folder, and run
nothing that a file holds. Inputs that break one of these are kept, with the traceback beside them.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from hear_audiomamba.errors import AudioMambaError
from hear_audiomamba.io.labels import LabelError

from .targets import Target, fill, make_targets

SECONDS_AN_INPUT = 20
MOST_MEMORY = 6 << 30  # of addresses, torch's libraries among them
_WORDS = (
    *(b"\x00", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00", b"\xc3\x28"),
    *(b"-1", b"9" * 30, b"1e999", b"NaN", b"-Infinity", b"null", b"true", b"[]", b"{}", b'{"a": 1}'),
    *(b"[" * 5000, b"{" * 5000, b'"', b"\\", b"../../../up", b"/etc/passwd", b"\n", b"\r", b",", b";", b"\t"),
    *(
        b"!!python/object/apply:os.system ['true']",
        b"&a [*a, *a]",
        b"\xef\xbb\xbf",
        b"PK\x03\x04",
        b"RIFF",
        b"data",
    ),
    "\u202e\ud83d\ude00".encode("utf-8", "surrogatepass"),
)


def damaged(seed: bytes, chance: random.Random) -> bytes:
    """Return a seed with one to eight damages."""
    content = bytearray(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(content) + 1)
        size = min(chance.choice((1, 1, 2, 4, 8, 64, 512)), len(content) - at)
        kind = chance.randrange(8)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            content[at : at + size] = chance.randbytes(size)
        elif kind == 2:
            del content[at : at + size]
        elif kind == 3:
            content[at:at] = content[at : at + size] * chance.choice((1, 2, 50))
        elif kind == 4:
            content[at:at] = chance.choice(_WORDS)
        elif kind == 5:
            word = chance.choice(_WORDS)
            content[at : at + len(word)] = word
        elif kind == 6:
            del content[at:]
        else:
            other = chance.randrange(len(content) + 1)
            content[at:at] = content[other : other + size]
    return bytes(content)


def attack(target: Target, content: bytes, folder: Path) -> str | None:
    """Give a reader a hostile file; return what went wrong, None if it was read or refused as it should be."""
    place = folder / "reader"
    file = fill(place, target, content)
    before = _listing(folder, place)
    began = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(place, file)
    except AudioMambaError as error:
        if "\n" in str(error) and not isinstance(error, LabelError):  # which lists all that is wrong
            return f"an error of several lines: {str(error)[:300]!r}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return traceback.format_exc()
    if time.monotonic() - began > SECONDS_AN_INPUT:
        return f"took {time.monotonic() - began:.0f} s"
    if _listing(folder, place) != before:
        return f"wrote outside its folder: {sorted(_listing(folder, place) ^ before)}"
    return None


def _listing(folder: Path, besides: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if not path.is_relative_to(besides)}


def bounded() -> None:
    """Limit this process's memory, and end it when an input takes far too long."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(seconds: float, first_seed: int, keep: Path, only: str = "") -> tuple[int, list[str]]:
    """Attack all readers in turn.

    Args:
        seconds: for how long.
        first_seed: of the damages; input n is made from seed `first_seed` + n.
        keep: folder for inputs that broke a reader.
        only: part of the names of the readers to attack.

    Returns:
        How many inputs were tried, and the readers that broke, with reasons.
    """
    broken: dict[str, str] = {}
    count = 0
    with tempfile.TemporaryDirectory() as work:
        targets = [target for target in make_targets(Path(work)) if only in target.name]
        folder = Path(work, "attacked")
        folder.mkdir()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            target = targets[count % len(targets)]
            content = damaged(target.seed, random.Random(first_seed + count))
            keep.mkdir(parents=True, exist_ok=True)
            current = keep / "current"  # what it was, should the process die of it
            current.write_bytes(content)
            (keep / "current.txt").write_text(f"{target.name}, seed {first_seed + count}\n")
            reason = attack(target, content, folder)
            if reason is not None and target.name not in broken:
                broken[target.name] = reason
                name = f"{target.name.replace('/', '_')}-{first_seed + count}"
                (keep / name).write_bytes(content)
                (keep / f"{name}.txt").write_text(reason, encoding="utf-8", errors="backslashreplace")
            count += 1
    for name in ("current", "current.txt"):
        (keep / name).unlink(missing_ok=True)
    return count, [f"{name}: {reason.strip().splitlines()[-1]}" for name, reason in broken.items()]


def main() -> int:
    """Run from the command line; returns 1 if a reader broke."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first input; by default the clock's")
    parser.add_argument("--only", default="", metavar="PART", help="readers whose names hold this")
    parser.add_argument(
        "--keep", type=Path, default=Path("build/fuzz"), metavar="DIR", help="for what breaks one"
    )
    args = parser.parse_args()
    bounded()
    if hasattr(signal, "SIGALRM"):
        signal.alarm(int(args.seconds) + 60 * SECONDS_AN_INPUT)
    seed = int(time.time()) if args.seed is None else args.seed
    count, broken = run(args.seconds, seed, args.keep, args.only)
    print(f"{count} inputs from seed {seed} on, {len(broken)} readers broken")
    for line in broken:
        print(f"  {line}")
    return 1 if broken else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
