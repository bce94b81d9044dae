/* The poller: epoll on a thread of its own, ready descriptors delivered to JavaScript in batches.
 *
 * One thread waits in epoll_wait; what became ready is noted in the descriptor's slot and its number appended to
 * `queue`. The first entry of a queue asks for one JavaScript call; what becomes ready until that call runs joins it.
 * Descriptors are watched one-shot, so an idle poller causes no wake-ups and a slow JavaScript thread no spinning.
 *
 * INVARIANTS, under `lock`: a number is in `queue` exactly when its slot is active and has `ready` != 0; so the queue
 * never holds a removed descriptor, nor more entries than there are active slots, for which `queue` always has room. An
 * event carries the generation its descriptor had when it was added, and is dropped when that has changed: a descriptor
 * number that is closed and used again never gets an event of its predecessor.
 *
 * Lifetime: held by the JavaScript object and by the thread-safe function (`holders`, JavaScript thread only). */
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

struct slot {
  uint32_t generation;
  uint32_t ready; /* events not yet delivered */
  bool active;
};

struct poller {
  /* Set before the thread starts, then constant. */
  int epoll_fd;
  int stop_fd;
  napi_threadsafe_function deliver;

  /* JavaScript thread only. */
  pthread_t thread;
  unsigned holders;
  uint32_t generation;
  bool started;
  bool closed;

  pthread_mutex_t lock;
  struct slot *slots; /* by descriptor; under lock */
  size_t slot_count;  /* under lock */
  int *queue;         /* descriptors with undelivered events; under lock */
  size_t queued;      /* under lock */
  size_t queue_size;  /* under lock */
  size_t active;      /* active slots; under lock */
  bool call_pending;  /* a JavaScript call is asked for and has not taken the queue; under lock */
};

/* Tells our objects from anybody else's wrapped ones. */
#define POLLER_TAG                                                                                                     \
  { 0x4c616d696e61506fULL, 0x6c6c657200000001ULL }

static void poller_drop(struct poller *poller) {
  if (--poller->holders > 0) return;
  (void)pthread_mutex_destroy(&poller->lock);
  free(poller->slots);
  free(poller->queue);
  free(poller);
}

/* Poller thread. */
static void note_events(struct poller *poller, const struct epoll_event *events, int count) {
  bool call = false;
  (void)pthread_mutex_lock(&poller->lock);
  for (int i = 0; i < count; i++) {
    uint64_t key = events[i].data.u64;
    size_t fd = (size_t)(key & UINT32_MAX);
    if (fd >= poller->slot_count) continue;
    struct slot *slot = &poller->slots[fd];
    if (!slot->active || slot->generation != (uint32_t)(key >> 32)) continue;
    if (slot->ready == 0) poller->queue[poller->queued++] = (int)fd;
    slot->ready |= events[i].events;
  }
  if (poller->queued > 0 && !poller->call_pending) poller->call_pending = call = true;
  (void)pthread_mutex_unlock(&poller->lock);
  /* Fails only while the environment goes away, when nobody listens any more. */
  if (call) (void)napi_call_threadsafe_function(poller->deliver, NULL, napi_tsfn_nonblocking);
}

static void *poller_main(void *data) {
  struct poller *poller = data;
  struct epoll_event events[EVENTS_MAX];
  for (;;) {
    int count = epoll_wait(poller->epoll_fd, events, EVENTS_MAX, -1);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return NULL;
    for (int i = 0; i < count; i++) {
      if (events[i].data.u64 == UINT64_MAX) return NULL;
    }
    note_events(poller, events, count);
  }
}

