"""Configurations with a mistake, each with the problems that are reported."""

from tests.core.config_text import SHA1, SHA256, A, L, S, U

CHARS = "letters, digits, '.', '_' and '-', at most 64 of them"
WRITE = "write 0.0.0.0:82, :82, [::]:82, unix:/PATH or a Twisted endpoint"
IPV6 = r": the colons of an IPv6 address are written \:"
END = "end after the port, the client's own target is sent"
INDENTED = "indented, which would make it part of the line above: start in column 1"
TLS = A + "certificate = crt.pem\nprivate_key = key.pem\n"

BAD = {
    # the file and its lines
    "": ["1: no listener: without a [listener NAME] section there is nothing to bind"],
    U: ["1: no listener: without a [listener NAME] section there is nothing to bind"],
    b"\xff\xfe[\0": ["1: UTF-16: save it as UTF-8"],
    (L + "# caf\xe9\n").encode("latin-1"): ["6: [listener a]: not UTF-8: byte 0xe9 in column 6"],
    L + "http\n": ["6: [listener a] http: no '=' in this line"],
    L + "http: refuse\n": ["6: [listener a] http:: no '=' in this line"],
    L + "= refuse\n": ["6: [listener a]: no key before the '='"],
    L + "  http = refuse\n": [f"6: [listener a] http: {INDENTED}"],
    L + "\thttp = never\n": [
        f"6: [listener a] http: {INDENTED}",
        "6: [listener a] http: 'never' is not refuse, forward or portal",
    ],
    L + "\n [proxy]\n": [f"7: [listener a]: {INDENTED}"],
    L + "router = st\x00atic\n": [
        "6: [listener a] router: invisible character: control character, U+0000 in column 12"
    ],
    L + "router =\u00a0static\n": [
        "6: [listener a] router: invisible character: no-break space, U+00A0 in column 9"
    ],
    "listen = :80\n" + L: ["1: listen: stands before the first section"],
    L + "listen = :81\n": ["6: [listener a] listen: given twice, first in line 4"],
    L + "[proxy\nfoo = 1\n": ["6: no section header: [proxy"],
    L + "[proxy] x\n": ["6: no section header: [proxy] x"],
    L + "[ ]\n": ["6: no section header: [ ]"],
    L + "[proxy]\n[proxy]\n": ["7: [proxy]: section given twice, first in line 6"],
    L + "[listener  a]\nlisten = :81\nupstream = u\n": [
        "6: [listener a]: section given twice, first in line 3"
    ],
    # sections
    L + "[DEFAULT]\nfoo = 1\n": [
        "6: [DEFAULT]: unknown section: there are [proxy], [listener NAME], [upstream NAME], "
        "[router NAME], [authenticator NAME], [admin], [vsphere NAME] and [access NAME]"
    ],
    U + "[listner a]\n": ["3: [listner a]: unknown section: did you mean [listener a]?"],
    L + "[Upstream x]\n": ["6: [Upstream x]: unknown section: did you mean [upstream x]?"],
    L + "[prox]\n": ["6: [prox]: unknown section: did you mean [proxy]?"],
    L + "[proxy main]\n": ["6: [proxy main]: takes no name: write [proxy]"],
    L + "[upstream]\nurl = ws://h\n": ["6: [upstream]: has no name: write [upstream NAME]"],
    L + "[upstream a b]\nurl = ws://h\n": [f"6: [upstream a b]: 'a b' is no name: {CHARS}"],
    # keys
    L + "liten = :81\n": ["6: [listener a] liten: unknown key: did you mean listen?"],
    L + "Router = static\n": ["6: [listener a] Router: unknown key: did you mean router?"],
    L + "tls-minimum = 1.3\n": ["6: [listener a] tls-minimum: unknown key: did you mean tls_minimum?"],
    L + "colour = red\n": ["6: [listener a] colour: unknown key in [listener NAME]"],
    L + "url = ws://h\n": [
        "6: [listener a] url: not a key of [listener NAME]: it belongs in [upstream NAME]"
    ],
    U + "head_timeout = 1s\n" + A: [
        "3: [upstream u] head_timeout: not a key of [upstream NAME]: "
        "it belongs in [proxy] and [listener NAME]"
    ],
    L + "router =\n": ["6: [listener a] router: has no value"],
    L + "router = ; static\n": ["6: [listener a] router: has no value"],
    U + "[listener a]\nupstream = u\n": ["3: [listener a] listen: missing"],
    U + "[listener a]\nLISTEN = :80\nupstream = u\n": [
        "4: [listener a] LISTEN: unknown key: did you mean listen?"
    ],
    U + "[listener a]\nlisten :80\nupstream = u\n": ["4: [listener a] listen: no '=' in this line"],
    "[upstream u]\n" + A: ["1: [upstream u] url: missing"],
    U + "[listener a]\nlisten = :80\n": [
        "3: [listener a] upstream: missing: name an upstream, or a router that chooses one"
    ],
    # proxy: durations, sizes, state
    L + "[proxy]\nstate = sqlite:\n": [
        "7: [proxy] state: 'sqlite:' is not memory:, sqlite:PATH, redis://HOST or redis+sentinel://HOST/SERVICE"
    ],
    L + "[proxy]\nstate = sqlite:none/state.db\n": ["7: [proxy] state: no such folder: none"],
    L + "[proxy]\nstate = redis://proxy:pa55word@r1\n": [
        "7: [proxy] state: has a password, which the configuration and its backups would show: write the "
        "password into a file, and name it as state_password_file"
    ],
    L + "[proxy]\nstate = redis:proxy:pa55word@r1\n": [
        "7: [proxy] state: a URL is not memory:, sqlite:PATH, redis://HOST or redis+sentinel://HOST/SERVICE"
    ],
    L + "[proxy]\nstate = redis://r1:99999\n": [
        "7: [proxy] state: '99999' is no port: a number from 1 to 65535"
    ],
    L + "[proxy]\nstate = redis://r1/one\n": [
        "7: [proxy] state: 'one' is no number of a database, as in redis://HOST/0"
    ],
    L + "[proxy]\nstate = redis://r1/0?password=x\n": [
        "7: [proxy] state: has a query or a fragment: end after the number of the database"
    ],
    L + "[proxy]\nstate = redis://\n": ["7: [proxy] state: has no host"],
    L + "[proxy]\nstate = redis://proxy@r1\n": [
        "7: [proxy] state: has a user: name the file of its password as state_password_file"
    ],
    L + "[proxy]\nstate_password_file = lab\n": [
        "7: [proxy] state_password_file: needs the URL of a Redis server as state in the same section"
    ],
    L + "[proxy]\nstate = redis+sentinel://proxy:pa55word@s1/lab\n": [
        "7: [proxy] state: has a password, which the configuration and its backups would show: write the "
        "password into a file, and name it as state_password_file"
    ],
    L + "[proxy]\nstate = redis+sentinel://s1,s2\n": [
        "7: [proxy] state: has no name of a service behind its Sentinels, as in redis+sentinel://HOST/mymaster"
    ],
    L + "[proxy]\nstate = redis+sentinel://s1,S1:26379/lab\n": ["7: [proxy] state: has a Sentinel twice"],
    L + "[proxy]\nstate = redis+sentinel://s1,/lab\n": ["7: [proxy] state: has no host"],
    L + "[proxy]\nstate = redis+sentinel://" + ",".join(f"s{n}" for n in range(17)) + "/lab\n": [
        "7: [proxy] state: has more than 16 Sentinels"
    ],
    L + "[proxy]\nstate = redis+sentinel://s1/lab/one\n": [
        "7: [proxy] state: 'one' is no number of a database, as in redis+sentinel://HOST/lab/0"
    ],
    L + "[proxy]\nstate = redis://r1\nstate_sentinel_password_file = lab\n": [
        "8: [proxy] state_sentinel_password_file: needs state = redis+sentinel://HOST/SERVICE in the same "
        "section"
    ],
    L + "[proxy]\nstate_down = admit\n": [
        "7: [proxy] state_down: needs the URL of a Redis server as state in the same section"
    ],
    L + "[proxy]\nstate = redis://r1\nstate_down = allow\n": [
        "8: [proxy] state_down: 'allow' is not refuse or admit"
    ],
    L + "[proxy]\nworkers = 2\nstate = memory:\n": [
        "8: [proxy] state: memory: serves one process only: several workers need sqlite:PATH, or no such key"
    ],
    L + "[proxy]\nworkers = 0\n": ["7: [proxy] workers: '0' is no number of at least 1"],
    L + "[proxy]\nworkers = many\n": ["7: [proxy] workers: 'many' is no number of at least 1"],
    L + "[proxy]\nworkers = 1000\n": ["7: [proxy] workers: 1000 workers are too many: at most 256"],
    L + "[proxy]\nmax_sessions = -1\n": ["7: [proxy] max_sessions: '-1' is no number of at least 1"],
    L + "[proxy]\nsession_rate = 0.0\n": [
        "7: [proxy] session_rate: '0.0' is no number a second: write 10, 0.5, or off"
    ],
    L + "[proxy]\nkeepalive = yes\n": ["7: [proxy] keepalive: 'yes' is not console, lan or off"],
    U + "max_sessions = 5\n" + A: [
        "3: [upstream u] max_sessions: not a key of [upstream NAME]: "
        "it belongs in [proxy] and [listener NAME]"
    ],
    L + "[proxy]\nservices = demo,\n": [f"7: [proxy] services: '' is no name: {CHARS}"],
    L + "[proxy]\nclose_timeout = 5\n": [
        "7: [proxy] close_timeout: '5' is no duration: write 500ms, 30s, 10m, 1h or 2d"
    ],
    L + "[proxy]\nclose_timeout = 1.5s\n": [
        "7: [proxy] close_timeout: '1.5s' is no duration: write 500ms, 30s, 10m, 1h or 2d"
    ],
    L + "[proxy]\nclose_timeout = ٣s\n": [
        "7: [proxy] close_timeout: '٣s' is no duration: write 500ms, 30s, 10m, 1h or 2d"
    ],
    L + "[proxy]\nclose_timeout = -1s\n": [
        "7: [proxy] close_timeout: '-1s' is no duration: write 500ms, 30s, 10m, 1h or 2d"
    ],
    L + "[proxy]\nclose_timeout = 0s\n": ["7: [proxy] close_timeout: must be more than 0"],
    L + "[proxy]\nclose_timeout = off\n": ["7: [proxy] close_timeout: cannot be off"],
    L + "[proxy]\nidle_timeout = 0s\n": ["7: [proxy] idle_timeout: must be more than 0, or off"],
    L + "[proxy]\nidle_timeout = 366d\n": ["7: [proxy] idle_timeout: '366d' is too long: at most 365d"],
    L + "[proxy]\nidle_timeout = " + "9" * 400 + "s\n": [
        "7: [proxy] idle_timeout: '" + "9" * 57 + "...' is no duration: write 500ms, 30s, 10m, 1h or 2d"
    ],
    L + "[proxy]\nmax_frame = 64KB\n": [
        "7: [proxy] max_frame: '64KB' is no size: write 64KiB, 1MiB, a number of bytes, or off"
    ],
    L + "[proxy]\nmax_frame = 0KiB\n": ["7: [proxy] max_frame: must be more than 0, or off"],
    L + "[proxy]\nmax_frame = 9999999999GiB\n": [
        "7: [proxy] max_frame: '9999999999GiB' is too large: at most 9223372036854775807"
    ],
    # listeners
    **{
        U + f"[listener a]\nlisten = {value}\nupstream = u\n": [f"4: [listener a] listen: {text}"]
        for value, text in {
            "80": f"'80' is no address: {WRITE}",
            "localhost:80": f"'localhost:80' is no address: {WRITE}",
            "::1:80": f"'::1:80' is no address: {WRITE}",
            "0.0.0.0": f"'0.0.0.0' is no address: {WRITE}",
            "1.2.3:80": f"'1.2.3' is no IP address: {WRITE}",
            "1.2.3.256:80": f"'1.2.3.256' is no IP address: {WRITE}",
            "[1.2.3.4]:80": f"'[1.2.3.4]' is no IP address: {WRITE}",
            "[]:80": f"'[]' is no IP address: {WRITE}",
            ":65536": "'65536' is no port: a number from 0 to 65535",
            ":٨٠": f"':٨٠' is no address: {WRITE}",
            "tcp:http": "'http' is no port: a number from 0 to 65535",
            "tcp:interface=127.0.0.1": "tcp: takes a port",
            "tcp:80:interface=localhost": "'localhost' is no IP address, in interface=",
            "tcp6:80:interface=::": rf"one ':' too many for tcp6:{IPV6}",
            "tcp:80:127.0.0.1:50:60": "one ':' too many for tcp:",
            "tcp:80:iface=127.0.0.1": "'iface' is unknown to tcp: which takes port, interface, backlog",
            "tcp:80:backlog=many": "'many' is no backlog: a number",
            "tcp:80\\": "ends with a backslash",
            "ssl:443": "TLS comes from certificate and private_key: write tcp: for ssl:",
            "ssl:443:privateKey=x": "TLS comes from certificate and private_key: write tcp: for ssl:",
            "unix:mode=660": "unix: takes an address",
            "unix:/x:mode=rw": "'rw' is no mode: octal digits, as in mode=660",
            "unix:/" + "x" * 107: "the path of a unix socket has at most 107 bytes: /" + "x" * 107,
            "systemd:domain=INET": "systemd: takes either an index or a name",
        }.items()
    },
    L + "[listener b]\nlisten = 127.0.0.1:80\nupstream = u\n": [
        "7: [listener b] listen: 127.0.0.1:80 is taken by [listener a] in line 4: :80"
    ],
    L + "[listener b]\nlisten = [::]:80\nupstream = u\n": [
        "7: [listener b] listen: [::]:80 is taken by [listener a] in line 4: :80"
    ],
    L + "[listener b]\nlisten = unix:x\nupstream = u\n[listener c]\nlisten = unix:./x\nupstream = u\n": [
        "10: [listener c] listen: unix:./x is taken by [listener b] in line 7: unix:x"
    ],
    L + "certificate = crt.pem\n": ["6: [listener a] certificate: needs a private_key in the same section"],
    L + "private_key = key.pem\n": ["6: [listener a] private_key: needs a certificate in the same section"],
    L + "tls_minimum = 1.3\n": ["6: [listener a] tls_minimum: only with a certificate and a private_key"],
    L + "client_ca = crt.pem\n": ["6: [listener a] client_ca: only with a certificate and a private_key"],
    TLS + "tls_minimum = 1.1\n" + U: ["6: [listener a] tls_minimum: '1.1' is not 1.2 or 1.3"],
    TLS + "client_certificates = optional\n" + U: [
        "6: [listener a] client_certificates: needs a client_ca in the same section"
    ],
    TLS + "client_ca = ca.pem\n" + U: ["6: [listener a] client_ca: no such file: ca.pem"],
    L + "certificate = tls/x.crt\nprivate_key = tls/x.key\n": [
        "6: [listener a] certificate: no such file: tls/x.crt",
        "7: [listener a] private_key: no such file: tls/x.key",
    ],
    L + "certificate = folder\nprivate_key = text/x\n": [
        "6: [listener a] certificate: is a folder: folder",
        "7: [listener a] private_key: cannot be read (Not a directory): text/x",
    ],
    L + "certificate = text\nprivate_key = text\n": [
        "6: [listener a] certificate: no PEM file, nothing begins with -----BEGIN: text",
        "7: [listener a] private_key: no PEM file, nothing begins with -----BEGIN: text",
    ],
    L + "certificate = key.pem\nprivate_key = crt.pem\n": [
        "6: [listener a] certificate: has no CERTIFICATE, but PRIVATE KEY: key.pem",
        "7: [listener a] private_key: has no PRIVATE KEY, but CERTIFICATE: crt.pem",
    ],
    L + "paths = /ui/, ticket\n": [
        "6: [listener a] paths: 'ticket' is no path prefix: write /ticket/ or /ui/, percent-encoded"
    ],
    L + "health = readyz\n": ["6: [listener a] health: 'readyz' is no path: write /readyz"],
    L + "health = /readyz?x\n": ["6: [listener a] health: '/readyz?x' is no path: write /readyz"],
    L + "health = /a/../readyz\n": [
        "6: [listener a] health: '/a/../readyz' can be read in two ways: "
        "no //, no dot segments, no %2F and the like"
    ],
    L + "paths = /a?b\n": [
        "6: [listener a] paths: '/a?b' is no path prefix: write /ticket/ or /ui/, percent-encoded"
    ],
    L + "paths = /a/../b\n": [
        "6: [listener a] paths: '/a/../b' can be read in two ways: "
        "no //, no dot segments, no %2F and the like"
    ],
    L + "trusted_proxies = 10.0.0.1/8\n": [
        "6: [listener a] trusted_proxies: '10.0.0.1/8' has host bits set: "
        "write 10.0.0.0/8, 192.0.2.7, 2001:db8::/32 or unix"
    ],
    L + "trusted_proxies = lb\n": [
        "6: [listener a] trusted_proxies: 'lb' is no network: "
        "write 10.0.0.0/8, 192.0.2.7, 2001:db8::/32 or unix"
    ],
    L + "proxy_protocol = v2\n": ["6: [listener a] proxy_protocol: 'v2' is not yes or no"],
    A + U + "send_proxy_protocol = yes\n": [
        "6: [upstream u] send_proxy_protocol: 'yes' is not off, v1 or v2"
    ],
    L + "http = yes\n": ["6: [listener a] http: 'yes' is not refuse, forward or portal"],
    L + "router = a/b\n": [f"6: [listener a] router: 'a/b' is no name: {CHARS}"],
    L + "authenticator = a b\n": [f"6: [listener a] authenticator: 'a b' is no name: {CHARS}"],
    S + A.replace("= u", "= v"): ["5: [listener a] upstream: no [upstream v]: there is u"],
    A: ["3: [listener a] upstream: no [upstream u]: there is none"],
    # upstreams
    **{
        A + f"[upstream u]\nurl = {value}\n": [f"5: [upstream u] url: {text}"]
        for value, text in {
            "192.0.2.10": "'192.0.2.10' has no scheme: write ws:// or wss://",
            "https://h": "'https://h' begins with https://: write wss://",
            "http://h": "'http://h' begins with http://: write ws://",
            "ftp://h": "'ftp://h' begins with ftp://: write ws:// or wss://",
            "ws://h/": f"'ws://h/' has a path: {END}",
            "ws://h/ticket": f"'ws://h/ticket' has a path: {END}",
            "ws://h?a=b": f"'ws://h?a=b' has a query: {END}",
            "ws://h#a": f"'ws://h#***' has a fragment: {END}",
            "ws://u:p@h": "has a user or a password: an upstream takes none",
            "ws://": "has no host",
            "ws://:80": "has no host",
            "ws://h:": "'' is no port: a number from 1 to 65535",
            "ws://h:0": "'0' is no port: a number from 1 to 65535",
            "ws://h:65536": "'65536' is no port: a number from 1 to 65535",
            "ws://h:http": "'http' is no port: a number from 1 to 65535",
            "ws://2001:db8::1": "'2001' is no IPv4 address",
            "ws://192.0.2.256": "'192.0.2.256' is no IPv4 address",
            "ws://[192.0.2.1]": "'[192.0.2.1]' is no IPv6 address",
            "ws://[::1": "'ws://[::1': an IPv6 address stands in brackets, as in ws://[2001:db8::1]",
            "ws://[fe80::1%eth0]": "'[fe80::1%eth0]' has a zone, which no URL can carry",
            "ws://-h": "'-h' is no host name",
            "ws://a..b": "'a..b' is no host name",
            "ws://h h": "'h h' is no host name",
            "ws://grün": "'grün': write the name in its ASCII form, xn--...",
            "ws://localhost:80": "is the proxy's own [listener a]: the proxy would connect to itself",
            "ws://127.0.0.1": "is the proxy's own [listener a]: the proxy would connect to itself",
            "ws://0.0.0.0:80": "is the proxy's own [listener a]: the proxy would connect to itself",
        }.items()
    },
    U.replace("192.0.2.10", "[::1]") + A.replace(":80", "[::]:80"): [
        "2: [upstream u] url: is the proxy's own [listener a]: the proxy would connect to itself"
    ],
    U + A.replace(":80", "192.0.2.10:80"): [
        "2: [upstream u] url: is the proxy's own [listener a]: the proxy would connect to itself"
    ],
    L.replace("ws:", "wss:").replace("[listener", "verify = maybe\n[listener"): [
        "3: [upstream u] verify: 'maybe' is not system, ca, pin or none"
    ],
    A + S + "verify = pin\n": ["6: [upstream u] verify: verify = pin needs a key named pin"],
    A + S + "verify = ca\n": ["6: [upstream u] verify: verify = ca needs a key named ca"],
    A + S + f"pin = sha1:{SHA1}\n": ["6: [upstream u] pin: only with verify = pin"],
    A + S + f"verify = ca\nca = crt.pem\npin = sha1:{SHA1}\n": [
        "8: [upstream u] pin: only with verify = pin"
    ],
    A + S + "ca = crt.pem\n": ["6: [upstream u] ca: only with verify = ca"],
    A + S + "verify = ca\nca = ca.pem\n": ["7: [upstream u] ca: no such file: ca.pem"],
    A + U + "verify = none\n": [
        "6: [upstream u] verify: only with wss://: a ws:// upstream has no certificate"
    ],
    A + S + "tls_profile = modern\n": ["6: [upstream u] tls_profile: 'modern' is not intermediate or old"],
    A + U + "tls_profile = old\n": [
        "6: [upstream u] tls_profile: only with wss://: a ws:// upstream speaks no TLS"
    ],
    A + U + f"verify = pin\npin = sha1:{SHA1}\n": [
        "6: [upstream u] verify: only with wss://: a ws:// upstream has no certificate",
        "7: [upstream u] pin: only with wss://: a ws:// upstream has no certificate",
    ],
    **{
        A + S + f"verify = pin\npin = {value}\n": [f"7: [upstream u] pin: {text}"]
        for value, text in {
            "sha1:5c5c": "a sha1 thumbprint has 40 hex digits, and this one has 4",
            f"sha256:{SHA1}": "a sha256 thumbprint has 64 hex digits, and this one has 40",
            f"sha256:{SHA256}, sha1:{SHA1}0": "a sha1 thumbprint has 40 hex digits, and this one has 41",
            "sha1:" + "5g" * 20: "'g' is no hex digit, in a sha1 thumbprint",
            SHA1: f"'{SHA1}' is no thumbprint: write sha256:HEX or sha1:HEX",
            "md5:5c": "'md5:5c' is no thumbprint: write sha256:HEX or sha1:HEX",
            f"sha1:{SHA1},": "'' is no thumbprint: write sha256:HEX or sha1:HEX",
        }.items()
    },
    A + U + "host = none\n": ["6: [upstream u] host: cannot be none: every request has a Host"],
    A + U + "host = https://vc\n": [
        "6: [upstream u] host: 'https://vc' is no Host: write upstream, client, or NAME[:PORT]"
    ],
    A + U + "host = Client\n": ["6: [upstream u] host: 'Client': write client"],
    A + U + "host = a b\n": [
        "6: [upstream u] host: 'a b' cannot be sent: no spaces and nothing but ASCII in a field's value"
    ],
    A + U + "origin = https://grün\n": [
        "6: [upstream u] origin: 'https://grün' cannot be sent: "
        "no spaces and nothing but ASCII in a field's value"
    ],
    A + U + "origin = None\n": ["6: [upstream u] origin: 'None': write none"],
    A + U + "subprotocol = binary\n": ["6: [upstream u] subprotocol: 'binary' is not bridge or pass"],
}
