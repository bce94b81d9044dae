/* Blocking system calls on the thread pool. */
#include "addon.h"

#include <stdlib.h>

struct job *job_new(void (*run)(struct job *job)) {
  struct job *job = calloc(1, sizeof(*job));
  if (job == NULL) return NULL;
  job->run = run;
  job->fd = -1;
  job->result_fd = -1;
  return job;
}

void job_free(struct job *job) {
  if (job == NULL) return;
  for (size_t i = 0; i < sizeof(job->text) / sizeof(job->text[0]); i++) free(job->text[i]);
  close_fd(job->fd);
  close_fd(job->result_fd);
  free(job);
}

void job_fail(struct job *job, const char *syscall, const char *path) {
  job->err = errno;
  job->syscall = syscall;
  job->path = path;
}

static void execute(napi_env env, void *data) {
  (void)env;
  struct job *job = data;
  job->run(job);
}

static napi_value result_of(napi_env env, struct job *job) {
  if (job->kind == JOB_NOTHING) return value_undefined(env);
  napi_value fd = value_int(env, job->result_fd);
  if (fd == NULL || job->kind == JOB_FD) return fd;
  napi_value pair, device = value_string(env, job->device, NAPI_AUTO_LENGTH);
  if (device == NULL) return NULL;
  TRY(env, napi_create_array_with_length(env, 2, &pair));
  TRY(env, napi_set_element(env, pair, 0, device));
  TRY(env, napi_set_element(env, pair, 1, fd));
  return pair;
}

static void complete(napi_env env, napi_status status, void *data) {
  struct job *job = data;
  bool canceled = status != napi_ok;
  if (canceled || job->err != 0) {
    napi_value error = make_errno(env, canceled ? ECANCELED : job->err, canceled ? "cancel" : job->syscall, job->path);
    if (error != NULL) (void)napi_reject_deferred(env, job->deferred, error);
  } else {
    napi_value result = result_of(env, job);
    /* From here on the descriptor is the receiver's. */
    if (result != NULL && napi_resolve_deferred(env, job->deferred, result) == napi_ok) job->result_fd = -1;
  }
  (void)napi_delete_async_work(env, job->work);
  job_free(job);
}

napi_value job_start(napi_env env, struct job *job, const char *name) {
  napi_value promise, resource = value_string(env, name, NAPI_AUTO_LENGTH);
  if (resource == NULL || napi_create_async_work(env, NULL, resource, execute, complete, job, &job->work) != napi_ok) {
    throw_status(env);
    job_free(job);
    return NULL;
  }
  if (napi_create_promise(env, &job->deferred, &promise) != napi_ok ||
      napi_queue_async_work(env, job->work) != napi_ok) {
    throw_status(env);
    (void)napi_delete_async_work(env, job->work);
    job_free(job);
    return NULL;
  }
  return promise;
}
