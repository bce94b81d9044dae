/* The poller object: an epoll instance that Node's own event loop waits for. When it becomes readable, what is ready is
 * fetched with one epoll_wait and handed to JavaScript in one call: no thread, no wake-up of another processor.
 *
 * Descriptors are watched one-shot, so a slow call-back causes no spinning. Each has a generation: an event carries
 * that of the time its descriptor was added and is dropped when that has changed, so a number that is closed and used
 * again never gets an event of its predecessor.
 *
 * A pressure trigger's poll takes the event it reports, so an epoll instance inside another would lose it: the one's
 * look for readiness takes what the other was to deliver. Such a descriptor gets a poller of its own, which the loop
 * watches directly.
 *
 * Lifetime: held by the JavaScript object and by the loop, which lets go when its handle has been closed. */
#include "addon.h"
#include "uv.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 64

struct slot {
  uint32_t generation;
  bool active;
};

struct poller {
  napi_env env;
  napi_ref callback;
  napi_ref resource; /* what call-backs are accounted to */
  napi_async_context async;
  napi_async_cleanup_hook_handle hook;
  uv_handle_t *handle;
  int epoll_fd;  /* -1 when the loop watches direct_fd */
  int direct_fd; /* not ours */
  uint32_t generation;
  struct slot *slots; /* by descriptor */
  size_t slot_count;
  unsigned holders;
  bool closed;
};

/* Tells our objects from anybody else's wrapped ones. */
static const napi_type_tag POLLER_TAG = {0x4c616d696e61506fULL, 0x6c6c657200000001ULL};

static void drop(struct poller *poller) {
  if (--poller->holders > 0) return;
  free(poller->handle);
  free(poller->slots);
  free(poller);
}

/* ---- delivering ---- */

static bool is_active(const struct poller *poller, int fd) {
  return fd >= 0 && (size_t)fd < poller->slot_count && poller->slots[fd].active;
}

/* False for an event of a descriptor that had the number before. */
static bool is_meant(const struct poller *poller, int fd, uint32_t generation) {
  if (poller->epoll_fd < 0) return true;
  return is_active(poller, fd) && poller->slots[fd].generation == generation;
}

/* [fd, events, fd, events, ...] of the events that still concern somebody; NULL when none do, or with a pending
 * exception. */
static napi_value make_pairs(struct poller *poller, const struct epoll_event *events, int count) {
  napi_env env = poller->env;
  napi_value array;
  uint32_t length = 0;
  TRY(env, napi_create_array(env, &array));
  for (int i = 0; i < count; i++) {
    int fd = (int)(events[i].data.u64 & UINT32_MAX);
    if (!is_meant(poller, fd, (uint32_t)(events[i].data.u64 >> 32))) continue;
    napi_value number = value_int(env, fd), bits = value_int(env, events[i].events);
    if (number == NULL || bits == NULL) return NULL;
    TRY(env, napi_set_element(env, array, length++, number));
    TRY(env, napi_set_element(env, array, length++, bits));
  }
  return length > 0 ? array : NULL;
}

static void deliver(struct poller *poller, const struct epoll_event *events, int count) {
  napi_env env = poller->env;
  napi_value pairs = make_pairs(poller, events, count), callback, resource;
  if (pairs != NULL && napi_get_reference_value(env, poller->callback, &callback) == napi_ok &&
      napi_get_reference_value(env, poller->resource, &resource) == napi_ok) {
    (void)napi_make_callback(env, poller->async, resource, callback, 1, &pairs, NULL);
  }
  bool pending = false;
  napi_value error;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok) {
    (void)napi_fatal_exception(env, error);
  }
}

/* Called by the loop while epoll_fd is readable. */
static void on_readable(uv_handle_t *handle, int status, int events) {
  (void)status;
  (void)events;
  struct poller *poller = uv_handle_get_data(handle);
  struct epoll_event ready[EVENTS_MAX];
  int count;
  RETRY(count, epoll_wait(poller->epoll_fd, ready, EVENTS_MAX, 0));
  napi_handle_scope scope;
  if (count <= 0 || napi_open_handle_scope(poller->env, &scope) != napi_ok) return;
  poller->holders++; /* the call-back may close the poller */
  deliver(poller, ready, count);
  (void)napi_close_handle_scope(poller->env, scope);
  drop(poller);
}

/* Called by the loop for POLLPRI on direct_fd; what libuv does not tell is asked again. */
static void on_priority(uv_handle_t *handle, int status, int events) {
  (void)status;
  (void)events;
  struct poller *poller = uv_handle_get_data(handle);
  struct pollfd now = {.fd = poller->direct_fd, .events = POLLPRI};
  int count;
  RETRY(count, poll(&now, 1, 0));
  struct epoll_event event = {.events = EPOLLPRI | (count > 0 ? (uint32_t)now.revents & EPOLLERR : 0),
                              .data.u64 = (uint32_t)poller->direct_fd};
  napi_handle_scope scope;
  if (napi_open_handle_scope(poller->env, &scope) != napi_ok) return;
  /* With POLLERR, which stays, nothing else can come. */
  if ((event.events & EPOLLERR) != 0) (void)uv_poll_stop(handle);
  poller->holders++;
  deliver(poller, &event, 1);
  (void)napi_close_handle_scope(poller->env, scope);
  drop(poller);
}

