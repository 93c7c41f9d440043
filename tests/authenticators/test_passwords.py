"""Password hashes and password files: accepted ones, and refusals with their lines."""

import subprocess
import sys

import pytest
from argon2 import PasswordHasher, Type

from esxiproxy.authenticators.password_file import PasswordFileError, parse_passwords, read_passwords
from esxiproxy.core.apr1 import apr1
from esxiproxy.core.passwords import MAX_PASSWORD, UnusableHash, parse_hash
from esxiproxy.plugins import BadValue
from tests.support.growth import grows
from tests.support.programs import environment, need

SHA = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
APR1 = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/"
ARGON2 = "$argon2id$v=19$m=8,t=1,p=1$sOo2wapINa/iGGQxTdmhsw$1JR2pzkYAvq91RYtg86HtGhs+DKPE1h+YrZCBSotccU"


def bcrypt_of(password, prefix=b"2b"):
    import bcrypt

    return bcrypt.hashpw(password, bcrypt.gensalt(4)).replace(b"$2b", b"$" + prefix).decode()


ACCEPTED = {
    "bcrypt 2b": bcrypt_of(b"secret"),
    "bcrypt 2y": bcrypt_of(b"secret", b"2y"),
    "bcrypt 2a": bcrypt_of(b"secret", b"2a"),
    "argon2id": ARGON2,
    "argon2i": PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, type=Type.I).hash("secret"),
    "sha1": SHA,
    "apr1": APR1,
}
LONG = {
    "bcrypt": bcrypt_of(b"x" * 72),
    "argon2": PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x" * 73),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_hash_knows_its_password(name):
    found = parse_hash(ACCEPTED[name])
    assert found.verify(b"secret")
    wrong = [b"", b"Secret", b"secret ", b"secret\0", b"\0", b"\xff" * 40, b"x" * 73, b"x" * 100_000]
    assert not any(found.verify(password) for password in wrong)
    assert ACCEPTED[name] not in repr(found)


def test_a_password_that_bcrypt_cannot_hash_is_wrong():
    found = parse_hash(LONG["bcrypt"])
    assert found.verify(b"x" * 72) and not found.verify(b"x" * 73)
    assert parse_hash(LONG["argon2"]).verify(b"x" * 73)


def test_the_longest_password_is_bounded():
    found = parse_hash("$apr1$a$" + apr1(b"x" * (MAX_PASSWORD + 1), b"a"))
    assert not found.verify(b"x" * (MAX_PASSWORD + 1))


@pytest.mark.parametrize(
    ("password", "salt", "expected"),
    [  # of openssl passwd -apr1
        (b"secret", b"abcdefgh", "h9FWgUz3n9YxylKLlR5SQ/"),
        (b"", b"abcdefgh", "L.PT565ESX4Tp2bqNs7Ie."),
        (b"a", b"x", "16j9.5e7KiXmuYFAYpPJM/"),
        (b"0123456789abcdef", b"12345678", "vc38ZupyU1KkWqFuFfTA/."),
        (b"0123456789abcdefg" * 3, b"./", "aFP2ZA9g7vWQ.HZ2t7fgg0"),
        ("p\u00e4ss w\u00f6rd".encode(), b"abc", "ziX8JyYHAmTlGhjES2IMR."),
    ],
)
def test_apr1_is_that_of_apache(password, salt, expected):
    assert apr1(password, salt) == expected


REFUSED = {
    "": "there is no hash behind the name",
    "p6BjYUP8o/2dw": "the hash is DES crypt, of which eight characters of a password count",
    "$1$abcdefgh$pluRkL2WFnB0SOvJZOrmF.": "the hash is MD5 crypt, which is not supported",
    "$5$salt$WW5JvEf.Zx/EZma7MmrpHRv.xJLO2EojfF.1RnmB837": "the hash is SHA-256 crypt",
    "$6$salt$i0WaftSdvk341IvKZZ.Kub": "the hash is SHA-512 crypt",
    "$y$j9T$abc$def": "the hash is yescrypt",
    "$7$abc": "the hash is scrypt",
    "{SSHA}abcdefgh": "the hash is salted SHA-1",
    "{PLAIN}hunter2": "the hash is a plain password",
    "hunter2": "the hash has no known format, or is a plain password",
    "$2x$04$" + "a" * 53: "the hash is bcrypt of another version",
    "$2y$04$" + "a" * 52: "the bcrypt hash is incomplete",
    "$2y$04$" + "a" * 53: "the bcrypt hash is incomplete",
    "$2y$03$" + "." * 53: "the bcrypt hash has the cost 3: 4 to 17 are accepted",
    "$2y$31$" + "." * 53: "the bcrypt hash has the cost 31",
    "$argon2d$v=19$m=8,t=1,p=1$5Q2YiWmYq5oCXPNa$cVFzjwItu008": "the hash is argon2d",
    ARGON2[:-1]: "the argon2 hash is incomplete",
    ARGON2[:-1] + "/": "the argon2 hash is incomplete",
    ARGON2.replace("m=8", "m=7"): "the argon2 hash has parameters that are not accepted",
    ARGON2.replace("m=8", "m=99999999"): "the argon2 hash has parameters that are not accepted",
    ARGON2.replace("t=1", "t=0"): "the argon2 hash has parameters that are not accepted",
    ARGON2.replace("p=1", "p=999"): "the argon2 hash has parameters that are not accepted",
    "$apr1$abcdefghi$h9FWgUz3n9YxylKLlR5SQ/": "the apr1 hash is incomplete",
    "$apr1$abc$": "the apr1 hash is incomplete",
    "{SHA}5en6": "the SHA-1 hash is incomplete",
    "{SHA}\u00fc": "the SHA-1 hash is incomplete",
}


@pytest.mark.parametrize("text", REFUSED)
def test_another_hash_is_refused(text):
    with pytest.raises(UnusableHash, match="^" + REFUSED[text].replace("(", "[(]")) as caught:
        parse_hash(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "text"), [("bcrypt", ACCEPTED["bcrypt 2y"]), ("argon2", ACCEPTED["argon2id"])]
)
def test_a_missing_library_is_a_mistake_of_the_line(monkeypatch, module, text):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PasswordFileError, match=rf"^line 1: .*{module}.* pip install 'esxiproxy\[auth\]'"):
        parse_passwords(f"alice:{text}\n".encode())


