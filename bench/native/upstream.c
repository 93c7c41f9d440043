/* The upstream of the benchmark: one thread, one epoll, seven listeners on 127.0.0.1.

       upstream CERTIFICATE KEY RSA_CERTIFICATE RSA_KEY

   prints {"ws": PORT, "wss": PORT, ...} with the ports of all NAMES and serves until its input ends.  `wss`
   has TLS 1.3, and `tickets` TLS 1.2, in which a resumed session costs little; `rsa` is the same with the RSA
   certificate.  `cold` is wss without session resumption; `raw` and `raws` speak no WebSocket, for websockify
   (`raws` is cold: websockify takes a session ticket for the console's bytes, and waits for those forever).
   What a connection does stands in its target, or in the first line of a raw one:

       /echo          sends each message back
       /source/SIZE   sends frames with that much payload as fast as it can, until it hears anything
       /sink          takes everything, and says so in 8 bytes each MiB

   A request without Upgrade is for one of these:

       GET /http/SIZE          answers with that many bytes
       GET /http/chunked/SIZE  the same, chunked
       PUT /http/ANYTHING      takes a body, fixed or chunked, and answers after its end */
#include <signal.h>

#include "http.h"

enum { LISTENERS = 7, FIRST_RAW = 5, LARGEST = 4096 };
enum mode { OPENING, ECHO, SOURCE, SINK, ANSWERING, TAKING };

static const char *const NAMES[LISTENERS] = {"ws", "wss", "cold", "tickets", "rsa", "raw", "raws"};

struct client {
    struct wire wire;
    int raw;
    enum mode mode;
    unsigned char *text; /* the request while it is read, then an echo's message */
    size_t filled;
    struct frames frames;
    uint64_t counted;             /* a sink's bytes since its last report */
    const unsigned char *block;   /* a source's data, sent repeatedly */
    size_t block_size, sent;
    struct sent_body answer;
    struct received_body request;
};

static int poller;

/* The functions below return 1 after progress, BLOCKED if there is nothing to do, or ENDED. */

static void leave(struct client *client) {
    wire_close(&client->wire);
    free(client->text);
    free(client);
}

/* Writes a few bytes, which always fit because the peer waits for them. */
static int say(struct client *client, const void *bytes, size_t size) {
    return wire_write(&client->wire, bytes, size) == (ssize_t)size ? 1 : ENDED;
}

static int say_frame(struct client *client, int opcode, const void *payload, size_t size) {
    unsigned char frame[LARGEST + 14];
    if (client->raw) return say(client, payload, size);
    return say(client, frame, put_frame(frame, opcode, payload, size, NULL));
}

/* Returns a source's block of whole frames, at most BLOCK bytes, made once for each size. */
static void find_block(struct client *client, size_t size) {
    static struct { size_t size, total; unsigned char *bytes; } known[8];
    static unsigned char zeros[BLOCK];
    if (size < 1 || size > 65536) size = 65536;
    for (int i = 0; i < 8; i++) {
        if (known[i].bytes == NULL) {
            known[i].size = size;
            known[i].bytes = malloc(BLOCK + size + 14);
            while (known[i].total + size + 10 <= BLOCK)
                known[i].total += put_frame(known[i].bytes + known[i].total, BINARY, zeros, size, NULL);
        }
        if (known[i].size == size) {
            client->block = client->raw ? zeros : known[i].bytes;
            client->block_size = client->raw ? sizeof zeros : known[i].total;
            return;
        }
    }
    die("too many sizes");
}

static void watch(struct client *client, uint32_t events) {
    struct epoll_event event = {events, {.ptr = client}};
    epoll_ctl(poller, EPOLL_CTL_MOD, client->wire.fd, &event);
}

static void choose(struct client *client, const char *target) {
    while (*target == '/') target++;
    if (strncmp(target, "source", 6) == 0) {
        client->mode = SOURCE;
        find_block(client, strtoul(target + 7, NULL, 10));
        watch(client, EPOLLIN | EPOLLOUT);
    } else {
        client->mode = strncmp(target, "sink", 4) == 0 ? SINK : ECHO;
    }
}

/* Answers a request whose body was taken, and waits for the next one. */
static int answer_upload(struct client *client) {
    static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    client->mode = OPENING;
    client->filled = 0;
    return say(client, ANSWER, sizeof ANSWER - 1);
}

