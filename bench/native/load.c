/* The load of the benchmark: clients on 127.0.0.1.  Prints one line of JSON.

       load CASE port=PORT [tls=1] [raw=1] [seconds=1] [connections=1] [size=64] [pause=0] [rate=0] [resume=0]
            [closing=1] [chunked=0] [fresh=0]

   WebSocket:
   echo      one message in flight on each connection, `pause` seconds between an answer and the next message
   down      takes what the upstream's /source sends in frames of `size` bytes
   up        sends frames of `size` bytes to the upstream's /sink
   open      opens sessions on `connections` connections, `rate` a second or as fast as it can, and ends each
             with a Close, or without one if `closing` is 0
   hold      opens `connections` sessions, says so, answers pings until its input ends

   HTTP, one request at a time on each connection:
   get       asks for `size` bytes, on a new connection for each request if `fresh` is 1; counts requests
   download  asks for `size` bytes; counts bytes
   upload    sends `size` bytes; counts bytes, at each answer

   `chunked` is for the body of that size.  Each case runs for `seconds` after an unmeasured beginning of
   `warm` seconds; open, up and those of HTTP go on until there are two answers to count. */
#include <signal.h>

#include "load.h"

double port, tls, raw, seconds = 1, warm = 0.2, connections = 1, size = 64, rate, resume, wait_time;
double closing = 1, chunked, fresh;
SSL_CTX *context;

static const struct { const char *name; double *value; } OPTIONS[] = {
    {"port", &port}, {"tls", &tls}, {"raw", &raw}, {"seconds", &seconds}, {"warm", &warm}, {"size", &size},
    {"connections", &connections}, {"rate", &rate}, {"resume", &resume}, {"pause", &wait_time},
    {"closing", &closing}, {"chunked", &chunked}, {"fresh", &fresh},
};

void rest(double duration) {
    if (duration <= 0) return;
    struct timespec time = {duration, (duration - (long)duration) * 1e9};
    nanosleep(&time, NULL);
}

void send_all(struct wire *wire, const void *bytes, size_t count) {
    for (size_t sent = 0; sent < count;) {
        ssize_t result = wire_write(wire, (const char *)bytes + sent, count - sent);
        if (result <= 0) die("the proxy took nothing");
        sent += result;
    }
}

struct wire connect_wire(int source) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + source)};
    struct wire wire = {socket(AF_INET, SOCK_STREAM, 0), NULL};
    struct timeval limit = {10, 0};
    int on = 1;
    setsockopt(wire.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(wire.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(wire.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (source) {
        setsockopt(wire.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(wire.fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind: %s", strerror(errno));
    }
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(wire.fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("connect: %s", strerror(errno));
    return wire;
}

void start_tls(struct wire *wire, SSL_SESSION *session) {
    wire->ssl = SSL_new(context);
    SSL_set_fd(wire->ssl, wire->fd);
    if (session) SSL_set_session(wire->ssl, session);
}

size_t put_request(char *text, size_t size, const char *target) {
    return snprintf(text, size,
                    "GET /%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    "Sec-WebSocket-Protocol: binary\r\n\r\n", target, (int)port);
}

struct wire open_wire(const char *target) {
    struct wire wire = connect_wire(0);
    char text[4096];
    if (tls) {
        start_tls(&wire, NULL);
        if (SSL_connect(wire.ssl) != 1) die("no TLS");
    }
    send_all(&wire, text, put_request(text, sizeof text, target));
    for (size_t filled = 0;;) {
        ssize_t got = wire_read(&wire, text + filled, sizeof text - 1 - filled);
        if (got <= 0) die("no answer to the opening handshake: %.*s", (int)filled, text);
        text[filled += got] = 0;
        if (strstr(text, "\r\n\r\n")) break;
    }
    if (strncmp(text, "HTTP/1.1 101", 12) != 0) die("refused: %s", text);
    if (raw) {
        unsigned char frame[64];
        int count = snprintf(text, sizeof text, "%s\n", target);
        send_all(&wire, frame, put_frame(frame, BINARY, text, count, MASK));
    }
    return wire;
}

static const struct { const char *name; void (*run)(void); } CASES[] = {
    {"echo", echo}, {"down", down}, {"up", up}, {"open", open_sessions}, {"hold", hold},
    {"get", get}, {"download", download}, {"upload", upload},
};

static void read_option(const char *text) {
    for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++) {
        size_t length = strlen(OPTIONS[i].name);
        if (strncmp(text, OPTIONS[i].name, length) == 0 && text[length] == '=') {
            *OPTIONS[i].value = atof(text + length + 1);
            return;
        }
    }
    die("unknown option: %s", text);
}

int main(int count, char **arguments) {
    for (int i = 2; i < count; i++) read_option(arguments[i]);
    signal(SIGPIPE, SIG_IGN);
    alarm(seconds + warm + 600); /* a time limit for the whole program */
    context = tls_context(TLS_client_method());
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        if (count > 1 && strcmp(CASES[i].name, arguments[1]) == 0) {
            CASES[i].run();
            return 0;
        }
    die("usage: load echo|down|up|open|hold|get|download|upload port=PORT ...");
}
