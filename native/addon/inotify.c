/* inotify: cgroup and state files. */
#include "addon.h"

#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

static napi_value inotify_init_(napi_env env, napi_callback_info info) {
  (void)info;
  int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (fd < 0) return throw_errno(env, errno, "inotify_init1", NULL);
  return value_int(env, fd);
}

static napi_value inotify_add(napi_env env, napi_callback_info info) {
  napi_value args[3];
  AUTO_FREE char *path = NULL;
  int fd;
  uint32_t mask;
  if (!get_args(env, info, args, 3, NULL) || !arg_int(env, args[0], "fd", &fd) ||
      !arg_string(env, args[1], "path", &path) || !arg_u32(env, args[2], "mask", &mask)) {
    return NULL;
  }
  int wd = inotify_add_watch(fd, path, mask);
  if (wd < 0) return throw_errno(env, errno, "inotify_add_watch", path);
  return value_int(env, wd);
}

static napi_value inotify_remove(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int fd, wd;
  if (!get_args(env, info, args, 2, NULL) || !arg_int(env, args[0], "fd", &fd) || !arg_int(env, args[1], "wd", &wd)) {
    return NULL;
  }
  if (inotify_rm_watch(fd, wd) != 0) return throw_errno(env, errno, "inotify_rm_watch", NULL);
  return value_undefined(env);
}

static napi_value make_event(napi_env env, const struct inotify_event *event) {
  napi_value object;
  size_t length = strnlen(event->name, event->len);
  TRY(env, napi_create_object(env, &object));
  if (!set_field(env, object, "wd", value_int(env, event->wd)) ||
      !set_field(env, object, "mask", value_int(env, event->mask)) ||
      !set_field(env, object, "name", value_bytes(env, event->name, length))) {
    return NULL;
  }
  return object;
}

static napi_value inotify_read(napi_env env, napi_callback_info info) {
  napi_value args[1], events;
  int fd;
  if (!get_args(env, info, args, 1, NULL) || !arg_int(env, args[0], "fd", &fd)) return NULL;
  _Alignas(struct inotify_event) char buffer[16384];
  ssize_t length;
  RETRY(length, read(fd, buffer, sizeof(buffer)));
  if (length < 0 && errno != EAGAIN) return throw_errno(env, errno, "read", NULL);
  TRY(env, napi_create_array(env, &events));
  uint32_t count = 0;
  for (ssize_t at = 0; at < length;) {
    const struct inotify_event *event = (const struct inotify_event *)(const void *)(buffer + at);
    napi_value object = make_event(env, event);
    if (object == NULL) return NULL;
    TRY(env, napi_set_element(env, events, count++, object));
    at += (ssize_t)(sizeof(*event) + event->len);
  }
  return events;
}

bool register_inotify(napi_env env, napi_value exports) {
  const struct function table[] = {
      {"inotifyInit", inotify_init_},
      {"inotifyAdd", inotify_add},
      {"inotifyRemove", inotify_remove},
      {"inotifyRead", inotify_read},
  };
  return REGISTER(env, exports, table);
}