static int take_upload(struct client *client) {
    for (int turn = 0; turn < 16 && !client->request.done; turn++) {
        ssize_t count = receive_part(&client->request, &client->wire);
        if (count <= 0) return count;
    }
    return client->request.done ? answer_upload(client) : 1;
}

static int send_answer(struct client *client) {
    for (int turn = 0; turn < 16 && client->answer.left > 0; turn++) {
        ssize_t count = send_part(&client->answer, &client->wire);
        if (count <= 0) return count;
    }
    if (client->answer.left > 0) return 1;
    client->mode = OPENING;
    client->filled = 0;
    watch(client, EPOLLIN);
    return 1;
}

/* Answers a request for a download: a small one at once, a large one whenever the peer takes more. */
static int answer_download(struct client *client, const char *target) {
    char answer[LARGEST + 128];
    int chunked = strncmp(target, "chunked/", 8) == 0;
    uint64_t size = strtoull(target + (chunked ? 8 : 0), NULL, 10);
    size = start_sending(&client->answer, size, chunked);
    int length = sprintf(answer, "HTTP/1.1 200 OK\r\n");
    if (chunked) length += sprintf(answer + length, "Transfer-Encoding: chunked\r\n\r\n");
    else length += sprintf(answer + length, "Content-Length: %lu\r\n\r\n", (unsigned long)size);
    if (!chunked && size <= LARGEST) {
        memset(answer + length, 0, size);
        client->filled = 0;
        return say(client, answer, length + size);
    }
    client->mode = ANSWERING;
    watch(client, EPOLLIN | EPOLLOUT);
    return say(client, answer, length);
}

/* Serves a request that is no opening handshake. */
static int serve_http(struct client *client, char *body) {
    char *text = (char *)client->text;
    if (strncmp(text, "GET /http/", 10) == 0) return answer_download(client, text + 10);
    if (strncmp(text, "PUT /http/", 10) != 0) return ENDED;
    start_receiving(&client->request, text);
    take_octets(&client->request, (unsigned char *)body, client->filled - (body - text));
    client->mode = TAKING;
    return client->request.done ? answer_upload(client) : 1;
}

