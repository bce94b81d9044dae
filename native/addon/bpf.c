/* bpf(2) for device programs of cgroups (BPF_PROG_TYPE_CGROUP_DEVICE): load, attach, detach, query. */
#include "addon.h"

#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux: BPF_CGROUP_MAX_PROGS, the most programs of one type a group can have. */
#define PROGRAMS_MAX 64
#define VERIFIER_LOG_BYTES 65536

/* All calls pass this much: since 6.17 BPF_PROG_QUERY writes `revision` (bytes 56 to 63) whatever the size was, and
 * the header this was built with may have a shorter union. A kernel with a shorter one accepts the surplus zeroes. */
union attributes {
  union bpf_attr attr;
  uint8_t room[256];
};
_Static_assert(offsetof(union bpf_attr, query.prog_cnt) + 40 <= sizeof(union attributes), "room for query.revision");

static int bpf(enum bpf_cmd command, union attributes *attributes) {
  return (int)syscall(SYS_bpf, command, &attributes->attr, sizeof(*attributes));
}

static uint64_t address(const void *pointer) {
  return (uint64_t)(uintptr_t)pointer;
}

/* EAGAIN means that a signal came during verification; the caller decides how often to try. */
static int load(const uint8_t *program, size_t length, char *log, uint32_t log_size) {
  static const char name[] = "lamina_device";
  union attributes attributes = {0};
  attributes.attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attributes.attr.insns = address(program);
  attributes.attr.insn_cnt = (uint32_t)(length / sizeof(struct bpf_insn));
  attributes.attr.license = address("Apache-2.0");
  memcpy(attributes.attr.prog_name, name, sizeof(name));
  if (log != NULL) {
    attributes.attr.log_level = 1;
    attributes.attr.log_buf = address(log);
    attributes.attr.log_size = log_size;
  }
  return bpf(BPF_PROG_LOAD, &attributes);
}

/* Before 5.11 a program counts against RLIMIT_MEMLOCK, at the moment it is loaded. Best effort: raised for the call,
 * then put back, because the children of this process inherit it. */
static int load_unlimited(const uint8_t *program, size_t length) {
  struct rlimit old;
  const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
  bool raised = getrlimit(RLIMIT_MEMLOCK, &old) == 0 && setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0;
  int fd = load(program, length, NULL, 0);
  int saved = errno;
  if (raised) (void)setrlimit(RLIMIT_MEMLOCK, &old);
  errno = saved;
  return fd;
}

/* The errno as an Error with what the verifier said as its `log`. */
static napi_value throw_refusal(napi_env env, int err, const uint8_t *program, size_t length) {
  napi_value error = make_errno(env, err, "bpf(BPF_PROG_LOAD)", NULL);
  if (error == NULL) return NULL;
  AUTO_FREE char *log = calloc(1, VERIFIER_LOG_BYTES);
  if (log != NULL && (err == EINVAL || err == EACCES)) {
    close_fd(load(program, length, log, VERIFIER_LOG_BYTES));
    log[VERIFIER_LOG_BYTES - 1] = '\0';
  }
  if (!set_field(env, error, "log", value_string(env, log == NULL ? "" : log, NAPI_AUTO_LENGTH))) return NULL;
  (void)napi_throw(env, error);
  return NULL;
}

static napi_value load_device_program(napi_env env, napi_callback_info info) {
  napi_value args[2];
  const uint8_t *program;
  size_t length;
  bool unlimited;
  if (!get_args(env, info, args, 2, NULL) || !arg_bytes(env, args[0], "program", &program, &length) ||
      !arg_bool(env, args[1], "unlimitedMemlock", &unlimited)) {
    return NULL;
  }
  if (length == 0 || length % sizeof(struct bpf_insn) != 0 || length / sizeof(struct bpf_insn) > UINT32_MAX) {
    return throw_value(env, "program", "must be whole instructions of 8 bytes"), NULL;
  }
  int fd = unlimited ? load_unlimited(program, length) : load(program, length, NULL, 0);
  if (fd < 0) return throw_refusal(env, errno, program, length);
  napi_value value = value_int(env, fd);
  if (value == NULL) close_fd(fd);
  return value;
}