def test_a_file_has_comments_and_empty_lines():
    text = f"\n# users\n  \t\r\nalice:{SHA}\r\n bob:{APR1}:Bob, of the lab\nj\u00fcrgen mann:{SHA}"
    passwords = parse_passwords(text.encode())
    assert list(passwords.users) == ["alice", "bob", "j\u00fcrgen mann"]
    assert all(known.verify(b"secret") for known in passwords.users.values())
    assert SHA not in repr(passwords) and parse_passwords(b"").users == {}


def test_every_mistake_has_its_line():
    with pytest.raises(PasswordFileError) as caught:
        parse_passwords(
            b"alice:"
            + SHA.encode()
            + b"\nbob\n\nbob:p6BjYUP8o/2dw\nalice:"
            + APR1.encode()
            + b"\n\xff:x\n:x\n"
            b"a\x1bb:x\nanonymous:" + SHA.encode() + b"\n" + b"n" * 256 + b":x\n"
        )
    lines = [(mistake.line, mistake.text.partition(":")[0]) for mistake in caught.value.mistakes]
    assert lines == [
        (2, "has no colon"),
        (4, "the hash is DES crypt, of which eight characters of a password count"),
        (5, "the user alice is in line 1 already"),
        (6, "is not UTF-8"),
        (7, "the name is empty, has control characters or is surrounded by spaces"),
        (8, "the name is empty, has control characters or is surrounded by spaces"),
        (9, "anonymous is the name of clients that have not logged in"),
        (10, "the name has more than 255 bytes"),
    ]


def test_the_text_of_many_mistakes_is_short():
    with pytest.raises(PasswordFileError) as caught:
        parse_passwords(b"hunter2\n" * 1000)
    assert str(caught.value).endswith("; and 980 more") and "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("path", "text"), [("none", "no such file"), (".", "cannot be read")])
def test_an_unreadable_file_is_named(tmp_path, path, text):
    with pytest.raises(BadValue, match=text):
        read_passwords(tmp_path / path)


def test_a_file_that_is_too_large_is_refused(tmp_path):
    with (tmp_path / "users").open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(BadValue, match="more than 16 MiB"):
        read_passwords(tmp_path / "users")


def test_the_decoy_of_a_name_is_one_of_the_hashes_and_stays():
    passwords = parse_passwords(f"a:{SHA}\nb:{APR1}\n".encode())
    decoys = [passwords.decoy(f"nobody{number}", b"key") for number in range(50)]
    assert decoys == [passwords.decoy(f"nobody{number}", b"key") for number in range(50)]
    assert set(decoys) == set(passwords.users.values())
    assert parse_passwords(b"").decoy("x", b"key") is None


@pytest.mark.parametrize("unit", [b"a", b":", b"\n", b"$", b" ", b"\xff", b"#", b"a:$2y$04$\n", b"a:{SHA}\n"])
def test_a_file_is_read_in_linear_time(unit):
    def read(content):
        with pytest.raises(PasswordFileError):
            parse_passwords(content)

    assert not grows(read, lambda size: unit * (size // len(unit)) + b"\nx", 1000)


HTPASSWD = {"-B": True, "-s": True, "-m": True, "-2": False, "-5": False, "-d": False}


@pytest.mark.parametrize("option", HTPASSWD)
def test_a_file_of_debians_htpasswd(tmp_path, option):
    program, file = need("htpasswd", "apache2-utils"), tmp_path / "users"
    for name, password in (("alice", "secret"), ("bob", "p\u00e4ss w\u00f6rd")):
        create = ["-c"] if name == "alice" else []
        command = [program, *create, "-i", option, str(file), name]
        subprocess.run(
            command, input=password.encode(), check=True, capture_output=True, timeout=60, env=environment()
        )
    if HTPASSWD[option]:
        users = read_passwords(file).users
        assert users["alice"].verify(b"secret") and not users["alice"].verify(b"Secret")
        assert users["bob"].verify("p\u00e4ss w\u00f6rd".encode())
        return
    with pytest.raises(PasswordFileError) as caught:
        read_passwords(file)
    assert [mistake.line for mistake in caught.value.mistakes] == [1, 2]
