#define _GNU_SOURCE
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "job.h"

#define PIECES 64

/* Before each frame. Key 0 is the sign of life of a member that has nothing to say. The members
 * are of one byte order, which the greeting has checked. */
struct header {
  uint64_t key;
  uint64_t bytes; /* Of the whole reduction. */
  uint32_t length;
  uint32_t dtype;
};

/* A frame of a reduction that this member has not started yet. */
struct parked {
  struct parked *next;
  struct header header;
  char data[];
};

struct ring {
  int rank, size, left, right, wake;
  int64_t silence_ms, heard, spoke;
  pthread_t thread;

  pthread_mutex_t lock; /* Of the next three. */
  struct job *started, **started_end;
  bool closing, broken;

  /* All below belongs to the thread. */
  struct job *jobs;
  struct parked *parked, **parked_end;
  struct header sending;
  struct job *sending_job;
  size_t sending_head, sending_body; /* Bytes that remain. */
  struct header coming;
  size_t coming_head, coming_body;
  struct job *coming_job;
  bool coming_adds;
  char *scratch;
  struct parked *coming_parked;
  enum ring_outcome fault;
  char error[256];
};

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* Note why the ring breaks. */
static bool give_up(struct ring *ring, enum ring_outcome fault, const char *what, int error) {
  ring->fault = fault;
  snprintf(ring->error, sizeof ring->error, "%s%s%s", what, error ? ": " : "",
           error ? strerror(error) : "");
  return false;
}

/* ---- Jobs ---- */

/* Return whether a frame is what the job waits for. */
static bool fits(struct ring *ring, const struct job *job, const struct header *header) {
  if (header->bytes != job->bytes || header->dtype != job->dtype) {
    give_up(ring, RING_DIFFERS, "", 0);
    snprintf(ring->error, sizeof ring->error,
             "workers reduce different tensors at once: %llu bytes of type %u here, %llu of type "
             "%u at the worker before; reduce the same shapes in the same order on all",
             (unsigned long long)job->bytes, job->dtype, (unsigned long long)header->bytes,
             header->dtype);
    return false;
  }
  if (!job_expects(job, header->length))
    return give_up(ring, RING_LOST, "the worker before sends nonsense", 0);
  return true;
}

static struct job *awaiting(struct ring *ring, uint64_t key) {
  for (struct job *job = ring->jobs; job; job = job->next)
    if (job->key == key && !job_received(job)) return job;
  return NULL;
}

/* Take in what came for a key before it was started. What is parked is older than all that will
 * still come, and as long as something is, no job awaits that key. */
static bool unpark(struct ring *ring, uint64_t key) {
  struct job *job = awaiting(ring, key);
  for (struct parked **link = &ring->parked; job && *link;) {
    struct parked *parked = *link;
    if (parked->header.key != key || parked == ring->coming_parked) {
      link = &parked->next;
      continue;
    }
    if (!fits(ring, job, &parked->header)) return false;
    job_take(job, parked->data, parked->header.length);
    *link = parked->next;
    if (ring->parked_end == &parked->next) ring->parked_end = link;
    free(parked);
    job = awaiting(ring, key);
  }
  return true;
}

/* Bring in what other threads have started. */
static bool admit(struct ring *ring) {
  pthread_mutex_lock(&ring->lock);
  struct job *job = ring->started;
  ring->started = NULL;
  ring->started_end = &ring->started;
  pthread_mutex_unlock(&ring->lock);
  struct job **end = &ring->jobs;
  while (*end) end = &(*end)->next;
  *end = job;
  for (; job; job = job->next)
    if (!unpark(ring, job->key)) return false;
  return true;
}

/* Complete what is sent and received. */
static void retire(struct ring *ring) {
  for (struct job **link = &ring->jobs; *link;) {
    struct job *job = *link;
    if (!job_sent(job) || !job_received(job)) {
      link = &job->next;
      continue;
    }
    *link = job->next;
    job_finish(job, RING_SUMMED, NULL);
  }
}

/* ---- The sockets ---- */

/* Return whether one of the same key before it has something to send, now or later. */
static bool behind(const struct ring *ring, const struct job *job) {
  for (const struct job *other = ring->jobs; other != job; other = other->next)
    if (other->key == job->key && !job_sent(other)) return true;
  return false;
}

/* Choose what is sent next; return false if there is nothing. */
static bool load(struct ring *ring) {
  struct job *job = ring->jobs;
  size_t length = 0;
  for (; job; job = job->next)
    if ((length = job_sendable(job)) && !behind(ring, job)) break;
  if (!job && now_ms() - ring->spoke < ring->silence_ms / 5) return false;
  ring->sending = (struct header){0};
  if (job) ring->sending = (struct header){job->key, job->bytes, (uint32_t)length, job->dtype};
  ring->sending_job = job;
  ring->sending_head = sizeof ring->sending;
  ring->sending_body = length;
  return true;
}

