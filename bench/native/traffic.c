/* The cases that move bytes: echo, down, up. */
#include <fcntl.h>

#include "load.h"

static double begin, end;

static int poll_all(struct console *consoles, const char *target, uint32_t events) {
    int poller = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        struct epoll_event event = {events, {.ptr = &consoles[i]}};
        consoles[i].wire = open_wire(target);
        fcntl(consoles[i].wire.fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(poller, EPOLL_CTL_ADD, consoles[i].wire.fd, &event);
    }
    begin = now() + warm;
    end = begin + seconds;
    return poller;
}

/* Reads once.  Returns the number of payload bytes, or -1 if there were none. */
static ssize_t take(struct console *console) {
    ssize_t count = wire_read(&console->wire, room, sizeof room), total = 0;
    if (count == ENDED) die("the connection has ended");
    if (count == BLOCKED) return -1;
    unsigned char *at = room, *stop = room + count, *run;
    while ((count = next_run(&console->frames, &at, stop, &run)) >= 0)
        if (console->frames.opcode < CLOSE) total += count;
    return total;
}

static int by_value(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

void echo(void) {
    enum { MOST = 1 << 22 };
    struct console *consoles = calloc(connections, sizeof *consoles);
    unsigned char frame[65536 + 14], *payload = calloc(1, 65536);
    size_t length = put_frame(frame, BINARY, payload, size, MASK), count = 0;
    double *times = malloc(MOST * sizeof *times);
    struct epoll_event events[64];
    int poller = poll_all(consoles, "echo", EPOLLIN), alone = connections == 1;
    if (alone) fcntl(consoles->wire.fd, F_SETFL, 0);
    for (int i = 0; i < connections; i++) {
        consoles[i].since = now();
        send_all(&consoles[i].wire, frame, length);
    }
    for (double time = 0; time < end;) {
        int ready = alone ? 1 : epoll_wait(poller, events, 64, 10000);
        if (ready == 0) die("no answer for 10 seconds");
        for (int i = 0; i < ready; i++) {
            struct console *console = alone ? consoles : events[i].data.ptr;
            do {
                ssize_t got = take(console);
                if (got < 0 && alone) die("no answer for 10 seconds");
                if (got < 0) break;
                console->got += got;
                if (console->got < size) continue;
                time = now();
                if (time >= begin && time < end && count < MOST) times[count++] = time - console->since;
                rest(wait_time);
                console->got = 0;
                console->since = wait_time ? now() : time;
                send_all(&console->wire, frame, length);
            } while (wire_pending(&console->wire));
        }
    }
    if (count == 0) die("no message came back");
    qsort(times, count, sizeof *times, by_value);
    printf("{\"rate\": %.1f, \"p50\": %.2f, \"p99\": %.2f}\n", count / seconds, times[count / 2] * 1e6,
           times[(size_t)(count * 0.99)] * 1e6);
}

void down(void) {
    struct console *consoles = calloc(connections, sizeof *consoles);
    struct epoll_event events[64];
    char target[64];
    snprintf(target, sizeof target, "source/%d", (int)size);
    int poller = poll_all(consoles, target, EPOLLIN);
    double total = 0, time = 0, first = 0;
    while (time < end) {
        int ready = epoll_wait(poller, events, 64, 10000);
        if (ready == 0) die("nothing came for 10 seconds");
        for (int i = 0; i < ready; i++) {
            struct console *console = events[i].data.ptr;
            for (int turn = 0; turn < 16; turn++) {
                ssize_t count = wire_drop(&console->wire);
                if (count == ENDED) die("the connection has ended");
                if (count == BLOCKED) break;
                if (first) total += count;
            }
        }
        time = now();
        if (!first && time >= begin) first = time;
    }
    if (time <= first) die("no time to measure in");
    printf("{\"rate\": %.0f}\n", total / (time - first));
}

/* Counted at the receiver: between the first and the last report of the sinks, and until there are two. */
void up(void) {
    struct console *consoles = calloc(connections, sizeof *consoles);
    unsigned char *block = malloc(BLOCK + 65536 + 14), *payload = calloc(1, 65536);
    struct epoll_event events[64];
    size_t block_size = 0;
    while (block_size < BLOCK) block_size += put_frame(block + block_size, BINARY, payload, size, MASK);
    int poller = poll_all(consoles, "sink", EPOLLIN | EPOLLOUT);
    double total = 0, time = 0, first = 0, last = 0;
    while (time < end || last <= first) {
        int ready = epoll_wait(poller, events, 64, 10000);
        if (ready == 0) die("nothing was taken for 10 seconds");
        time = now();
        for (int i = 0; i < ready; i++) {
            struct console *console = events[i].data.ptr;
            for (int turn = 0; turn < 16 && events[i].events & EPOLLOUT; turn++) {
                ssize_t count = wire_write(&console->wire, block + console->sent, block_size - console->sent);
                if (count == ENDED) die("the connection has ended");
                if (count == BLOCKED) break;
                console->sent = (console->sent + count) % block_size;
            }
            for (ssize_t got; events[i].events & EPOLLIN && (got = take(console)) >= 0;) {
                if (time < begin) continue;
                if (first) total += got;
                else first = time;
                last = time;
            }
        }
    }
    printf("{\"rate\": %.0f}\n", total / 8 * GRAIN / (last - first));
}
