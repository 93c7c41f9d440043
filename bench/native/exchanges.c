/* The cases that ask and are answered, on many connections in one epoll: open, get, download, upload. */
#include <fcntl.h>

#include "http.h"
#include "load.h"

enum stage { WAITING, ASKING, HEAD, BODY, LEAVING };

struct exchange {
    struct wire wire; /* fd is -1 while there is no connection */
    SSL_SESSION *session;
    enum stage stage;
    double due;
    int answered; /* number of answers on this connection */
    size_t sent, filled;
    char text[4096];
    struct sent_body asked;
    struct received_body answer;
};

static double begin, end;
static int poller, upgrading, uploading, counts_bytes;
static char request[1024];
static size_t request_size;
static uint64_t payload; /* of each upload */
static long count, resumed;
static double total, first, last; /* bytes from the first to the last time at which some were counted */

/* Returns whether to go on, which a case without two answers does for as long again. */
static int goes_on(void) {
    if (now() < end) return 1;
    if (counts_bytes ? last > first : count > 1) return 0;
    end += seconds;
    return 1;
}

static void connect_to_proxy(struct exchange *exchange, int number) {
    struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLET, {.ptr = exchange}};
    exchange->wire = connect_wire(1 + number % 16);
    fcntl(exchange->wire.fd, F_SETFL, O_NONBLOCK);
    if (tls) {
        start_tls(&exchange->wire, resume ? exchange->session : NULL);
        SSL_set_connect_state(exchange->wire.ssl);
    }
    exchange->answered = 0;
    epoll_ctl(poller, EPOLL_CTL_ADD, exchange->wire.fd, &event);
}

static void disconnect(struct exchange *exchange) {
    if (tls && resume) {
        SSL_SESSION_free(exchange->session);
        exchange->session = SSL_get1_session(exchange->wire.ssl);
    }
    wire_close(&exchange->wire);
    exchange->wire.fd = -1;
}

static void finish(struct exchange *exchange, int leaves) {
    exchange->answered++;
    if (leaves) disconnect(exchange);
    exchange->stage = WAITING;
    if (rate) exchange->due += connections / rate;
}

/* Counts an exchange: a session at its 101, a request when its answer is complete. */
static void add(struct exchange *exchange) {
    double time = now();
    if (time < begin || time >= end) return;
    count++;
    if (tls && exchange->answered == 0) resumed += SSL_session_reused(exchange->wire.ssl);
    if (uploading) {
        if (first) total += payload;
        else first = time;
        last = time;
    }
}

/* Sends the first frame of a session, its Close or neither.  Returns whether an answer is awaited. */
static int begin_session(struct exchange *exchange) {
    static const unsigned char FRAME[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8};
    unsigned char frame[64];
    if (raw) send_all(&exchange->wire, frame, put_frame(frame, BINARY, "echo\n", 5, MASK));
    if (closing) send_all(&exchange->wire, FRAME, sizeof FRAME);
    return closing != 0;
}

/* Reads the head of an answer.  Returns 1 after progress, or BLOCKED. */
static int read_head(struct exchange *exchange) {
    size_t space = sizeof exchange->text - 1 - exchange->filled;
    ssize_t got = wire_read(&exchange->wire, exchange->text + exchange->filled, space);
    if (got == ENDED && exchange->filled == 0 && exchange->answered) { /* it was kept for too long */
        disconnect(exchange);
        exchange->stage = WAITING;
        return 1;
    }
    if (got == ENDED || space == 0)
        die("no answer to a request: %.*s", (int)exchange->filled, exchange->text);
    if (got == BLOCKED) return BLOCKED;
    exchange->filled += got;
    exchange->text[exchange->filled] = 0;
    char *stop = strstr(exchange->text, "\r\n\r\n");
    if (stop == NULL) return 1;
    if (strncmp(exchange->text, upgrading ? "HTTP/1.1 101" : "HTTP/1.1 200", 12) != 0)
        die("refused: %s", exchange->text);
    if (upgrading) {
        add(exchange);
        exchange->stage = LEAVING;
        if (!begin_session(exchange)) finish(exchange, 1);
        return 1;
    }
    size_t rest = exchange->filled - (stop + 4 - exchange->text);
    stop[2] = 0;
    start_receiving(&exchange->answer, exchange->text);
    take_octets(&exchange->answer, (unsigned char *)stop + 4, rest);
    exchange->stage = BODY;
    return 1;
}

