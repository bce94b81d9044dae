/* Entry point: instance data and the list of parts. */
#include "addon.h"

#include <stdlib.h>

static void free_instance(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct instance *instance = data;
  free(instance->scratch);
  free(instance);
}

NAPI_MODULE_INIT() {
  struct instance *instance = calloc(1, sizeof(*instance));
  if (instance == NULL) return throw_errno(env, ENOMEM, "malloc", NULL);
  if (napi_set_instance_data(env, instance, free_instance, NULL) != napi_ok) {
    free(instance);
    throw_status(env);
    return NULL;
  }
  bool ok = register_poller(env, exports) && register_socket(env, exports) && register_fd(env, exports) &&
            register_process(env, exports) && register_tty(env, exports) && register_inotify(env, exports) &&
            register_bpf(env, exports);
  return ok ? exports : NULL;
}
