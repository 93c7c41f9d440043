/* One client of the load, and the load's options. */
#ifndef LOAD_H
#define LOAD_H
#include "wire.h"

extern double port, tls, raw, seconds, warm, connections, size, rate, resume, wait_time;
extern double closing, chunked, fresh;
extern SSL_CTX *context;

struct console {
    struct wire wire;
    struct frames frames;
    size_t got, sent; /* payload of this answer; place in the block */
    double since;
};

/* Opens one console.  The socket is blocking, with a timeout of 10 seconds. */
struct wire open_wire(const char *target);

/* Connects from 127.0.0.1, or from an address `source` above it, because each has its own free ports. */
struct wire connect_wire(int source);

/* Gives a connection TLS, which resumes `session` if there is one. */
void start_tls(struct wire *wire, SSL_SESSION *session);

/* Writes the request of an opening handshake.  Returns its length. */
size_t put_request(char *text, size_t size, const char *target);


void send_all(struct wire *wire, const void *bytes, size_t count);
void rest(double duration);

void echo(void);
void down(void);
void up(void);
void open_sessions(void);
void hold(void);
void get(void);
void download(void);
void upload(void);
#endif