/* Reads a request's head, which may be split.  No data follows an opening handshake before its answer. */
static int open_client(struct client *client) {
    size_t most = client->raw ? 1 : LARGEST - 1 - client->filled; /* a message may follow a raw one's line */
    ssize_t count = wire_read(&client->wire, client->text + client->filled, most);
    if (count <= 0) return count;
    client->filled += count;
    char *text = (char *)client->text;
    text[client->filled] = 0;
    if (client->raw) {
        if (strchr(text, '\n')) choose(client, text);
        return client->filled < 64 ? 1 : ENDED;
    }
    char *head_end = strstr(text, "\r\n\r\n");
    if (head_end == NULL) return client->filled < LARGEST - 1 ? 1 : ENDED;
    if (strstr(text, " /http/")) {
        head_end[2] = 0;
        return serve_http(client, head_end + 4);
    }
    char *key = strcasestr(text, "\nsec-websocket-key:"), answer[512];
    if (key == NULL || strncmp(text, "GET ", 4) != 0) return ENDED;
    unsigned char digest[20], accept[32];
    char joined[128];
    key += 19 + strspn(key + 19, " ");
    int size = snprintf(joined, sizeof joined, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    EVP_Digest(joined, size, digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock(accept, digest, 20);
    const char *asked = strcasestr(text, "\nsec-websocket-protocol:");
    const char *binary = asked ? "Sec-WebSocket-Protocol: binary\r\n" : "";
    size = snprintf(answer, sizeof answer,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Accept: %s\r\n%s\r\n", accept, binary);
    choose(client, text + 4);
    client->filled = 0;
    return say(client, answer, size);
}

static int echo(struct client *client) {
    ssize_t count = wire_read(&client->wire, room, sizeof room);
    if (count <= 0) return count;
    if (client->raw) return say(client, room, count);
    unsigned char *at = room, *end = room + count, *run;
    while ((count = next_run(&client->frames, &at, end, &run)) >= 0) {
        if (client->filled + count > LARGEST) return ENDED;
        memcpy(client->text + client->filled, run, count);
        client->filled += count;
        if (client->frames.left > 0) continue;
        int opcode = client->frames.opcode, answer = opcode == PING ? PONG : opcode;
        if (opcode != PONG && say_frame(client, answer, client->text, client->filled) < 0) return ENDED;
        if (opcode == CLOSE) return ENDED;
        client->filled = 0;
    }
    return 1;
}

static int sink(struct client *client) {
    for (int turn = 0; turn < 16; turn++) {
        ssize_t count = wire_drop(&client->wire);
        if (count <= 0) return count;
        client->counted += count;
        for (; client->counted >= GRAIN; client->counted -= GRAIN)
            if (say_frame(client, BINARY, "12345678", 8) < 0) return ENDED;
    }
    return 1;
}

static int source(struct client *client, int heard) {
    if (heard && wire_read(&client->wire, room, sizeof room) != BLOCKED) return ENDED;
    for (int turn = 0; turn < 16; turn++) {
        ssize_t count =
            wire_write(&client->wire, client->block + client->sent, client->block_size - client->sent);
        if (count <= 0) return count;
        client->sent += count;
        if (client->sent == client->block_size) client->sent = 0;
    }
    return 1;
}

/* Returns whether a client waits until more is taken, and not for bytes that OpenSSL may have buffered. */
static int sends(struct client *client) { return client->mode == SOURCE || client->mode == ANSWERING; }

static int serve(struct client *client, uint32_t events) {
    switch (client->mode) {
        case OPENING: return open_client(client);
        case ECHO: return echo(client);
        case SINK: return sink(client);
        case ANSWERING: return send_answer(client);
        case TAKING: return take_upload(client);
        default: return source(client, events & ~EPOLLOUT);
    }
}

static void admit(int listener, SSL_CTX *context, int raw) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct client *client = calloc(1, sizeof *client);
        struct epoll_event event = {EPOLLIN, {.ptr = client}};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        client->wire.fd = fd;
        client->raw = raw;
        client->text = malloc(LARGEST);
        if (context) {
            client->wire.ssl = SSL_new(context);
            SSL_set_fd(client->wire.ssl, fd);
            SSL_set_accept_state(client->wire.ssl);
        }
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static SSL_CTX *server_context(char **files, int version, int tickets) {
    SSL_CTX *context = tls_context(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(context, files[0]) != 1) die("%s: no certificate", files[0]);
    if (SSL_CTX_use_PrivateKey_file(context, files[1], SSL_FILETYPE_PEM) != 1) die("%s: no key", files[1]);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"bench", 5);
    SSL_CTX_set_max_proto_version(context, version);
    SSL_CTX_set_num_tickets(context, 1);
    if (!tickets) {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(context, 0);
    }
    return context;
}

int main(int count, char **arguments) {
    if (count != 5) die("usage: upstream CERTIFICATE KEY RSA_CERTIFICATE RSA_KEY");
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *warm = server_context(arguments + 1, TLS1_3_VERSION, 1);
    SSL_CTX *cold = server_context(arguments + 1, TLS1_3_VERSION, 0);
    SSL_CTX *tickets = server_context(arguments + 1, TLS1_2_VERSION, 1);
    SSL_CTX *rsa = server_context(arguments + 3, TLS1_2_VERSION, 1);
    SSL_CTX *contexts[LISTENERS] = {NULL, warm, cold, tickets, rsa, NULL, cold};
    int listeners[LISTENERS];
    struct epoll_event events[256];
    poller = epoll_create1(0);
    for (int i = 0; i < LISTENERS; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof address;
        struct epoll_event event = {EPOLLIN, {.ptr = &listeners[i]}};
        listeners[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (bind(listeners[i], (struct sockaddr *)&address, size) < 0 || listen(listeners[i], 4096) < 0)
            die("cannot listen");
        getsockname(listeners[i], (struct sockaddr *)&address, &size);
        epoll_ctl(poller, EPOLL_CTL_ADD, listeners[i], &event);
        printf("%s\"%s\": %d", i ? ", " : "{", NAMES[i], ntohs(address.sin_port));
    }
    puts("}");
    fflush(stdout);
    struct epoll_event input = {EPOLLIN, {.ptr = NULL}};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input) < 0) die("the input is no pipe");
    for (;;) {
        int ready = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            void *what = events[i].data.ptr;
            if (what == NULL) return 0;
            int *listener = what;
            if (listener >= listeners && listener < listeners + LISTENERS) {
                admit(*listener, contexts[listener - listeners], listener - listeners >= FIRST_RAW);
                continue;
            }
            struct client *client = what;
            int result;
            do result = serve(client, events[i].events);
            while (result == 1 && !sends(client) && wire_pending(&client->wire));
            if (result == ENDED) leave(client);
        }
    }
}
