/* One thread waits in epoll_wait; what became ready is noted in the descriptor's slot and its number appended to
 * `queue`. The first entry of a queue wakes the JavaScript thread; what becomes ready until that takes the queue joins
 * it. Descriptors are watched one-shot, so an idle watcher causes no wake-ups and a slow JavaScript thread no spinning.
 *
 * INVARIANTS, under `lock`: a number is in `queue` exactly when its slot is active and has `ready` != 0; so the queue
 * never holds a removed descriptor, nor more entries than there are active slots, for which `queue` always has room. An
 * event carries the generation its descriptor had when it was added, and is dropped when that has changed: a descriptor
 * number that is closed and used again never gets an event of its predecessor. */
#include "watcher.h"

#include "addon.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_MAX 64
#define STACK_SIZE (128 * 1024)
/* The stop event's key; no descriptor is that large. */
#define STOP_KEY UINT64_MAX

struct slot {
  uint32_t generation;
  uint32_t ready; /* events not yet taken */
  bool active;
};

struct watcher {
  /* Constant while the thread runs. */
  int epoll_fd;
  int stop_fd;
  wake_function wake;
  void *context;

  /* JavaScript thread only. */
  pthread_t thread;
  uint32_t generation;
  bool started;
  bool stopped;

  pthread_mutex_t lock;
  /* All below under lock. */
  struct slot *slots; /* by descriptor */
  size_t slot_count;
  int *queue; /* descriptors with events not yet taken */
  size_t queued;
  size_t queue_size;
  size_t active; /* active slots */
  bool woken;    /* JavaScript was woken and has not taken the queue */
};

/* Watcher's thread. */
static void note_events(struct watcher *watcher, const struct epoll_event *events, int count) {
  bool wake = false;
  (void)pthread_mutex_lock(&watcher->lock);
  for (int i = 0; i < count; i++) {
    uint64_t key = events[i].data.u64;
    size_t fd = (size_t)(key & UINT32_MAX);
    if (fd >= watcher->slot_count) continue;
    struct slot *slot = &watcher->slots[fd];
    if (!slot->active || slot->generation != (uint32_t)(key >> 32)) continue;
    if (slot->ready == 0) watcher->queue[watcher->queued++] = (int)fd;
    slot->ready |= events[i].events;
  }
  if (watcher->queued > 0 && !watcher->woken) watcher->woken = wake = true;
  (void)pthread_mutex_unlock(&watcher->lock);
  if (wake) watcher->wake(watcher->context);
}

static void *watcher_main(void *data) {
  struct watcher *watcher = data;
  struct epoll_event events[EVENTS_MAX];
  for (;;) {
    int count = epoll_wait(watcher->epoll_fd, events, EVENTS_MAX, -1);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return NULL;
    for (int i = 0; i < count; i++) {
      if (events[i].data.u64 == STOP_KEY) return NULL;
    }
    note_events(watcher, events, count);
  }
}

static int start(struct watcher *watcher) {
  if (watcher->started) return 0;
  pthread_attr_t attributes;
  sigset_t all, before;
  /* Signals are for Node's threads. */
  (void)sigfillset(&all);
  (void)pthread_attr_init(&attributes);
  (void)pthread_attr_setstacksize(&attributes, STACK_SIZE);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  int err = pthread_create(&watcher->thread, &attributes, watcher_main, watcher);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  (void)pthread_attr_destroy(&attributes);
  if (err != 0) return err;
  (void)pthread_setname_np(watcher->thread, "lamina-poll");
  watcher->started = true;
  return 0;
}

struct watcher *watcher_open(wake_function wake, void *context) {
  struct watcher *watcher = calloc(1, sizeof(*watcher));
  if (watcher == NULL) return NULL;
  watcher->wake = wake;
  watcher->context = context;
  watcher->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  watcher->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = STOP_KEY};
  if (watcher->epoll_fd < 0 || watcher->stop_fd < 0 ||
      epoll_ctl(watcher->epoll_fd, EPOLL_CTL_ADD, watcher->stop_fd, &event) != 0) {
    close_fd(watcher->epoll_fd);
    close_fd(watcher->stop_fd);
    free(watcher);
    return NULL;
  }
  /* Cannot fail with default attributes on Linux. */
  (void)pthread_mutex_init(&watcher->lock, NULL);
  return watcher;
}

void watcher_stop(struct watcher *watcher) {
  if (watcher->stopped) return;
  watcher->stopped = true;
  if (watcher->started) {
    uint64_t one = 1;
    ssize_t written;
    RETRY(written, write(watcher->stop_fd, &one, sizeof(one)));
    (void)pthread_join(watcher->thread, NULL);
  }
  close_fd(watcher->epoll_fd);
  close_fd(watcher->stop_fd);
}

