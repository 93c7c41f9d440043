"""Which directives are carried over, which lose nothing when they are not, and which must not get lost."""

from __future__ import annotations

from esxiproxy.nginx.source import Directive


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CARRIED = _words(
    "http server location listen server_name ssl ssl_certificate ssl_certificate_key ssl_client_certificate "
    "ssl_verify_client ssl_protocols proxy_pass proxy_set_header proxy_ssl_verify "
    "proxy_ssl_trusted_certificate proxy_read_timeout proxy_connect_timeout include upstream set "
    "keepalive_timeout client_header_timeout client_max_body_size proxy_ssl_name"
)

PROCESS = _words(
    "user worker_processes pid daemon error_log events worker_rlimit_nofile master_process load_module "
    "pcre_jit timer_resolution env lock_file worker_priority worker_cpu_affinity thread_pool"
)
"""How nginx runs as a process: twistd's options, systemd's unit."""

NEEDLESS = _words(
    "sendfile sendfile_max_chunk tcp_nopush tcp_nodelay types default_type types_hash_max_size "
    "types_hash_bucket_size server_names_hash_max_size server_names_hash_bucket_size "
    "variables_hash_max_size variables_hash_bucket_size map_hash_max_size map_hash_bucket_size "
    "server_tokens log_format log_not_found log_subrequest open_file_cache open_log_file_cache aio directio "
    "ssl_prefer_server_ciphers ssl_session_cache ssl_session_timeout ssl_session_tickets ssl_buffer_size "
    "proxy_http_version proxy_buffering proxy_buffer_size proxy_buffers proxy_busy_buffers_size "
    "proxy_request_buffering proxy_max_temp_file_size proxy_temp_path proxy_temp_file_write_size "
    "proxy_cache_bypass proxy_no_cache proxy_socket_keepalive proxy_ssl_server_name proxy_ssl_session_reuse "
    "proxy_headers_hash_max_size proxy_headers_hash_bucket_size proxy_next_upstream "
    "proxy_next_upstream_tries proxy_next_upstream_timeout client_body_temp_path client_body_buffer_size "
    "client_header_buffer_size fastcgi_temp_path scgi_temp_path uwsgi_temp_path underscores_in_headers "
    "reset_timedout_connection lingering_close lingering_time lingering_timeout postpone_output map geo "
    "split_clients limit_req_zone limit_conn_zone proxy_cache_path keepalive_requests "
    "keepalive_time resolver_timeout index autoindex allow satisfy auth_basic_user_file root"
)
"""What tunes nginx, defines what nobody uses here, or is so in any case."""

RESTRICTING = {
    "deny": "esxiproxy does not tell clients apart by their address",
    "auth_basic": "esxiproxy asks for no password",
    "auth_request": "esxiproxy asks nobody who may come in",
    "auth_jwt": "esxiproxy reads no such token",
    "limit_except": "esxiproxy does not tell methods apart",
    "internal": "what is reached from nginx alone would be open",
    "if": "conditions cannot be carried over",
    "return": "nginx answers by itself here, and esxiproxy only forwards",
    "rewrite": "the path is the client's own, byte for byte",
    "ssl_crl": "clients with a revoked certificate would come in",
    "ssl_reject_handshake": "esxiproxy makes its handshakes",
    "secure_link": "esxiproxy checks no such link",
    "modsecurity": "esxiproxy has no such rules",
}
"""What keeps somebody out or answers by itself: without it a server would let more through than it did."""

_REASONS = {
    "access_log": "esxiproxy has one of its own: access_log = FILE in [proxy]; see docs/access-log.md",
    "error_page": "error pages are esxiproxy's own",
    "add_header": "fields of the upstream's answers pass as they are, and none is added",
    "proxy_redirect": "a Location that names the upstream is rewritten to what the client sees, and no other",
    "proxy_send_timeout": "stall_timeout bounds how long either side may take nothing, 60s by default",
    "send_timeout": "stall_timeout bounds how long either side may take nothing, 60s by default",
    "set_real_ip_from": "say trusted_proxies = on the listener",
    "real_ip_header": "say trusted_proxies = on the listener",
    "real_ip_recursive": "say trusted_proxies = on the listener",
    "ssl_ciphers": "TLS is Mozilla's intermediate profile, without a choice of ciphers",
    "ssl_ecdh_curve": "TLS is Mozilla's intermediate profile, without a choice of curves",
    "ssl_dhparam": "TLS is Mozilla's intermediate profile, with ECDHE alone",
    "ssl_password_file": "a private_key has no passphrase here",
    "gzip": "answers pass as the upstream has compressed them",
    "http2": "esxiproxy speaks HTTP/1.1, and clients agree to that",
    "limit_conn": "no number of sessions can be set yet",
    "limit_req": "no rate of requests can be set yet",
    "resolver": "names are looked up as the machine does it",
    "worker_shutdown_timeout": "say drain_timeout = in [proxy]",
    "stream": "esxiproxy proxies WebSocket and HTTP, and no bare TCP",
    "mail": "esxiproxy proxies WebSocket and HTTP",
    "try_files": "esxiproxy serves no files",
    "alias": "esxiproxy serves no files",
}
_NOT_OFF = frozenset({"proxy_redirect"})
"""Where ``off`` is a wish of its own."""
_STATEMENTS = frozenset({"if", "return", "rewrite", "deny", "limit_except", "internal"})


def restricts(directive: Directive) -> str | None:
    """Why nothing may go through where this holds; None if it keeps nobody out."""
    if directive.name.startswith(("access_by_lua", "rewrite_by_lua", "content_by_lua", "auth_jwt")):
        return "it decides who comes in, and esxiproxy cannot"
    if directive.name in _STATEMENTS or directive.args != ("off",):
        return RESTRICTING.get(directive.name)
    return None


def loss(directive: Directive) -> str | None:
    """What is lost with a directive that is not carried over; None if nothing is."""
    name = directive.name
    if name in CARRIED | PROCESS | NEEDLESS or name.startswith("gzip_"):
        return None
    if restricts(directive):  # told already, with what is left out for it
        return None
    if directive.args == ("off",) and name not in _NOT_OFF:
        return None
    if name == "proxy_redirect" and directive.args == ("default",):
        return None
    if name in ("proxy_send_timeout", "send_timeout") and directive.args in (("60",), ("60s",), ("1m",)):
        return None
    return _REASONS.get(name, "esxiproxy has nothing like it")
