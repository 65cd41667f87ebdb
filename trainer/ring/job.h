/* One reduction as one member of a ring sees it: what it may send, and what to do with what comes.
 *
 * Touches no socket and no lock.
 */
#ifndef TAAS_RING_JOB_H
#define TAAS_RING_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "engine.h"

/* What travels at once. Small enough for the second-level cache, where it is added, and large
 * enough that the calls to the kernel do not count. A multiple of every width. */
#define FRAME (512u << 10)

/* A place in what a member sends or receives: blocks one after the other. */
struct cursor {
  int step;
  size_t offset;
};

/* In 2 (N - 1) steps a member sends a block to the right and receives one from the left. What came
 * in a step goes out in the next, so how far it may send follows from how far it has received. In
 * the first N - 1 steps what comes is added to the member's own, which leaves it with one complete
 * block; in the others complete blocks replace. */
struct job {
  struct job *next;
  uint64_t key;
  uint64_t bytes;
  uint32_t dtype;
  int rank, size; /* Of the member and its ring. */
  size_t width;
  size_t count;
  size_t *starts; /* Where each segment begins, and the end. */
  struct cursor out, in;
  ring_done done;
  void *arg;
  struct ring_segment segments[];
};

/* Return a reduction from its beginning, or NULL without memory. */
struct job *job_new(int rank, int size, uint64_t key, int dtype,
                    const struct ring_segment *segments, size_t count, ring_done done, void *arg);

/* Free it, and tell who started it. */
void job_finish(struct job *job, enum ring_outcome outcome, const char *error);

/* Whether all of it has been sent, or received. */
bool job_sent(const struct job *job);
bool job_received(const struct job *job);

/* Bytes that may be sent now as one frame. */
size_t job_sendable(const struct job *job);

/* Fill `pieces` with the memory of the next bytes to send, as far as they reach; return how many. */
int job_sends(const struct job *job, size_t length, struct iovec *pieces, int most);

/* Note that so many bytes have been sent. */
void job_pushed(struct job *job, size_t length);

/* Whether a frame of this length can come next. */
bool job_expects(const struct job *job, size_t length);

/* Whether what comes next is added and not put in place. */
bool job_adds(const struct job *job);

/* Fill `pieces` with the memory that the next bytes replace, as job_sends does; of one that does
 * not add. job_pulled notes that they have come. */
int job_replaces(const struct job *job, size_t length, struct iovec *pieces, int most);
void job_pulled(struct job *job, size_t length);

/* Take a whole frame in: add it or put it in its place. */
void job_take(struct job *job, const char *data, size_t length);

#endif
