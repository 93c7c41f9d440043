"""Tables of nginx's directives: converted, unnecessary, lost without harm, or restricting access.

A directive in no table counts as restricting, because a third-party module may restrict access.
"""

from __future__ import annotations

import os

from esxiproxy.nginx.source import Directive


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONVERTED = _words(
    "http server location listen server_name ssl ssl_certificate ssl_certificate_key ssl_client_certificate "
    "ssl_verify_client ssl_protocols proxy_pass proxy_set_header proxy_ssl_verify "
    "proxy_ssl_trusted_certificate proxy_read_timeout proxy_connect_timeout include upstream set "
    "keepalive_timeout client_header_timeout client_max_body_size proxy_ssl_name"
)

PROCESS = _words(
    "user worker_processes pid daemon error_log events worker_rlimit_nofile master_process load_module "
    "pcre_jit timer_resolution env lock_file worker_priority worker_cpu_affinity thread_pool "
    "ssl_engine"
)
"""Directives about nginx's process, whose counterparts are twistd's options and systemd's unit."""

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
    "keepalive_time resolver_timeout index autoindex allow satisfy auth_basic_user_file root "
    "lua_use_default_type"
)
"""Directives that tune nginx, define something without using it, or describe what esxiproxy always does."""

RESTRICTING = {
    "deny": "esxiproxy does not restrict clients by address",
    "auth_basic": "esxiproxy does not check passwords",
    "auth_request": "esxiproxy makes no authorization subrequests",
    "auth_jwt": "esxiproxy does not check such tokens",
    "limit_except": "esxiproxy does not restrict methods",
    "internal": "a location that only nginx itself can reach would be public",
    "if": "conditions cannot be converted",
    "return": "nginx answers these requests itself, and esxiproxy only forwards",
    "rewrite": "esxiproxy forwards the client's path byte for byte",
    "ssl_crl": "clients with a revoked certificate would be accepted",
    "ssl_reject_handshake": "esxiproxy accepts every TLS handshake",
    "secure_link": "esxiproxy does not check such links",
    "modsecurity": "esxiproxy does not check such rules",
    "ssl_ocsp": "clients with a revoked certificate would be accepted",
    "proxy_ssl_crl": "a host with a revoked certificate would be accepted",
    "proxy_method": "esxiproxy forwards the client's method",
    "proxy_set_body": "esxiproxy forwards the client's body",
    "proxy_pass_request_body": "esxiproxy always forwards the client's body",
    "proxy_pass_request_headers": "esxiproxy always forwards the client's fields",
    "include": "the included file is missing and may restrict access",
}
"""Directives that restrict access or answer requests: without them a server would allow more."""

LOST = _words(
    # the answers of nginx
    "absolute_redirect add_after_body add_before_body add_header_inherit add_trailer addition_types "
    "ancient_browser ancient_browser_value charset charset_map charset_types chunked_transfer_encoding "
    "early_hints etag expires gunzip gunzip_buffers if_modified_since max_ranges modern_browser "
    "modern_browser_value more_clear_headers more_set_headers msie_padding msie_refresh override_charset "
    "port_in_redirect recursive_error_pages server_name_in_redirect slice source_charset sub_filter "
    "sub_filter_last_modified sub_filter_once sub_filter_types userid userid_domain userid_expires "
    "userid_flags userid_mark userid_name userid_p3p userid_path userid_service xml_entities brotli zstd ssi "
    # buffers, times, files, connections
    "aio_write client_body_in_file_only client_body_in_single_buffer client_body_timeout "
    "connection_pool_size directio_alignment disable_symlinks ignore_invalid_headers keepalive_disable "
    "keepalive_min_timeout large_client_header_buffers limit_conn_dry_run limit_conn_log_level "
    "limit_conn_status limit_rate limit_rate_after limit_req_dry_run limit_req_log_level limit_req_status "
    "limit_zone max_headers merge_slashes output_buffers random_index read_ahead referer_hash_bucket_size "
    "referer_hash_max_size request_pool_size send_lowat subrequest_output_buffer_size "
    # requests to the upstream and its answers
    "health_check match mirror mirror_request_body proxy_bind proxy_bind_dynamic proxy_cookie_domain "
    "proxy_cookie_flags proxy_cookie_path proxy_force_ranges proxy_hide_header proxy_ignore_client_abort "
    "proxy_ignore_headers proxy_intercept_errors proxy_limit_rate proxy_pass_header proxy_pass_trailers "
    "proxy_request_dynamic proxy_send_lowat proxy_ssl_certificate proxy_ssl_certificate_cache "
    "proxy_ssl_certificate_key proxy_ssl_ciphers proxy_ssl_key_log proxy_ssl_password_file "
    "proxy_ssl_protocols proxy_ssl_verify_depth proxy_store proxy_store_access "
    # TLS
    "http3 ssl_certificate_cache ssl_early_data ssl_ech_file ssl_handshake_timeout ssl_key_log "
    "ssl_object_cache_inheritable ssl_ocsp_cache ssl_ocsp_responder ssl_session_ticket_key ssl_stapling "
    "ssl_stapling_file ssl_stapling_responder ssl_stapling_verify ssl_trusted_certificate ssl_verify_depth "
    # definitions of variables and zones, which have no effect of their own
    "auth_delay auth_request_set break geoip2 geoip_city geoip_country geoip_org geoip_proxy "
    "geoip_proxy_recursive init_by_lua_block init_by_lua_file init_worker_by_lua_block "
    "init_worker_by_lua_file js_import js_include js_path js_preload_object js_set js_shared_dict_zone "
    "js_var keyval keyval_zone lua_code_cache lua_package_cpath lua_package_path lua_shared_dict "
    "perl_modules perl_require perl_set rewrite_log session_log session_log_format session_log_zone "
    "uninitialized_variable_warn valid_referers "
    # metrics and tracing
    "opentracing otel_exporter otel_service_name otel_span_attr otel_span_name otel_trace "
    "otel_trace_context status status_format status_zone vhost_traffic_status vhost_traffic_status_zone"
)
"""Directives without an equivalent whose loss allows no additional access."""

