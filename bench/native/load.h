/* One client of the load, and the load's options. */
#ifndef LOAD_H
#define LOAD_H
#include "wire.h"

extern double port, tls, raw, seconds, warm, connections, size, rate, resume, wait_time;
extern SSL_CTX *context;

struct console {
    struct wire wire;
    struct frames frames;
    size_t got, sent; /* payload of this answer; place in the block */
    double since;
};

/* Opens one console.  The socket is blocking, with a timeout of 10 seconds. */
struct wire open_wire(const char *target, SSL_SESSION *session);

void send_all(struct wire *wire, const void *bytes, size_t count);
void rest(double duration);

void echo(void);
void down(void);
void up(void);
void open_sessions(void);
void hold(void);
#endif