/* Moves the queue into a JavaScript array of pairs; NULL when there is nothing (or on an exception). */
static napi_value take_queue(napi_env env, struct poller *poller) {
  (void)pthread_mutex_lock(&poller->lock);
  poller->call_pending = false;
  size_t count = poller->queued;
  int *pairs = count > 0 ? malloc(count * 2 * sizeof(int)) : NULL;
  if (pairs != NULL) {
    for (size_t i = 0; i < count; i++) {
      struct slot *slot = &poller->slots[poller->queue[i]];
      pairs[i * 2] = poller->queue[i];
      pairs[i * 2 + 1] = (int)slot->ready;
      slot->ready = 0;
    }
    poller->queued = 0;
  }
  (void)pthread_mutex_unlock(&poller->lock);
  if (count == 0) return NULL;
  if (pairs == NULL) return throw_errno(env, ENOMEM, "malloc", NULL);
  napi_value array = NULL;
  bool ok = napi_create_array_with_length(env, count * 2, &array) == napi_ok;
  for (size_t i = 0; ok && i < count * 2; i++) {
    napi_value number;
    ok = napi_create_int32(env, pairs[i], &number) == napi_ok &&
         napi_set_element(env, array, (uint32_t)i, number) == napi_ok;
  }
  free(pairs);
  if (!ok) throw_status(env);
  return ok ? array : NULL;
}

/* JavaScript thread, called by Node-API; env is NULL while the function is torn down. */
static void on_call(napi_env env, napi_value callback, void *context, void *data) {
  (void)data;
  struct poller *poller = context;
  if (env == NULL || callback == NULL || poller->closed) return;
  napi_value array = take_queue(env, poller), self;
  if (array != NULL && napi_get_undefined(env, &self) == napi_ok) {
    (void)napi_call_function(env, self, callback, 1, &array, NULL);
  }
  /* Node would only warn about an exception that leaves this function: make it an uncaught one. */
  bool pending = false;
  napi_value error;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok) {
    (void)napi_fatal_exception(env, error);
  }
}

static void on_function_finalized(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  poller_drop(data);
}

static void poller_stop(struct poller *poller) {
  if (poller->closed) return;
  poller->closed = true;
  if (poller->started) {
    uint64_t one = 1;
    ssize_t written;
    RETRY(written, write(poller->stop_fd, &one, sizeof(one)));
    (void)pthread_join(poller->thread, NULL);
  }
  close_fd(poller->epoll_fd);
  close_fd(poller->stop_fd);
  (void)napi_release_threadsafe_function(poller->deliver, napi_tsfn_abort);
}

static void on_environment_end(void *data) {
  poller_stop(data);
}

static void on_object_finalized(napi_env env, void *data, void *hint) {
  (void)hint;
  struct poller *poller = data;
  if (!poller->closed) {
    (void)napi_remove_env_cleanup_hook(env, on_environment_end, poller);
    poller_stop(poller);
  }
  poller_drop(poller);
}

/* The poller behind `this`, its arguments taken; NULL with an exception pending. */
static struct poller *poller_of(napi_env env, napi_callback_info info, napi_value *args, size_t count) {
  const napi_type_tag tag = POLLER_TAG;
  napi_value self;
  bool ours = false;
  struct poller *poller = NULL;
  if (!get_args(env, info, args, count, &self)) return NULL;
  if (napi_check_object_type_tag(env, self, &tag, &ours) != napi_ok || !ours ||
      napi_unwrap(env, self, (void **)&poller) != napi_ok) {
    (void)throw_arg(env, "this", "a poller");
    return NULL;
  }
  return poller;
}

static bool poller_start(napi_env env, struct poller *poller) {
  if (poller->started) return true;
  pthread_attr_t attributes;
  sigset_t all, before;
  /* Signals are for Node's threads. */
  (void)sigfillset(&all);
  (void)pthread_attr_init(&attributes);
  (void)pthread_attr_setstacksize(&attributes, STACK_SIZE);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  int err = pthread_create(&poller->thread, &attributes, poller_main, poller);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  (void)pthread_attr_destroy(&attributes);
  if (err != 0) {
    (void)throw_errno(env, err, "pthread_create", NULL);
    return false;
  }
  (void)pthread_setname_np(poller->thread, "lamina-poll");
  poller->started = true;
  return true;
}

