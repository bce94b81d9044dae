/* mount(2), umount2(2) and loop devices, on the thread pool: each may wait for a disk. */
#include "addon.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

enum { SOURCE, TARGET, TYPE, DATA, CWD };

static void run_mount(struct job *job) {
  const char *data = job->text[DATA][0] == '\0' ? NULL : job->text[DATA];
  if (mount(job->text[SOURCE], job->text[TARGET], job->text[TYPE], job->flags, data) != 0) {
    job_fail(job, "mount", job->text[TARGET]);
  }
}

static void *mount_thread(void *data) {
  struct job *job = data;
  if (unshare(CLONE_FS) != 0)
    job_fail(job, "unshare", NULL);
  else if (chdir(job->text[CWD]) != 0)
    job_fail(job, "chdir", job->text[CWD]);
  else
    run_mount(job);
  return NULL;
}

/* A thread for this one call: a pool thread would keep the other directory for whatever it does next. */
static void run_mount_at(struct job *job) {
  pthread_t thread;
  int err = pthread_create(&thread, NULL, mount_thread, job);
  if (err != 0) {
    errno = err;
    job_fail(job, "pthread_create", NULL);
    return;
  }
  (void)pthread_join(thread, NULL);
}

static napi_value start_mount(napi_env env, const napi_value *args, void (*run)(struct job *job), napi_value cwd) {
  struct job *job = job_new(run);
  uint32_t flags;
  if (job == NULL) return throw_errno(env, ENOMEM, "malloc", NULL);
  if ((cwd != NULL && !arg_string(env, cwd, "cwd", &job->text[CWD])) ||
      !arg_string(env, args[0], "source", &job->text[SOURCE]) ||
      !arg_string(env, args[1], "target", &job->text[TARGET]) || !arg_string(env, args[2], "type", &job->text[TYPE]) ||
      !arg_u32(env, args[3], "flags", &flags) || !arg_string(env, args[4], "data", &job->text[DATA])) {
    job_free(job);
    return NULL;
  }
  job->flags = flags;
  return job_start(env, job, "lamina.mount");
}

static napi_value mount_(napi_env env, napi_callback_info info) {
  napi_value args[5];
  if (!get_args(env, info, args, 5, NULL)) return NULL;
  return start_mount(env, args, run_mount, NULL);
}

static napi_value mount_at(napi_env env, napi_callback_info info) {
  napi_value args[6];
  if (!get_args(env, info, args, 6, NULL)) return NULL;
  return start_mount(env, args + 1, run_mount_at, args[0]);
}

static void run_umount(struct job *job) {
  if (umount2(job->text[TARGET], (int)job->flags) != 0) job_fail(job, "umount", job->text[TARGET]);
}

static napi_value umount_(napi_env env, napi_callback_info info) {
  napi_value args[2];
  uint32_t flags;
  if (!get_args(env, info, args, 2, NULL)) return NULL;
  struct job *job = job_new(run_umount);
  if (job == NULL) return throw_errno(env, ENOMEM, "malloc", NULL);
  if (!arg_string(env, args[0], "target", &job->text[TARGET]) || !arg_u32(env, args[1], "flags", &flags)) {
    job_free(job);
    return NULL;
  }
  job->flags = flags;
  return job_start(env, job, "lamina.umount");
}

/* One try to take a free device; EBUSY when somebody else was faster. */
static int attach_once(struct job *job, int control, int file) {
  int number = ioctl(control, LOOP_CTL_GET_FREE);
  if (number < 0) {
    job_fail(job, "ioctl", "/dev/loop-control");
    return -1;
  }
  (void)snprintf(job->device, sizeof(job->device), "/dev/loop%d", number);
  int device = open(job->device, O_RDWR | O_CLOEXEC);
  if (device < 0) {
    job_fail(job, "open", job->device);
    return -1;
  }
  struct loop_config config;
  memset(&config, 0, sizeof(config));
  config.fd = (uint32_t)file;
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (job->flags != 0 ? (uint32_t)LO_FLAGS_READ_ONLY : 0);
  (void)snprintf((char *)config.info.lo_file_name, sizeof(config.info.lo_file_name), "%.63s", job->text[SOURCE]);
  int result;
  RETRY(result, ioctl(device, LOOP_CONFIGURE, &config));
  if (result != 0) {
    job_fail(job, "ioctl", job->device);
    close_fd(device);
    return -1;
  }
  job->err = 0;
  job->result_fd = device;
  return 0;
}

static void run_loop_attach(struct job *job) {
  int file = open(job->text[SOURCE], (job->flags != 0 ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (file < 0) {
    job_fail(job, "open", job->text[SOURCE]);
    return;
  }
  int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0)
    job_fail(job, "open", "/dev/loop-control");
  else {
    for (int i = 0; i < 100 && attach_once(job, control, file) != 0 && job->err == EBUSY; i++) {
    }
  }
  close_fd(control);
  close_fd(file);
}

static napi_value loop_attach(napi_env env, napi_callback_info info) {
  napi_value args[2];
  bool read_only;
  if (!get_args(env, info, args, 2, NULL)) return NULL;
  struct job *job = job_new(run_loop_attach);
  if (job == NULL) return throw_errno(env, ENOMEM, "malloc", NULL);
  if (!arg_string(env, args[0], "file", &job->text[SOURCE]) || !arg_bool(env, args[1], "readOnly", &read_only)) {
    job_free(job);
    return NULL;
  }
  job->flags = read_only ? 1 : 0;
  job->kind = JOB_DEVICE;
  return job_start(env, job, "lamina.loop");
}

bool register_mount(napi_env env, napi_value exports) {
  const struct function table[] = {
      {"mount", mount_}, {"mountAt", mount_at}, {"umount", umount_}, {"loopAttach", loop_attach}};
  return REGISTER(env, exports, table);
}
