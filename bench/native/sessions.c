/* The cases that measure sessions: open, hold. */
#include <fcntl.h>
#include <pthread.h>

#include "load.h"

static double begin, end;
static long opened, resumed;

/* Sends a Close and waits for the answer or the end of the connection. */
static void close_session(struct wire *wire) {
    static const unsigned char FRAME[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8};
    unsigned char text[256];
    send_all(wire, FRAME, sizeof FRAME);
    ssize_t count;
    while ((count = wire_read(wire, text, sizeof text)) > 0)
        if (text[0] == (0x80 | CLOSE)) break;
    if (count == BLOCKED) die("no answer to a Close for 10 seconds");
    wire_close(wire);
}

static void *open_and_close(void *unused) {
    SSL_SESSION *session = NULL;
    double each = rate ? connections / rate : 0, next = now();
    while (now() < end) {
        struct wire wire = open_wire("echo", resume ? session : NULL);
        if (now() >= begin && now() < end) {
            __atomic_add_fetch(&opened, 1, __ATOMIC_RELAXED);
            if (tls && SSL_session_reused(wire.ssl)) __atomic_add_fetch(&resumed, 1, __ATOMIC_RELAXED);
        }
        if (tls && resume) {
            SSL_SESSION_free(session);
            session = SSL_get1_session(wire.ssl);
        }
        close_session(&wire);
        next += each;
        rest(next - now());
    }
    return unused;
}

void open_sessions(void) {
    pthread_t threads[64];
    if (connections > 64) die("64 threads at most");
    begin = now() + warm;
    end = begin + seconds;
    for (int i = 0; i < connections; i++) pthread_create(&threads[i], NULL, open_and_close, NULL);
    for (int i = 0; i < connections; i++) pthread_join(threads[i], NULL);
    printf("{\"rate\": %.1f, \"resumed\": %.3f}\n", opened / seconds, opened ? (double)resumed / opened : 0);
}

/* Answers a Ping with a Pong and drops all other frames. */
static void listen_to(struct console *console) {
    unsigned char text[4096], frame[139], *at = text, *run;
    ssize_t count = wire_read(&console->wire, text, sizeof text);
    if (count == ENDED) die("an idle session has ended");
    unsigned char *stop = text + count;
    while ((count = next_run(&console->frames, &at, stop, &run)) >= 0) {
        if (console->frames.opcode != PING) continue;
        if (console->frames.left > 0) die("a ping in pieces");
        send_all(&console->wire, frame, put_frame(frame, PONG, run, count, MASK));
    }
}

static void *answer_pings(void *poller) {
    struct epoll_event events[64];
    for (;;) {
        int ready = epoll_wait(*(int *)poller, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            struct console *console = events[i].data.ptr;
            do listen_to(console);
            while (console->wire.ssl && SSL_pending(console->wire.ssl) > 0);
        }
    }
    return NULL;
}

void hold(void) {
    struct console *consoles = calloc(connections, sizeof *consoles);
    pthread_t thread;
    int poller = epoll_create1(0);
    pthread_create(&thread, NULL, answer_pings, &poller);
    for (int i = 0; i < connections; i++) {
        struct epoll_event event = {EPOLLIN, {.ptr = &consoles[i]}};
        consoles[i].wire = open_wire("echo", NULL);
        fcntl(consoles[i].wire.fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(poller, EPOLL_CTL_ADD, consoles[i].wire.fd, &event);
    }
    printf("{\"held\": %d}\n", (int)connections);
    fflush(stdout);
    while (getchar() != EOF) continue;
    exit(0);
}