/* Under lock: room for a slot of this number and for one more entry in the queue. */
static bool poller_reserve(struct poller *poller, size_t fd) {
  if (fd >= poller->slot_count) {
    size_t wanted = fd + 64;
    struct slot *slots = realloc(poller->slots, wanted * sizeof(*slots));
    if (slots == NULL) return false;
    memset(slots + poller->slot_count, 0, (wanted - poller->slot_count) * sizeof(*slots));
    poller->slots = slots;
    poller->slot_count = wanted;
  }
  if (poller->active >= poller->queue_size) {
    size_t wanted = poller->queue_size * 2 + 64;
    int *queue = realloc(poller->queue, wanted * sizeof(*queue));
    if (queue == NULL) return false;
    poller->queue = queue;
    poller->queue_size = wanted;
  }
  return true;
}

/* Under lock. */
static void deactivate(struct poller *poller, int fd) {
  struct slot *slot = &poller->slots[fd];
  if (slot->ready != 0) {
    size_t at = 0;
    while (poller->queue[at] != fd) at++;
    memmove(poller->queue + at, poller->queue + at + 1, (--poller->queued - at) * sizeof(int));
  }
  slot->ready = 0;
  slot->active = false;
  poller->active--;
}

static int control(struct poller *poller, int operation, int fd, uint32_t events, uint32_t generation) {
  struct epoll_event event = {.events = events | EPOLLONESHOT,
                              .data.u64 = ((uint64_t)generation << 32) | (uint64_t)(uint32_t)fd};
  return epoll_ctl(poller->epoll_fd, operation, fd, &event);
}

static napi_value poller_add(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int fd;
  uint32_t events;
  struct poller *poller = poller_of(env, info, args, 2);
  if (poller == NULL || !arg_int(env, args[0], "fd", &fd) || !arg_u32(env, args[1], "events", &events)) return NULL;
  if (fd < 0 || poller->closed) return throw_errno(env, EBADF, "epoll_ctl", NULL);
  if (!poller_start(env, poller)) return NULL;
  int err = 0;
  (void)pthread_mutex_lock(&poller->lock);
  /* UINT32_MAX with descriptor UINT32_MAX is the stop event's key; a descriptor is never that large. */
  uint32_t generation = ++poller->generation;
  bool was_active = (size_t)fd < poller->slot_count && poller->slots[fd].active;
  if (!poller_reserve(poller, (size_t)fd)) {
    err = ENOMEM;
  } else if (control(poller, EPOLL_CTL_ADD, fd, events, generation) == 0) {
    /* Closed without remove(): its watch went with it, its slot did not. */
    if (was_active) deactivate(poller, fd);
    poller->slots[fd] = (struct slot){.generation = generation, .active = true};
    poller->active++;
  } else {
    err = errno;
  }
  (void)pthread_mutex_unlock(&poller->lock);
  if (err != 0) return throw_errno(env, err, "epoll_ctl", NULL);
  return value_undefined(env);
}

static napi_value poller_rearm(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int fd;
  uint32_t events;
  struct poller *poller = poller_of(env, info, args, 2);
  if (poller == NULL || !arg_int(env, args[0], "fd", &fd) || !arg_u32(env, args[1], "events", &events)) return NULL;
  if (fd < 0 || poller->closed) return throw_errno(env, EBADF, "epoll_ctl", NULL);
  int err = 0;
  (void)pthread_mutex_lock(&poller->lock);
  bool known = (size_t)fd < poller->slot_count && poller->slots[fd].active;
  if (!known)
    err = ENOENT;
  else if (control(poller, EPOLL_CTL_MOD, fd, events, poller->slots[fd].generation) != 0)
    err = errno;
  (void)pthread_mutex_unlock(&poller->lock);
  if (err != 0) return throw_errno(env, err, "epoll_ctl", NULL);
  return value_undefined(env);
}