/* ---- ending ---- */

static void on_handle_closed(uv_handle_t *handle) {
  struct poller *poller = uv_handle_get_data(handle);
  (void)napi_remove_async_cleanup_hook(poller->hook);
  drop(poller);
}

static void close_poller(struct poller *poller) {
  if (poller->closed) return;
  poller->closed = true;
  (void)napi_delete_reference(poller->env, poller->callback);
  (void)napi_async_destroy(poller->env, poller->async);
  (void)napi_delete_reference(poller->env, poller->resource);
  /* First: it takes epoll_fd out of the loop's own epoll instance. */
  uv_close(poller->handle, on_handle_closed);
  close_fd(poller->epoll_fd);
}

/* The environment ends; it waits until the hook is removed. */
static void on_environment_end(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  close_poller(data);
}

static void on_object_finalized(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  close_poller(data);
  drop(data);
}

/* ---- watching ---- */

static bool reserve(struct poller *poller, size_t fd) {
  if (fd < poller->slot_count) return true;
  size_t wanted = fd + 64;
  struct slot *slots = realloc(poller->slots, wanted * sizeof(*slots));
  if (slots == NULL) return false;
  memset(slots + poller->slot_count, 0, (wanted - poller->slot_count) * sizeof(*slots));
  poller->slots = slots;
  poller->slot_count = wanted;
  return true;
}

/* 0 or an errno. */
static int control(struct poller *poller, int operation, int fd, uint32_t events, uint32_t generation) {
  uint64_t key = ((uint64_t)generation << 32) | (uint32_t)fd;
  struct epoll_event event = {.events = events | EPOLLONESHOT, .data.u64 = key};
  return epoll_ctl(poller->epoll_fd, operation, fd, &event) == 0 ? 0 : errno;
}

static int add(struct poller *poller, int fd, uint32_t events) {
  if (fd < 0 || poller->closed) return EBADF;
  if (!reserve(poller, (size_t)fd)) return ENOMEM;
  uint32_t generation = ++poller->generation;
  int err = control(poller, EPOLL_CTL_ADD, fd, events, generation);
  if (err == 0) poller->slots[fd] = (struct slot){.generation = generation, .active = true};
  return err;
}

static int rearm(struct poller *poller, int fd, uint32_t events) {
  if (poller->closed) return EBADF;
  if (!is_active(poller, fd)) return ENOENT;
  return control(poller, EPOLL_CTL_MOD, fd, events, poller->slots[fd].generation);
}

/* ---- JavaScript's side ---- */

/* The poller behind `this`, its arguments taken; NULL with an exception pending. */
static struct poller *poller_of(napi_env env, napi_callback_info info, napi_value *args, size_t count) {
  napi_value self;
  bool ours = false;
  struct poller *poller = NULL;
  if (!get_args(env, info, args, count, &self)) return NULL;
  if (napi_check_object_type_tag(env, self, &POLLER_TAG, &ours) != napi_ok || !ours ||
      napi_unwrap(env, self, (void **)&poller) != napi_ok) {
    (void)throw_arg(env, "this", "a poller");
    return NULL;
  }
  return poller;
}

static napi_value watch(napi_env env, napi_callback_info info, int (*call)(struct poller *, int, uint32_t)) {
  napi_value args[2];
  int fd;
  uint32_t events;
  struct poller *poller = poller_of(env, info, args, 2);
  if (poller == NULL || !arg_int(env, args[0], "fd", &fd) || !arg_u32(env, args[1], "events", &events)) return NULL;
  int err = call(poller, fd, events);
  return err == 0 ? value_undefined(env) : throw_errno(env, err, "epoll_ctl", NULL);
}

static napi_value poller_add(napi_env env, napi_callback_info info) {
  return watch(env, info, add);
}

static napi_value poller_rearm(napi_env env, napi_callback_info info) {
  return watch(env, info, rearm);
}

