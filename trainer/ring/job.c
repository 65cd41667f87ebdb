#include "job.h"

#include <stdlib.h>
#include <string.h>

#include "add.h"

#define PIECES 64

/* ---- Blocks ---- */

static int steps_of(const struct job *job) { return 2 * (job->size - 1); }

static int block_of(const struct job *job, int shift) {
  int block = (job->rank - shift) % job->size;
  return block < 0 ? block + job->size : block;
}

static size_t block_start(const struct job *job, int block) {
  uint64_t elements = job->bytes / job->width, size = (uint64_t)job->size;
  uint64_t whole = elements / size, rest = elements % size, b = (uint64_t)block;
  return (size_t)(whole * b + (b < rest ? b : rest)) * job->width;
}

static size_t block_bytes(const struct job *job, int block) {
  return block_start(job, block + 1) - block_start(job, block);
}

static int out_block(const struct job *job) { return block_of(job, job->out.step); }

static int in_block(const struct job *job) { return block_of(job, job->in.step + 1); }

/* Step over what is complete, and blocks of nothing. */
static void settle(struct job *job) {
  int steps = steps_of(job);
  while (job->out.step < steps && job->out.offset == block_bytes(job, out_block(job)))
    job->out = (struct cursor){job->out.step + 1, 0};
  while (job->in.step < steps && job->in.offset == block_bytes(job, in_block(job)))
    job->in = (struct cursor){job->in.step + 1, 0};
}

bool job_sent(const struct job *job) { return job->out.step == steps_of(job); }

bool job_received(const struct job *job) { return job->in.step == steps_of(job); }

bool job_adds(const struct job *job) { return job->in.step < job->size - 1; }

size_t job_sendable(const struct job *job) {
  if (job_sent(job)) return 0;
  size_t block = block_bytes(job, out_block(job)), limit = block;
  if (job->out.step > 0 && job->in.step == job->out.step - 1) limit = job->in.offset;
  if (job->out.step > 0 && job->in.step < job->out.step - 1) limit = 0;
  if (limit <= job->out.offset) return 0;
  size_t length = limit - job->out.offset;
  /* Frames are whole, or end their block. */
  if (length < FRAME && limit < block) return 0;
  return length < FRAME ? length : FRAME;
}

bool job_expects(const struct job *job, size_t length) {
  size_t left = block_bytes(job, in_block(job)) - job->in.offset;
  return length <= left && (length == FRAME || length == left);
}

void job_pushed(struct job *job, size_t length) {
  job->out.offset += length;
  settle(job);
}

void job_pulled(struct job *job, size_t length) {
  job->in.offset += length;
  settle(job);
}

/* ---- Segments ---- */

/* Fill `pieces` with the memory of [at, at + length), as far as they reach. */
static int gather(const struct job *job, size_t at, size_t length, struct iovec *pieces, int most) {
  size_t low = 0, high = job->count;
  while (high - low > 1) {
    size_t middle = (low + high) / 2;
    if (job->starts[middle] <= at)
      low = middle;
    else
      high = middle;
  }
  int count = 0;
  for (size_t i = low; length && count < most; i++) {
    size_t skip = at - job->starts[i], here = job->segments[i].bytes - skip;
    if (here > length) here = length;
    if (!here) continue;
    pieces[count++] = (struct iovec){job->segments[i].data + skip, here};
    at += here;
    length -= here;
  }
  return count;
}

int job_sends(const struct job *job, size_t length, struct iovec *pieces, int most) {
  return gather(job, block_start(job, out_block(job)) + job->out.offset, length, pieces, most);
}

int job_replaces(const struct job *job, size_t length, struct iovec *pieces, int most) {
  return gather(job, block_start(job, in_block(job)) + job->in.offset, length, pieces, most);
}

void job_take(struct job *job, const char *data, size_t length) {
  bool adds = job_adds(job);
  size_t at = block_start(job, in_block(job)) + job->in.offset, end = at + length;
  while (at < end) {
    struct iovec pieces[PIECES];
    int count = gather(job, at, end - at, pieces, PIECES);
    for (int i = 0; i < count; i++) {
      size_t bytes = pieces[i].iov_len;
      if (adds)
        ring_add(job->dtype, pieces[i].iov_base, data, bytes / job->width);
      else
        memcpy(pieces[i].iov_base, data, bytes);
      data += bytes;
      at += bytes;
    }
  }
  job_pulled(job, length);
}

/* ---- Beginning and end ---- */

struct job *job_new(int rank, int size, uint64_t key, int dtype,
                    const struct ring_segment *segments, size_t count, ring_done done, void *arg) {
  struct job *job = calloc(1, sizeof *job + count * sizeof *segments);
  size_t *starts = malloc((count + 1) * sizeof *starts);
  if (!job || !starts) {
    free(job);
    free(starts);
    return NULL;
  }
  *job = (struct job){.key = key, .dtype = (uint32_t)dtype, .rank = rank, .size = size,
                      .width = ring_width(dtype), .count = count, .starts = starts,
                      .done = done, .arg = arg};
  for (size_t i = 0; i < count; i++) {
    job->segments[i] = segments[i];
    starts[i] = job->bytes;
    job->bytes += segments[i].bytes;
  }
  starts[count] = job->bytes;
  settle(job);
  return job;
}

void job_finish(struct job *job, enum ring_outcome outcome, const char *error) {
  ring_done done = job->done;
  void *arg = job->arg;
  free(job->starts);
  free(job);
  done(arg, outcome, error);
}