void watcher_free(struct watcher *watcher) {
  (void)pthread_mutex_destroy(&watcher->lock);
  free(watcher->slots);
  free(watcher->queue);
  free(watcher);
}

/* Under lock: room for a slot of this number and for one more entry in the queue. */
static bool reserve(struct watcher *watcher, size_t fd) {
  if (fd >= watcher->slot_count) {
    size_t wanted = fd + 64;
    struct slot *slots = realloc(watcher->slots, wanted * sizeof(*slots));
    if (slots == NULL) return false;
    memset(slots + watcher->slot_count, 0, (wanted - watcher->slot_count) * sizeof(*slots));
    watcher->slots = slots;
    watcher->slot_count = wanted;
  }
  if (watcher->active >= watcher->queue_size) {
    size_t wanted = watcher->queue_size * 2 + 64;
    int *queue = realloc(watcher->queue, wanted * sizeof(*queue));
    if (queue == NULL) return false;
    watcher->queue = queue;
    watcher->queue_size = wanted;
  }
  return true;
}

/* Under lock. */
static bool is_active(const struct watcher *watcher, int fd) {
  return fd >= 0 && (size_t)fd < watcher->slot_count && watcher->slots[fd].active;
}

/* Under lock. */
static void deactivate(struct watcher *watcher, int fd) {
  struct slot *slot = &watcher->slots[fd];
  if (slot->ready != 0) {
    size_t at = 0;
    while (watcher->queue[at] != fd) at++;
    watcher->queued--;
    memmove(watcher->queue + at, watcher->queue + at + 1, (watcher->queued - at) * sizeof(int));
  }
  slot->ready = 0;
  slot->active = false;
  watcher->active--;
}

/* 0 or an errno. */
static int control(struct watcher *watcher, int operation, int fd, uint32_t events, uint32_t generation) {
  uint64_t key = ((uint64_t)generation << 32) | (uint32_t)fd;
  struct epoll_event event = {.events = events | EPOLLONESHOT, .data.u64 = key};
  return epoll_ctl(watcher->epoll_fd, operation, fd, &event) == 0 ? 0 : errno;
}

int watcher_add(struct watcher *watcher, int fd, uint32_t events) {
  if (fd < 0 || watcher->stopped) return EBADF;
  int err = start(watcher);
  if (err != 0) return err;
  (void)pthread_mutex_lock(&watcher->lock);
  uint32_t generation = ++watcher->generation;
  err = reserve(watcher, (size_t)fd) ? control(watcher, EPOLL_CTL_ADD, fd, events, generation) : ENOMEM;
  if (err == 0) {
    /* Closed without watcher_remove: its watch went with it, its slot did not. */
    if (is_active(watcher, fd)) deactivate(watcher, fd);
    watcher->slots[fd] = (struct slot){.generation = generation, .active = true};
    watcher->active++;
  }
  (void)pthread_mutex_unlock(&watcher->lock);
  return err;
}

int watcher_rearm(struct watcher *watcher, int fd, uint32_t events) {
  if (watcher->stopped) return EBADF;
  int err = ENOENT;
  (void)pthread_mutex_lock(&watcher->lock);
  if (is_active(watcher, fd)) err = control(watcher, EPOLL_CTL_MOD, fd, events, watcher->slots[fd].generation);
  (void)pthread_mutex_unlock(&watcher->lock);
  return err;
}

void watcher_remove(struct watcher *watcher, int fd) {
  if (watcher->stopped) return;
  (void)pthread_mutex_lock(&watcher->lock);
  if (is_active(watcher, fd)) {
    /* Fails when the descriptor was closed before: then there is no watch any more. */
    (void)epoll_ctl(watcher->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    deactivate(watcher, fd);
  }
  (void)pthread_mutex_unlock(&watcher->lock);
}

int *watcher_take(struct watcher *watcher, size_t *count) {
  errno = 0;
  (void)pthread_mutex_lock(&watcher->lock);
  watcher->woken = false;
  *count = watcher->queued;
  int *pairs = *count > 0 ? malloc(*count * 2 * sizeof(int)) : NULL;
  if (pairs != NULL) {
    for (size_t i = 0; i < *count; i++) {
      struct slot *slot = &watcher->slots[watcher->queue[i]];
      pairs[i * 2] = watcher->queue[i];
      pairs[i * 2 + 1] = (int)slot->ready;
      slot->ready = 0;
    }
    watcher->queued = 0;
  }
  (void)pthread_mutex_unlock(&watcher->lock);
  return pairs;
}
