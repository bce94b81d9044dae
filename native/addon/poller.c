/* The poller object: a watcher whose events reach JavaScript in batches, through one thread-safe function.
 *
 * Lifetime: held by the JavaScript object and by the thread-safe function, which lets go some time after its release.
 * Everything here belongs to the JavaScript thread, on_wake excepted. */
#include "addon.h"
#include "watcher.h"

#include <stdlib.h>

struct poller {
  struct watcher *watcher;
  napi_threadsafe_function deliver;
  unsigned holders;
  bool closed;
};

/* Tells our objects from anybody else's wrapped ones. */
static const napi_type_tag POLLER_TAG = {0x4c616d696e61506fULL, 0x6c6c657200000001ULL};

static void drop(struct poller *poller) {
  if (--poller->holders > 0) return;
  watcher_free(poller->watcher);
  free(poller);
}

/* The watcher's thread. Fails only while the environment goes away, when nobody listens any more. */
static void on_wake(void *context) {
  struct poller *poller = context;
  (void)napi_call_threadsafe_function(poller->deliver, NULL, napi_tsfn_nonblocking);
}

/* What became ready as a JavaScript array; NULL when nothing did, or with a pending exception. */
static napi_value take(napi_env env, struct poller *poller) {
  size_t count;
  AUTO_FREE int *pairs = watcher_take(poller->watcher, &count);
  if (count == 0) return NULL;
  if (pairs == NULL) return throw_errno(env, ENOMEM, "malloc", NULL);
  napi_value array;
  TRY(env, napi_create_array_with_length(env, count * 2, &array));
  for (size_t i = 0; i < count * 2; i++) {
    napi_value number = value_int(env, pairs[i]);
    if (number == NULL) return NULL;
    TRY(env, napi_set_element(env, array, (uint32_t)i, number));
  }
  return array;
}

/* Called by Node-API; env is NULL while the function is torn down. */
static void on_call(napi_env env, napi_value callback, void *context, void *data) {
  (void)data;
  struct poller *poller = context;
  if (env == NULL || callback == NULL || poller->closed) return;
  napi_value array = take(env, poller), self;
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
  drop(data);
}

static void stop(struct poller *poller) {
  if (poller->closed) return;
  poller->closed = true;
  watcher_stop(poller->watcher);
  (void)napi_release_threadsafe_function(poller->deliver, napi_tsfn_abort);
}

static void on_environment_end(void *data) {
  stop(data);
}

static void close_poller(napi_env env, struct poller *poller) {
  if (poller->closed) return;
  (void)napi_remove_env_cleanup_hook(env, on_environment_end, poller);
  stop(poller);
}

static void on_object_finalized(napi_env env, void *data, void *hint) {
  (void)hint;
  close_poller(env, data);
  drop(data);
}

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

static napi_value watch(napi_env env, napi_callback_info info, int (*call)(struct watcher *, int, uint32_t)) {
  napi_value args[2];
  int fd;
  uint32_t events;
  struct poller *poller = poller_of(env, info, args, 2);
  if (poller == NULL || !arg_int(env, args[0], "fd", &fd) || !arg_u32(env, args[1], "events", &events)) return NULL;
  int err = call(poller->watcher, fd, events);
  return err == 0 ? value_undefined(env) : throw_errno(env, err, "epoll_ctl", NULL);
}

static napi_value poller_add(napi_env env, napi_callback_info info) {
  return watch(env, info, watcher_add);
}

static napi_value poller_rearm(napi_env env, napi_callback_info info) {
  return watch(env, info, watcher_rearm);
}

static napi_value poller_remove(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  struct poller *poller = poller_of(env, info, args, 1);
  if (poller == NULL || !arg_int(env, args[0], "fd", &fd)) return NULL;
  watcher_remove(poller->watcher, fd);
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
  close_poller(env, poller);
  return value_undefined(env);
}

static napi_value make_object(napi_env env, struct poller *poller) {
  const struct function methods[] = {
      {"add", poller_add}, {"rearm", poller_rearm}, {"remove", poller_remove},
      {"ref", poller_ref}, {"unref", poller_unref}, {"close", poller_close},
  };
  napi_value object;
  TRY(env, napi_create_object(env, &object));
  if (!REGISTER(env, object, methods)) return NULL;
  TRY(env, napi_type_tag_object(env, object, &POLLER_TAG));
  TRY(env, napi_wrap(env, object, poller, on_object_finalized, NULL, NULL));
  return object;
}

/* A poller held once, by the caller; NULL with an exception pending. */
static struct poller *poller_new(napi_env env, napi_value callback, napi_value name) {
  struct poller *poller = calloc(1, sizeof(*poller));
  if (poller == NULL) return throw_errno(env, ENOMEM, "malloc", NULL), NULL;
  poller->watcher = watcher_open(on_wake, poller);
  if (poller->watcher == NULL) {
    int err = errno;
    free(poller);
    return throw_errno(env, err, "epoll_create1", NULL), NULL;
  }
  if (napi_create_threadsafe_function(env, callback, NULL, name, 0, 1, poller, on_function_finalized, poller, on_call,
                                      &poller->deliver) != napi_ok) {
    watcher_stop(poller->watcher);
    watcher_free(poller->watcher);
    free(poller);
    throw_status(env);
    return NULL;
  }
  poller->holders = 2;
  return poller;
}

static napi_value create_poller(napi_env env, napi_callback_info info) {
  napi_value args[1], name = value_string(env, "lamina.poller", NAPI_AUTO_LENGTH);
  napi_valuetype type;
  if (name == NULL || !get_args(env, info, args, 1, NULL)) return NULL;
  TRY(env, napi_typeof(env, args[0], &type));
  if (type != napi_function) return throw_arg(env, "onReady", "a function"), NULL;
  struct poller *poller = poller_new(env, args[0], name);
  if (poller == NULL) return NULL;
  napi_value object = NULL;
  if (napi_unref_threadsafe_function(env, poller->deliver) == napi_ok &&
      napi_add_env_cleanup_hook(env, on_environment_end, poller) == napi_ok) {
    object = make_object(env, poller);
  }
  if (object != NULL) return object;
  throw_status(env);
  close_poller(env, poller);
  drop(poller);
  return NULL;
}

bool register_poller(napi_env env, napi_value exports) {
  const struct function table[] = {{"createPoller", create_poller}};
  return REGISTER(env, exports, table);
}