/* What attaching and detaching have in common. */
static union attributes attachment(int group, int program) {
  union attributes attributes = {0};
  attributes.attr.target_fd = (uint32_t)group;
  attributes.attr.attach_bpf_fd = (uint32_t)program;
  attributes.attr.attach_type = BPF_CGROUP_DEVICE;
  return attributes;
}

static napi_value attach_device_program(napi_env env, napi_callback_info info) {
  napi_value args[4];
  int group, program, replaced;
  uint32_t flags;
  if (!get_args(env, info, args, 4, NULL) || !arg_int(env, args[0], "cgroup", &group) ||
      !arg_int(env, args[1], "program", &program) || !arg_u32(env, args[2], "flags", &flags) ||
      !arg_int(env, args[3], "replaced", &replaced)) {
    return NULL;
  }
  union attributes attributes = attachment(group, program);
  attributes.attr.attach_flags = flags;
  if ((flags & BPF_F_REPLACE) != 0) attributes.attr.replace_bpf_fd = (uint32_t)replaced;
  if (bpf(BPF_PROG_ATTACH, &attributes) != 0) return throw_errno(env, errno, "bpf(BPF_PROG_ATTACH)", NULL);
  return value_undefined(env);
}

static napi_value detach_device_program(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int group, program;
  if (!get_args(env, info, args, 2, NULL) || !arg_int(env, args[0], "cgroup", &group) ||
      !arg_int(env, args[1], "program", &program)) {
    return NULL;
  }
  union attributes attributes = attachment(group, program);
  if (bpf(BPF_PROG_DETACH, &attributes) != 0) return throw_errno(env, errno, "bpf(BPF_PROG_DETACH)", NULL);
  return value_undefined(env);
}

static napi_value query_device_programs(napi_env env, napi_callback_info info) {
  napi_value args[1], result, list;
  int group;
  if (!get_args(env, info, args, 1, NULL) || !arg_int(env, args[0], "cgroup", &group)) return NULL;
  uint32_t ids[PROGRAMS_MAX] = {0};
  union attributes attributes = {0};
  attributes.attr.query.target_fd = (uint32_t)group;
  attributes.attr.query.attach_type = BPF_CGROUP_DEVICE;
  attributes.attr.query.prog_ids = address(ids);
  attributes.attr.query.prog_cnt = PROGRAMS_MAX;
  if (bpf(BPF_PROG_QUERY, &attributes) != 0) return throw_errno(env, errno, "bpf(BPF_PROG_QUERY)", NULL);
  uint32_t count = attributes.attr.query.prog_cnt;
  TRY(env, napi_create_object(env, &result));
  TRY(env, napi_create_array_with_length(env, count, &list));
  for (uint32_t i = 0; i < count && i < PROGRAMS_MAX; i++) {
    napi_value id = value_int(env, ids[i]);
    if (id == NULL) return NULL;
    TRY(env, napi_set_element(env, list, i, id));
  }
  if (!set_field(env, result, "flags", value_int(env, attributes.attr.query.attach_flags)) ||
      !set_field(env, result, "ids", list)) {
    return NULL;
  }
  return result;
}

static napi_value open_program(napi_env env, napi_callback_info info) {
  napi_value args[1];
  uint32_t id;
  if (!get_args(env, info, args, 1, NULL) || !arg_u32(env, args[0], "id", &id)) return NULL;
  union attributes attributes = {0};
  attributes.attr.prog_id = id;
  int fd = bpf(BPF_PROG_GET_FD_BY_ID, &attributes);
  if (fd < 0) return throw_errno(env, errno, "bpf(BPF_PROG_GET_FD_BY_ID)", NULL);
  napi_value value = value_int(env, fd);
  if (value == NULL) close_fd(fd);
  return value;
}

bool register_bpf(napi_env env, napi_value exports) {
  const struct function table[] = {
      {"bpfLoadDevice", load_device_program},     {"bpfAttachDevice", attach_device_program},
      {"bpfDetachDevice", detach_device_program}, {"bpfQueryDevice", query_device_programs},
      {"bpfOpenProgram", open_program},
  };
  return REGISTER(env, exports, table);
}
