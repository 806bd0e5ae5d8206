"""The file of names and passwords, and which flags need it."""

import asyncio
import base64
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from onion_lightning.errors import OnionError, UsageError
from onion_lightning.serving.accounts import PHC, accounts_for, hash_password, read_accounts
from tests.conftest import ROOT


@pytest.fixture
def write(tmp_path):
    """Returns a function that writes a file of accounts."""

    def command(text, mode=0o600):
        file = tmp_path / "accounts.txt"
        file.unlink(missing_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        file.chmod(mode)
        return file

    return command


def admitted(file, name, password):
    return asyncio.run(read_accounts(file).admit(name, password))


def test_a_name_is_admitted_with_its_password_alone(write):
    text = f"\ufeff# the jury\r\nanna: egg:wins \r\n\r\nBert:{hash_password('Überegg')}\r\n"
    file = write(text)
    assert admitted(file, "anna", "egg:wins")
    assert admitted(file, "Bert", "Überegg")
    for name, password in (
        ("anna", "Überegg"),
        ("anna", "egg"),
        ("anna", ""),
        ("bert", "Überegg"),
        ("Bert", "\udcfc"),
        ("", ""),
        ("# the jury", ""),
        ("Bert", text.split("Bert:")[1].strip()),  # the hash is not a password
    ):
        assert not admitted(file, name, password), (name, password)


def test_a_hash_is_in_the_format_of_other_programs(write):
    # RFC 7914, section 12
    digest = bytes.fromhex("7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2")
    key = hashlib.scrypt(b"pleaseletmein", salt=b"SodiumChloride", n=16384, r=8, p=1, dklen=64)
    assert key[:32] == digest
    salt, key = (base64.b64encode(part).decode().rstrip("=") for part in (b"SodiumChloride", key))
    assert admitted(write(f"anna:$scrypt$ln=14,r=8,p=1${salt}${key}"), "anna", "pleaseletmein")
    first, second = hash_password("egg"), hash_password("egg")
    assert first != second
    assert PHC.fullmatch(first)


def test_an_unknown_name_costs_as_much_as_a_known_one(write, monkeypatch):
    accounts = read_accounts(write(f"anna:egg\nbert:{hash_password('egg')}"))
    costs, scrypt = [], hashlib.scrypt
    monkeypatch.setattr(
        hashlib,
        "scrypt",
        lambda password, **more: costs.append((more["n"], more["r"], more["p"])) or scrypt(password, **more),
    )
    for name in ("anna", "bert", "nobody"):
        assert not asyncio.run(accounts.admit(name, "wrong"))
    assert costs == [(2**14, 8, 5)] * 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no names; write a line name:password or name:hash for each."),
        ("# anna:egg\n\n", "has no names; write"),
        ("anna:egg\nbert", "line 2 has no name, colon or password; write name:password or name:hash."),
        ("anna:", "line 1 has no name, colon or password"),
        (":egg", "line 1 has no name, colon or password"),
        ("anna:egg\n\nanna :hen", "line 3 has the name of an earlier line; remove one of them."),
        ("anna:$2y$05$abcdefghijklmnopqrstuv", "line 1 has a hash that cannot be checked; write a scrypt hash"),
        ("anna:$apr1$salt$hash", "line 1 has a hash that cannot be checked"),
        ("anna:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", "line 1 has a hash that cannot be checked"),
        ("anna:pbkdf2_sha256$600000$salt$hash", "line 1 has a hash that cannot be checked"),
        ("anna:scrypt:32768:8:1$salt$hash", "line 1 has a hash that cannot be checked"),
        ("anna:$scrypt$ln=4,r=8,p=1$c2FsdA$" + "A" * 43, "line 1 has a hash that cannot be checked"),
        ("anna:$scrypt$ln=14,r=8,p=1$c2FsdA$" + "A" * 9, "line 1 has a hash that cannot be checked"),
        ("anna:$scrypt$ln=14,r=8,p=1$c2FsdA$" + "_" * 43, "line 1 has a hash that cannot be checked"),
        (b"anna:\xff", "cannot be read ('utf-8' codec"),
    ],
)
def test_a_bad_file_is_one_sentence_without_its_passwords(write, text, says):
    file = write(text)
    with pytest.raises(OnionError) as caught:
        read_accounts(file)
    assert str(caught.value).startswith(f"--auth_file {file}: {says}")
    assert str(caught.value).count(".") <= str(file).count(".") + 2
    assert "egg" not in str(caught.value)


@pytest.mark.parametrize("file", ["nowhere.txt", "."])
def test_a_file_that_cannot_be_read_is_one_sentence(file):
    with pytest.raises(OnionError, match=r"^--auth_file .*: cannot be read \((No such file|Is a directory)"):
        read_accounts(Path(file))


def test_passwords_that_other_users_can_read_are_refused_and_so_is_a_file_that_they_can_change(write):
    hashed = f"anna:{hash_password('egg')}"
    for text, mode in ((hashed, 0o644), (hashed, 0o640), ("anna:egg", 0o600), ("anna:egg", 0o400)):
        assert admitted(write(text, mode), "anna", "egg")
    for text, mode in ((hashed, 0o664), (hashed, 0o602), ("anna:egg", 0o604), ("anna:egg", 0o640)):
        with pytest.raises(OnionError, match=r"can read or change it; run chmod 600 .*accounts.txt\.$"):
            read_accounts(write(text, mode))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "my-laptop", "127.0.0.1.example.com", "127.1"])
def test_a_host_that_others_reach_is_refused_without_a_login(host):
    with pytest.raises(
        OnionError, match=f"^--host {host}: others could write and vote without a login; give --auth_file"
    ):
        accounts_for(host, False, None, False)
    assert accounts_for(host, False, None, True) is None


def test_this_machine_needs_no_login_and_a_public_address_does(write):
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"):
        assert accounts_for(host, False, None, False) is None
        with pytest.raises(OnionError, match=r"^--share true: others could write"):
            accounts_for(host, True, None, False)
        assert accounts_for(host, True, None, True) is None
        assert accounts_for(host, True, str(write("anna:egg")), False) is not None
    with pytest.raises(UsageError, match=r"^--no_auth true: contradicts --auth_file; omit one of them\.$"):
        accounts_for("0.0.0.0", False, str(write("anna:egg")), True)


def test_the_line_of_the_readme_writes_a_line_of_the_file(write):
    [line] = [
        line
        for line in (ROOT / "onion_lightning/serving/README.md").read_text().splitlines()
        if line.startswith("python -c ") and line.endswith(" >> accounts.txt")
    ]
    file = write("")
    script = f"import getpass; getpass.getpass = lambda: 'egg wins'; {line.split(chr(34))[1]}"
    with file.open("a") as output:
        subprocess.run(
            [sys.executable, "-c", script], stdout=output, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
    assert "egg wins" not in file.read_text()
    assert admitted(file, "anna", "egg wins")
