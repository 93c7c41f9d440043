/* The upstream of the benchmark: one thread, one epoll, five listeners on 127.0.0.1.

       upstream CERTIFICATE KEY

   prints {"ws": PORT, "wss": PORT, "cold": PORT, "raw": PORT, "raws": PORT} and serves until its input ends.
   `cold` is wss without session resumption; `raw` and `raws` speak no WebSocket, for websockify (`raws` is
   cold: websockify takes a session ticket for the console's bytes, and waits for those forever).  What a
   connection does stands in its target, or in the first line of a raw one:

       /echo          sends each message back
       /source/SIZE   sends frames with that much payload as fast as it can, until it hears anything
       /sink          takes everything, and says so in 8 bytes each MiB */
#include <signal.h>

#include "wire.h"

enum { LISTENERS = 5, LARGEST = 4096 };
enum mode { OPENING, ECHO, SOURCE, SINK };

static const char *const NAMES[LISTENERS] = {"ws", "wss", "cold", "raw", "raws"};

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

static void choose(struct client *client, const char *target) {
    while (*target == '/') target++;
    if (strncmp(target, "source", 6) == 0) {
        struct epoll_event event = {EPOLLIN | EPOLLOUT, {.ptr = client}};
        client->mode = SOURCE;
        find_block(client, strtoul(target + 7, NULL, 10));
        epoll_ctl(poller, EPOLL_CTL_MOD, client->wire.fd, &event);
    } else {
        client->mode = strncmp(target, "sink", 4) == 0 ? SINK : ECHO;
    }
}

/* Reads the opening handshake.  The request may be split, and no data follows it before the answer. */
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
    if (strstr(text, "\r\n\r\n") == NULL) return client->filled < LARGEST - 1 ? 1 : ENDED;
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

static int serve(struct client *client, uint32_t events) {
    switch (client->mode) {
        case OPENING: return open_client(client);
        case ECHO: return echo(client);
        case SINK: return sink(client);
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

static SSL_CTX *server_context(char **files, int cold) {
    SSL_CTX *context = tls_context(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(context, files[1]) != 1) die("%s: no certificate", files[1]);
    if (SSL_CTX_use_PrivateKey_file(context, files[2], SSL_FILETYPE_PEM) != 1) die("%s: no key", files[2]);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"bench", 5);
    if (cold) {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(context, 0);
    }
    return context;
}

int main(int count, char **arguments) {
    if (count != 3) die("usage: upstream CERTIFICATE KEY");
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *warm = server_context(arguments, 0), *cold = server_context(arguments, 1);
    SSL_CTX *contexts[LISTENERS] = {NULL, warm, cold, NULL, cold};
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
                admit(*listener, contexts[listener - listeners], listener - listeners >= 3);
                continue;
            }
            struct client *client = what;
            int result;
            do result = serve(client, events[i].events);
            while (result == 1 && client->mode != SOURCE && wire_pending(&client->wire));
            if (result == ENDED) leave(client);
        }
    }
}