static napi_value poller_remove(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  struct poller *poller = poller_of(env, info, args, 1);
  if (poller == NULL || !arg_int(env, args[0], "fd", &fd)) return NULL;
  if (!poller->closed && is_active(poller, fd)) {
    /* Fails when the descriptor was closed before: then there is no watch any more. */
    (void)epoll_ctl(poller->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    poller->slots[fd].active = false;
  }
  return value_undefined(env);
}

static napi_value poller_ref(napi_env env, napi_callback_info info) {
  struct poller *poller = poller_of(env, info, NULL, 0);
  if (poller == NULL) return NULL;
  if (!poller->closed) uv_ref(poller->handle);
  return value_undefined(env);
}

static napi_value poller_unref(napi_env env, napi_callback_info info) {
  struct poller *poller = poller_of(env, info, NULL, 0);
  if (poller == NULL) return NULL;
  if (!poller->closed) uv_unref(poller->handle);
  return value_undefined(env);
}

static napi_value poller_close(napi_env env, napi_callback_info info) {
  struct poller *poller = poller_of(env, info, NULL, 0);
  if (poller == NULL) return NULL;
  close_poller(poller);
  return value_undefined(env);
}

static napi_value make_object(napi_env env) {
  const struct function methods[] = {
      {"add", poller_add}, {"rearm", poller_rearm}, {"remove", poller_remove},
      {"ref", poller_ref}, {"unref", poller_unref}, {"close", poller_close},
  };
  napi_value object;
  TRY(env, napi_create_object(env, &object));
  if (!REGISTER(env, object, methods)) return NULL;
  TRY(env, napi_type_tag_object(env, object, &POLLER_TAG));
  return object;
}

/* What a poller keeps of JavaScript. On failure an exception is pending, and what was made goes with the environment.
 */
static bool keep(napi_env env, struct poller *poller, napi_value callback) {
  napi_value resource, name = value_string(env, "lamina.poller", NAPI_AUTO_LENGTH);
  if (name == NULL) return false;
  TRY_RET(env, napi_create_object(env, &resource), false);
  TRY_RET(env, napi_create_reference(env, callback, 1, &poller->callback), false);
  TRY_RET(env, napi_create_reference(env, resource, 1, &poller->resource), false);
  TRY_RET(env, napi_async_init(env, resource, name, &poller->async), false);
  return true;
}

/* Puts its descriptor into the loop, unreferenced. 0 or an errno. */
static int join_loop(napi_env env, struct poller *poller) {
  struct uv_loop_s *loop;
  poller->handle = calloc(1, uv_handle_size(UV_POLL));
  if (poller->handle == NULL) return ENOMEM;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return ENOSYS;
  bool is_direct = poller->epoll_fd < 0;
  int err = -uv_poll_init(loop, poller->handle, is_direct ? poller->direct_fd : poller->epoll_fd);
  if (err != 0) return err;
  uv_handle_set_data(poller->handle, poller);
  poller->holders++;
  err = is_direct ? -uv_poll_start(poller->handle, UV_PRIORITIZED, on_priority)
                  : -uv_poll_start(poller->handle, UV_READABLE, on_readable);
  uv_unref(poller->handle);
  return err;
}

/* A poller held once by the caller, and by the loop; NULL with an exception pending.
 * direct_fd: what the loop is to watch in place of an epoll instance, or -1 */
static struct poller *poller_new(napi_env env, napi_value callback, int direct_fd) {
  struct poller *poller = calloc(1, sizeof(*poller));
  if (poller == NULL) return throw_errno(env, ENOMEM, "malloc", NULL), NULL;
  poller->env = env;
  poller->holders = 1;
  poller->direct_fd = direct_fd;
  poller->epoll_fd = direct_fd >= 0 ? -1 : epoll_create1(EPOLL_CLOEXEC);
  int err = direct_fd < 0 && poller->epoll_fd < 0 ? errno : 0;
  if (err == 0 && keep(env, poller, callback)) {
    err = join_loop(env, poller);
    if (err == 0) return poller;
  }
  if (poller->holders > 1) {
    close_poller(poller);
  } else {
    close_fd(poller->epoll_fd);
  }
  drop(poller);
  return err == 0 ? NULL : (throw_errno(env, err, direct_fd < 0 ? "epoll_create1" : "epoll_ctl", NULL), NULL);
}

static napi_value make_poller(napi_env env, napi_value callback, int direct_fd) {
  napi_valuetype type;
  TRY(env, napi_typeof(env, callback, &type));
  if (type != napi_function) return throw_arg(env, "onReady", "a function"), NULL;
  napi_value object = make_object(env);
  if (object == NULL) return NULL;
  struct poller *poller = poller_new(env, callback, direct_fd);
  if (poller == NULL) return NULL;
  if (napi_add_async_cleanup_hook(env, on_environment_end, poller, &poller->hook) == napi_ok &&
      napi_wrap(env, object, poller, on_object_finalized, NULL, NULL) == napi_ok) {
    return object;
  }
  throw_status(env);
  close_poller(poller);
  drop(poller);
  return NULL;
}

static napi_value create_poller(napi_env env, napi_callback_info info) {
  napi_value args[1];
  if (!get_args(env, info, args, 1, NULL)) return NULL;
  return make_poller(env, args[0], -1);
}

static napi_value watch_priority(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int fd;
  if (!get_args(env, info, args, 2, NULL) || !arg_int(env, args[0], "fd", &fd)) return NULL;
  if (fd < 0) return throw_errno(env, EBADF, "epoll_ctl", NULL);
  return make_poller(env, args[1], fd);
}

bool register_poller(napi_env env, napi_value exports) {
  const struct function table[] = {{"createPoller", create_poller}, {"watchPriority", watch_priority}};
  return REGISTER(env, exports, table);
}
