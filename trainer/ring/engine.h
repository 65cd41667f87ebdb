/* Adds up tensors over the members of a group, along a ring of stream sockets.
 *
 * Knows neither TensorFlow nor how the sockets came to be. One thread a ring does all the work;
 * any thread may start a reduction. Many can be under way at once, started in any order: each has
 * a key, which is the same at all members. Those of one key follow each other as they were started.
 */
#ifndef TAAS_RING_ENGINE_H
#define TAAS_RING_ENGINE_H

#include <stddef.h>
#include <stdint.h>

/* As TensorFlow numbers them. */
enum ring_dtype {
  RING_FLOAT = 1,
  RING_DOUBLE = 2,
  RING_INT32 = 3,
  RING_INT64 = 9,
  RING_BFLOAT16 = 14,
  RING_HALF = 19,
};

enum ring_outcome {
  RING_SUMMED = 0,
  RING_LOST,     /* A member is gone. */
  RING_DIFFERS,  /* Members reduce tensors of different sizes or types under one key. */
  RING_REFUSED,  /* This member cannot do it: no memory, no such type. */
};

struct ring;

/* A part of what is added up; its size is a multiple of the type's. */
struct ring_segment {
  char *data;
  size_t bytes;
};

/* Called once for each reduction, on the ring's thread or, when the ring is broken already, on the
 * one that starts it. The segments hold the sums if the outcome is RING_SUMMED; otherwise `error`
 * says why not, and lives as long as the ring. */
typedef void (*ring_done)(void *arg, enum ring_outcome outcome, const char *error);

/* Begin a ring of `size` members, of which this is `rank`. Takes both sockets over: what this
 * member sends goes `right`, to rank + 1, and comes from the `left`. A left member that says
 * nothing for `silence_ms` is lost, and with it the ring. Returns NULL without memory or threads. */
struct ring *ring_open(int rank, int size, int left, int right, int silence_ms);

/* Add the segments, one after the other, to those of all members, in place. */
void ring_start(struct ring *ring, uint64_t key, int dtype, const struct ring_segment *segments,
                size_t count, ring_done done, void *arg);

/* End the thread, fail what is under way, close the sockets and free everything. */
void ring_close(struct ring *ring);

/* Bytes of one element, 0 of a type that cannot be added. */
size_t ring_width(int dtype);

#endif