_LOST_PREFIXES = (
    *("brotli_", "fastcgi_", "grpc_", "memcached_", "scgi_", "uwsgi_", "zstd_"),
    *("autoindex_", "http2_", "http3_", "open_file_cache_", "proxy_cache", "quic_", "ssi_", "xslt_"),
)
"""Prefixes of modules of which no directive but ``..._pass`` restricts access."""
_TLS_COMMANDS = _words(
    "options ciphersuites cipherstring groups curves signaturealgorithms clientsignaturealgorithms "
    "minprotocol maxprotocol recordpadding numtickets"
)
"""Commands of ``ssl_conf_command`` and ``proxy_ssl_conf_command`` that do not affect verification."""
_STOCK_FILES = _words("mime.types fastcgi_params fastcgi.conf uwsgi_params scgi_params")
"""Files of nginx's own that restrict no access, so that they may be missing."""

_REASONS = {
    "access_log": "esxiproxy has its own access log: set access_log = FILE in [proxy] (docs/access-log.md)",
    "error_page": "esxiproxy sends its own error pages",
    "add_header": "esxiproxy adds no fields to the upstream's answers",
    "proxy_redirect": "esxiproxy rewrites a Location only if it names the upstream",
    "proxy_send_timeout": "set stall_timeout, which limits a transfer without progress (60s by default)",
    "send_timeout": "set stall_timeout, which limits a transfer without progress (60s by default)",
    "set_real_ip_from": "set trusted_proxies in the listener's section",
    "real_ip_header": "set trusted_proxies in the listener's section",
    "real_ip_recursive": "set trusted_proxies in the listener's section",
    "ssl_ciphers": "esxiproxy uses Mozilla's intermediate profile, and its ciphers cannot be chosen",
    "ssl_ecdh_curve": "esxiproxy uses Mozilla's intermediate profile, and its curves cannot be chosen",
    "ssl_dhparam": "esxiproxy uses Mozilla's intermediate profile, which has only ECDHE",
    "ssl_password_file": "esxiproxy reads only private keys without a passphrase",
    "gzip": "esxiproxy forwards answers with the upstream's compression",
    "http2": "esxiproxy speaks only HTTP/1.1, which all clients support",
    "limit_conn": "set max_sessions_per_client in the listener's section",
    "limit_req": "set session_rate in the listener's section",
    "resolver": "esxiproxy uses the system's resolver",
    "worker_shutdown_timeout": "set drain_timeout in [proxy]",
    "stream": "esxiproxy forwards only WebSocket and HTTP",
    "mail": "esxiproxy forwards only WebSocket and HTTP",
    "try_files": "esxiproxy serves no files",
    "alias": "esxiproxy serves no files",
}
_NOT_OFF = frozenset({"proxy_redirect"})
"""Directives for which ``off`` is not the same as their absence."""
_STATEMENTS = frozenset({"if", "return", "rewrite", "deny", "limit_except", "internal"})
_DECIDING = ("auth_", "access_by_", "rewrite_by_", "content_by_", "js_", "perl", "oidc", "openidc")
UNKNOWN = "esxiproxy does not know this directive, which may restrict access"


def restriction(directive: Directive) -> str | None:
    """Return why a block with this directive has to be omitted; None if it restricts no access."""
    name, off = directive.name, directive.args == ("off",)
    if name in _STATEMENTS:
        return RESTRICTING[name]
    if name == "include":  # an include in the tree is one whose file is missing
        stock = bool(directive.args) and os.path.basename(directive.args[0]) in _STOCK_FILES
        return None if stock else RESTRICTING[name]
    if name in ("proxy_pass_request_body", "proxy_pass_request_headers"):
        return RESTRICTING[name] if off else None
    if name in RESTRICTING:
        return None if off else RESTRICTING[name]
    if _is_known(directive) or (off and name.startswith("auth_")):
        return None
    if name.startswith(_DECIDING):
        return "the directive restricts access, which esxiproxy cannot"
    return UNKNOWN


def is_unknown(directive: Directive) -> bool:
    """Return whether the directive is in no table."""
    return directive.name not in RESTRICTING and not _is_known(directive)


def _is_known(directive: Directive) -> bool:
    """Return whether the directive is known and restricts no access."""
    name = directive.name
    if name in CONVERTED | PROCESS | NEEDLESS | LOST or name in _REASONS:
        return True
    if name in ("ssl_conf_command", "proxy_ssl_conf_command"):
        return bool(directive.args) and directive.args[0].lower() in _TLS_COMMANDS
    return name.startswith(("gzip_", *_LOST_PREFIXES)) and not name.endswith("_pass")


def loss(directive: Directive) -> str | None:
    """Return what is lost without this directive; None if nothing is lost."""
    name = directive.name
    if name in CONVERTED | PROCESS | NEEDLESS or name.startswith("gzip_"):
        return None
    if name in RESTRICTING:  # the complaint about the omitted block names it
        return None
    if directive.args == ("off",) and name not in _NOT_OFF:
        return None
    if name == "proxy_redirect" and directive.args == ("default",):
        return None
    if name in ("proxy_send_timeout", "send_timeout") and directive.args in (("60",), ("60s",), ("1m",)):
        return None
    return _REASONS.get(name, "esxiproxy has no equivalent")