/* Send what the kernel takes of one frame. Returns -1 when the ring is broken, 0 when nothing
 * could be done. */
static int push(struct ring *ring) {
  if (!ring->sending_head && !ring->sending_body && !load(ring)) return 0;
  struct iovec pieces[PIECES];
  int count = 0;
  struct job *job = ring->sending_job;
  if (ring->sending_head)
    pieces[count++] = (struct iovec){
        (char *)(&ring->sending + 1) - ring->sending_head, ring->sending_head};
  if (job)
    count += job_sends(job, ring->sending_body, pieces + count, PIECES - count);
  struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
  ssize_t sent = sendmsg(ring->right, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) {
    if (errno == EAGAIN || errno == EINTR) return 0;
    give_up(ring, RING_LOST, "the next worker does not receive", errno);
    return -1;
  }
  size_t head = (size_t)sent < ring->sending_head ? (size_t)sent : ring->sending_head;
  size_t body = (size_t)sent - head;
  ring->sending_head -= head;
  ring->sending_body -= body;
  if (job) job_pushed(job, body);
  if (!ring->sending_head && !ring->sending_body) {
    ring->spoke = now_ms();
    ring->sending_job = NULL;
  }
  return 1;
}

/* Find the place of the frame whose header has come. */
static bool place(struct ring *ring) {
  const struct header *header = &ring->coming;
  ring->coming_job = NULL;
  ring->coming_parked = NULL;
  ring->coming_body = header->length;
  if (!header->key && !header->length) return true;
  if (!header->length || header->length > FRAME)
    return give_up(ring, RING_LOST, "the worker before sends nonsense", 0);
  ring->coming_job = awaiting(ring, header->key);
  if (ring->coming_job) {
    ring->coming_adds = job_adds(ring->coming_job);
    return fits(ring, ring->coming_job, header);
  }
  struct parked *parked = malloc(sizeof *parked + header->length);
  if (!parked) return give_up(ring, RING_REFUSED, "out of memory", 0);
  parked->next = NULL;
  parked->header = *header;
  *ring->parked_end = parked;
  ring->parked_end = &parked->next;
  ring->coming_parked = parked;
  return true;
}

/* Where the rest of the present frame goes. What replaces goes to its place at once. */
static int room(struct ring *ring, struct iovec *pieces) {
  struct job *job = ring->coming_job;
  size_t had = ring->coming.length - ring->coming_body;
  if (job && !ring->coming_adds) return job_replaces(job, ring->coming_body, pieces, PIECES);
  char *buffer = job ? ring->scratch : ring->coming_parked->data;
  pieces[0] = (struct iovec){buffer + had, ring->coming_body};
  return 1;
}

/* A whole frame has come. */
static bool arrived(struct ring *ring) {
  struct job *job = ring->coming_job;
  ring->coming_head = sizeof ring->coming;
  if (job) {
    /* What replaces is in its place, and counted. */
    if (ring->coming_adds) job_take(job, ring->scratch, ring->coming.length);
    ring->coming_job = NULL;
  } else if (ring->coming_parked) {
    ring->coming_parked = NULL;
    /* It may have been started while the frame came. */
    return unpark(ring, ring->coming.key);
  }
  return true;
}

/* Receive what the kernel has of one frame. Returns -1 when the ring is broken, 0 when nothing
 * could be done. */