static napi_value poller_remove(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  struct poller *poller = poller_of(env, info, args, 1);
  if (poller == NULL || !arg_int(env, args[0], "fd", &fd)) return NULL;
  (void)pthread_mutex_lock(&poller->lock);
  if (!poller->closed && fd >= 0 && (size_t)fd < poller->slot_count && poller->slots[fd].active) {
    /* Fails when the descriptor was closed before: then there is no watch any more. */
    (void)epoll_ctl(poller->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    deactivate(poller, fd);
  }
  (void)pthread_mutex_unlock(&poller->lock);
  return value_undefined(env);
}

static napi_value poller_ref(napi_env env, napi_callback_info info) {
  struct poller *poller = poller_of(env, info, NULL, 0);
  if (poller == NULL) return NULL;
  if (!poller->closed) TRY(env, napi_ref_threadsafe_function(env, poller->deliver));
  return value_undefined(env);
}

static napi_value poller_unref(napi_env env, napi_callback_info info) {
  struct poller *poller = poller_of(env, info, NULL, 0);
  if (poller == NULL) return NULL;
  if (!poller->closed) TRY(env, napi_unref_threadsafe_function(env, poller->deliver));
  return value_undefined(env);
}

static napi_value poller_close(napi_env env, napi_callback_info info) {
  struct poller *poller = poller_of(env, info, NULL, 0);
  if (poller == NULL) return NULL;
  if (!poller->closed) {
    (void)napi_remove_env_cleanup_hook(env, on_environment_end, poller);
    poller_stop(poller);
  }
  return value_undefined(env);
}

/* Opens the descriptors; on failure errno says why and nothing is left open. */
static int poller_open(struct poller *poller) {
  poller->stop_fd = -1;
  poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (poller->epoll_fd < 0) return -1;
  poller->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = UINT64_MAX};
  if (poller->stop_fd >= 0 && epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, poller->stop_fd, &event) == 0) return 0;
  close_fd(poller->epoll_fd);
  close_fd(poller->stop_fd);
  return -1;
}

static napi_value make_object(napi_env env, struct poller *poller) {
  const struct function methods[] = {
      {"add", poller_add}, {"rearm", poller_rearm}, {"remove", poller_remove},
      {"ref", poller_ref}, {"unref", poller_unref}, {"close", poller_close},
  };
  const napi_type_tag tag = POLLER_TAG;
  napi_value object;
  TRY(env, napi_create_object(env, &object));
  if (!REGISTER(env, object, methods)) return NULL;
  TRY(env, napi_type_tag_object(env, object, &tag));
  TRY(env, napi_wrap(env, object, poller, on_object_finalized, NULL, NULL));
  return object;
}

static napi_value create_poller(napi_env env, napi_callback_info info) {
  napi_value args[1], name = value_string(env, "lamina.poller", NAPI_AUTO_LENGTH);
  napi_valuetype type;
  if (name == NULL || !get_args(env, info, args, 1, NULL)) return NULL;
  TRY(env, napi_typeof(env, args[0], &type));
  if (type != napi_function) return throw_arg(env, "onReady", "a function"), NULL;
  struct poller *poller = calloc(1, sizeof(*poller));
  if (poller == NULL) return throw_errno(env, ENOMEM, "malloc", NULL);
  poller->holders = 1;
  if (pthread_mutex_init(&poller->lock, NULL) != 0 || poller_open(poller) != 0) {
    int err = errno;
    free(poller);
    return throw_errno(env, err, "epoll_create1", NULL);
  }
  if (napi_create_threadsafe_function(env, args[0], NULL, name, 0, 1, poller, on_function_finalized, poller, on_call,
                                      &poller->deliver) != napi_ok) {
    close_fd(poller->epoll_fd);
    close_fd(poller->stop_fd);
    poller_drop(poller);
    throw_status(env);
    return NULL;
  }
  poller->holders = 2;
  napi_value object = NULL;
  if (napi_unref_threadsafe_function(env, poller->deliver) == napi_ok &&
      napi_add_env_cleanup_hook(env, on_environment_end, poller) == napi_ok) {
    object = make_object(env, poller);
    if (object != NULL) return object;
    (void)napi_remove_env_cleanup_hook(env, on_environment_end, poller);
  }
  throw_status(env);
  poller_stop(poller);
  poller_drop(poller);
  return NULL;
}

bool register_poller(napi_env env, napi_value exports) {
  const struct function table[] = {{"createPoller", create_poller}};
  return REGISTER(env, exports, table);
}
