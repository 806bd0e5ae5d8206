"""Who may use the page: the file of names and passwords, and the check that a page which others can reach has one."""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from onion_lightning.errors import OnionError, UsageError, reason

__all__ = ["Accounts", "accounts_for", "hash_password", "is_loopback"]

# The PHC string format, as passlib writes it: log2 of N, r, p, salt and hash in base64 without padding.
PHC = re.compile(r"\$scrypt\$ln=(1[0-8]),r=(8|16|32),p=([1-9]|1[0-6])\$([\w+/]+)\$([\w+/]{22,})", re.ASCII)
# Hashes of other programs. Taken for a password, the hash itself would open the page.
HASH = re.compile(r"\$[\w-]+\$|\{[\w-]+\}|(scrypt|pbkdf2|bcrypt|argon2)\w*[:$]")


@dataclass(frozen=True)
class Secret:
    """A password's scrypt hash (RFC 7914). A password takes as long to check as another one with the same costs."""

    salt: bytes
    digest: bytes
    n: int = 2**14
    r: int = 8
    p: int = 5

    @classmethod
    def of(cls, password: str) -> "Secret":
        empty = cls(os.urandom(16), bytes(32))
        return replace(empty, digest=empty.hash(password))

    def hash(self, password: str) -> bytes:
        memory = 128 * self.r * (self.n + self.p + 2)
        # Surrogates: the browser's form may claim any encoding.
        return hashlib.scrypt(
            password.encode(errors="surrogatepass"),
            salt=self.salt, n=self.n, r=self.r, p=self.p, maxmem=memory, dklen=len(self.digest),
        )  # fmt: skip

    def matches(self, password: str) -> bool:
        return hmac.compare_digest(self.hash(password), self.digest)


def hash_password(password: str) -> str:
    """Return the hash of a password, for the file of `--auth_file`."""
    made = Secret.of(password)
    salt, digest = (base64.b64encode(part).decode().rstrip("=") for part in (made.salt, made.digest))
    return f"$scrypt$ln={made.n.bit_length() - 1},r={made.r},p={made.p}${salt}${digest}"


def read_secret(text: str) -> Secret:
    """Return the secret of a password or of a hash.

    Raises:
        ValueError: it is a hash that cannot be checked.
    """
    if not HASH.match(text):
        return Secret.of(text)
    if not (found := PHC.fullmatch(text)):
        raise ValueError("is none of scrypt")
    salt, digest = (base64.b64decode(part + "=" * (-len(part) % 4), validate=True) for part in found.groups()[3:])
    ln, r, p = (int(number) for number in found.groups()[:3])
    return Secret(salt, digest, 2**ln, r, p)


class Accounts:
    """Who may log in.

    Args:
        secrets: the hash of each name's password; at least one.
    """

    def __init__(self, secrets: dict[str, Secret]) -> None:
        self.secrets = secrets
        # An unknown name takes as long as a known one.
        self.nobody = replace(next(iter(secrets.values())), digest=os.urandom(32))
        self.one_at_a_time = asyncio.Lock()  # a hash takes 16 MB and a moment of a core

    async def admit(self, name: str, password: str) -> bool:
        """Return whether a password is that of a name."""
        async with self.one_at_a_time:
            return await asyncio.to_thread(self.secrets.get(name, self.nobody).matches, password)


def read_accounts(path: Path) -> Accounts:
    """Read a file with a line `name:password` or `name:hash` for each name; `#` begins a comment.

    Raises:
        OnionError: it cannot be read, a line is neither, or other users could read a password or change the file.
    """
    try:
        with path.expanduser().open(encoding="utf-8-sig") as file:
            mode = os.stat(file.fileno()).st_mode if os.name == "posix" else 0
            lines = [(part.strip() for part in line.partition(":")) for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise OnionError(f"--auth_file {path}: cannot be read ({reason(error)}).") from error
    forbidden = 0o022
    secrets: dict[str, Secret] = {}
    for number, (name, colon, text) in enumerate(lines, 1):
        if name.startswith("#") or not (name or colon):
            continue
        where = f"--auth_file {path}: line {number}"
        if not (name and text):
            raise OnionError(f"{where} has no name, colon or password; write name:password or name:hash.")
        if name in secrets:
            raise OnionError(f"{where} has the name of an earlier line; remove one of them.")
        try:
            secrets[name] = read_secret(text)
        except ValueError as error:
            raise OnionError(
                f"{where} has a hash that cannot be checked; write a scrypt hash (onion_lightning/serving/README.md)."
            ) from error
        if not HASH.match(text):
            forbidden = 0o077
    if not secrets:
        raise OnionError(f"--auth_file {path}: has no names; write a line name:password or name:hash for each.")
    if mode & forbidden:
        raise OnionError(
            f"--auth_file {path}: other users of this machine can read or change it; run chmod 600 {path}."
        )
    return Accounts(secrets)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def accounts_for(host: str, share: bool, auth_file: str | None, no_auth: bool) -> Accounts | None:
    """Return who may use the page, or None if everyone who can reach it may.

    Raises:
        OnionError: the file is not one of accounts, or others could reach the page without a login and were not let in.
        UsageError: the flags contradict each other.
    """
    if auth_file is not None:
        if no_auth:
            raise UsageError("--no_auth true: contradicts --auth_file; omit one of them.")
        return read_accounts(Path(auth_file))
    if no_auth or (is_loopback(host) and not share):
        return None
    raise OnionError(
        f"{'--share true' if share else f'--host {host}'}: others could write and vote without a login; give --auth_file"
        " FILE, or --no_auth true to let everyone in."
    )