static int read_body(struct exchange *exchange) {
    if (!exchange->answer.done) {
        uint64_t before = exchange->answer.received;
        ssize_t got = receive_part(&exchange->answer, &exchange->wire);
        if (got == ENDED) die("the connection has ended in the middle of a body");
        if (got == BLOCKED) return BLOCKED;
        double time = now();
        if (!uploading && time >= begin) {
            if (first) total += exchange->answer.received - before;
            else first = time;
            last = time;
        }
        if (!exchange->answer.done) return goes_on();
    }
    add(exchange);
    finish(exchange, fresh || strcasestr(exchange->text, "\nconnection: close") != NULL);
    return 1;
}

static int ask(struct exchange *exchange) {
    ssize_t put;
    if (exchange->sent < request_size) {
        put = wire_write(&exchange->wire, request + exchange->sent, request_size - exchange->sent);
        if (put > 0) exchange->sent += put;
    } else {
        put = send_part(&exchange->asked, &exchange->wire);
    }
    if (put == ENDED && exchange->sent == 0 && exchange->answered) {
        disconnect(exchange);
        exchange->stage = WAITING;
        return 1;
    }
    if (put == ENDED) die("the proxy took nothing");
    if (put == BLOCKED) return BLOCKED;
    if (exchange->sent == request_size && exchange->asked.left == 0) {
        exchange->stage = HEAD;
        exchange->filled = 0;
    }
    return 1;
}

/* Reads until the answer to a Close. */
static int leave(struct exchange *exchange) {
    ssize_t got = wire_read(&exchange->wire, exchange->text, sizeof exchange->text);
    if (got == BLOCKED) return BLOCKED;
    if (got == ENDED || (exchange->text[0] & 15) == CLOSE) finish(exchange, 1);
    return 1;
}

/* Returns 1 after progress, or BLOCKED. */
static int step(struct exchange *exchange, int number) {
    switch (exchange->stage) {
        case WAITING:
            if (exchange->due > now() || !goes_on()) return BLOCKED;
            if (exchange->wire.fd < 0) connect_to_proxy(exchange, number);
            exchange->stage = ASKING;
            exchange->sent = 0;
            if (uploading) payload = start_sending(&exchange->asked, size, chunked);
            return 1;
        case ASKING: return ask(exchange);
        case HEAD: return read_head(exchange);
        case BODY: return read_body(exchange);
        default: return leave(exchange);
    }
}

/* Starts the exchanges that are due.  Returns the time of the next one, 10 seconds from now at the most. */
static double start_due(struct exchange *all) {
    double next = now() + 10;
    for (int i = 0; i < connections; i++) {
        if (all[i].stage == WAITING)
            while (step(&all[i], i) == 1) continue;
        if (all[i].stage == WAITING && all[i].due < next) next = all[i].due;
    }
    return next;
}

static void run(void) {
    struct exchange *all = calloc(connections, sizeof *all);
    struct epoll_event events[64];
    poller = epoll_create1(0);
    begin = now() + warm;
    end = begin + seconds;
    for (int i = 0; i < connections; i++) {
        all[i].wire.fd = -1;
        all[i].due = rate ? now() + i / rate : 0;
    }
    double next = start_due(all);
    while (goes_on()) {
        double stop = next < end ? next : end;
        int wait = (stop - now()) * 1000 + 1;
        if (wait < 0) wait = 0;
        int ready = epoll_wait(poller, events, 64, rate ? wait : 10000);
        if (ready == 0 && !rate) die("no answer for 10 seconds");
        for (int i = 0; i < ready; i++) {
            struct exchange *exchange = events[i].data.ptr;
            while (step(exchange, exchange - all) == 1) continue;
        }
        if (rate) next = start_due(all);
    }
}

static void print_counts(void) {
    printf("{\"rate\": %.1f, \"resumed\": %.3f}\n", count / (end - begin),
           count ? (double)resumed / count : 0);
}

static void print_bytes(void) {
    printf("{\"rate\": %.0f}\n", total / (last - first));
}

void open_sessions(void) {
    upgrading = 1;
    request_size = put_request(request, sizeof request, "echo");
    run();
    print_counts();
}

static void write_request(const char *method, const char *fields) {
    request_size = snprintf(request, sizeof request, "%s /http/%s%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n",
                            method, chunked ? "chunked/" : "", (int)size, (int)port, fields);
}

void get(void) {
    write_request("GET", fresh ? "Connection: close\r\n" : "");
    run();
    print_counts();
}

void download(void) {
    write_request("GET", "");
    counts_bytes = 1;
    run();
    print_bytes();
}

void upload(void) {
    char length[64];
    uploading = 1;
    snprintf(length, sizeof length, "Content-Length: %d\r\n", (int)size);
    write_request("PUT", chunked ? "Transfer-Encoding: chunked\r\n" : length);
    counts_bytes = 1;
    run();
    print_bytes();
}