static int pull(struct ring *ring) {
  struct iovec pieces[PIECES];
  int count = 1;
  if (ring->coming_head)
    pieces[0] = (struct iovec){(char *)(&ring->coming + 1) - ring->coming_head, ring->coming_head};
  else
    count = room(ring, pieces);
  struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
  ssize_t got = recvmsg(ring->left, &message, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (got <= 0) {
    give_up(ring, RING_LOST, "the worker before has closed the connection", got ? errno : 0);
    return -1;
  }
  ring->heard = now_ms();
  if (ring->coming_head) {
    ring->coming_head -= (size_t)got;
    if (ring->coming_head) return 1;
    if (!place(ring)) return -1;
  } else {
    ring->coming_body -= (size_t)got;
    if (ring->coming_job && !ring->coming_adds) job_pulled(ring->coming_job, (size_t)got);
  }
  return ring->coming_body || arrived(ring) ? 1 : -1;
}

/* Sleep until there may be something to do. Returns false when the left member is lost. */
static bool rest(struct ring *ring) {
  int64_t beat = ring->silence_ms / 5, now = now_ms();
  bool more = ring->sending_head || ring->sending_body;
  struct pollfd events[] = {
      {.fd = ring->left, .events = POLLIN},
      {.fd = ring->wake, .events = POLLIN},
      {.fd = ring->right, .events = more ? POLLOUT : 0},
  };
  int64_t wait = ring->spoke + beat - now;
  if (more || wait > beat) wait = beat;
  poll(events, 3, wait < 1 ? 1 : (int)wait);
  if (events[1].revents) {
    uint64_t count;
    (void)!read(ring->wake, &count, sizeof count);
  }
  if (events[2].revents & (POLLERR | POLLHUP))
    return give_up(ring, RING_LOST, "the next worker has closed the connection", 0);
  /* A member that was stopped itself first reads what came meanwhile. */
  if (!events[0].revents && now_ms() - ring->heard > ring->silence_ms)
    return give_up(ring, RING_LOST, "the worker before has been silent for too long", 0);
  return true;
}

static void *run(void *arg) {
  struct ring *ring = arg;
  for (;;) {
    pthread_mutex_lock(&ring->lock);
    bool closing = ring->closing;
    pthread_mutex_unlock(&ring->lock);
    if (closing) give_up(ring, RING_LOST, "the ring is closed", 0);
    if (closing || !admit(ring)) break;
    int pushed = push(ring), pulled = pushed < 0 ? -1 : pull(ring);
    if (pulled < 0) break;
    retire(ring);
    if (!pushed && !pulled && !rest(ring)) break;
  }
  /* The neighbours learn of it at once, and theirs from them. */
  shutdown(ring->left, SHUT_RDWR);
  shutdown(ring->right, SHUT_RDWR);
  pthread_mutex_lock(&ring->lock);
  ring->broken = true;
  struct job *jobs[] = {ring->jobs, ring->started};
  ring->jobs = ring->started = NULL;
  pthread_mutex_unlock(&ring->lock);
  for (int i = 0; i < 2; i++)
    for (struct job *job = jobs[i], *next; job; job = next) {
      next = job->next;
      job_finish(job, ring->fault, ring->error);
    }
  return NULL;
}

/* ---- What others call ---- */

size_t ring_width(int dtype) {
  switch (dtype) {
    case RING_FLOAT:
    case RING_INT32:
      return 4;
    case RING_DOUBLE:
    case RING_INT64:
      return 8;
    case RING_BFLOAT16:
    case RING_HALF:
      return 2;
    default:
      return 0;
  }
}

void ring_start(struct ring *ring, uint64_t key, int dtype, const struct ring_segment *segments,
                size_t count, ring_done done, void *arg) {
  if (!ring_width(dtype)) {
    done(arg, RING_REFUSED, "a type that cannot be added");
    return;
  }
  struct job *job = job_new(ring->rank, ring->size, key, dtype, segments, count, done, arg);
  if (!job) {
    done(arg, RING_REFUSED, "out of memory");
    return;
  }
  pthread_mutex_lock(&ring->lock);
  bool broken = ring->broken;
  if (!broken) {
    *ring->started_end = job;
    ring->started_end = &job->next;
  }
  pthread_mutex_unlock(&ring->lock);
  if (broken) {
    job_finish(job, ring->fault, ring->error);
    return;
  }
  uint64_t one = 1;
  (void)!write(ring->wake, &one, sizeof one);
}

struct ring *ring_open(int rank, int size, int left, int right, int silence_ms) {
  struct ring *ring = calloc(1, sizeof *ring);
  if (!ring) return NULL;
  *ring = (struct ring){.rank = rank, .size = size, .left = left, .right = right,
                        .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                        .silence_ms = silence_ms, .heard = now_ms(), .spoke = now_ms(),
                        .coming_head = sizeof ring->coming, .scratch = malloc(FRAME)};
  ring->started_end = &ring->started;
  ring->parked_end = &ring->parked;
  pthread_mutex_init(&ring->lock, NULL);
  if (ring->wake >= 0 && ring->scratch && !pthread_create(&ring->thread, NULL, run, ring))
    return ring;
  if (ring->wake >= 0) close(ring->wake);
  free(ring->scratch);
  free(ring);
  return NULL;
}

void ring_close(struct ring *ring) {
  pthread_mutex_lock(&ring->lock);
  ring->closing = true;
  pthread_mutex_unlock(&ring->lock);
  uint64_t one = 1;
  (void)!write(ring->wake, &one, sizeof one);
  pthread_join(ring->thread, NULL);
  for (struct parked *parked = ring->parked, *next; parked; parked = next) {
    next = parked->next;
    free(parked);
  }
  close(ring->left);
  close(ring->right);
  close(ring->wake);
  pthread_mutex_destroy(&ring->lock);
  free(ring->scratch);
  free(ring);
}
