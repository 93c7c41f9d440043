/* The case that holds sessions open: hold. */
#include <fcntl.h>
#include <pthread.h>

#include "load.h"

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
        consoles[i].wire = open_wire("echo");
        fcntl(consoles[i].wire.fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(poller, EPOLL_CTL_ADD, consoles[i].wire.fd, &event);
    }
    printf("{\"held\": %d}\n", (int)connections);
    fflush(stdout);
    while (getchar() != EOF) continue;
    exit(0);
}
