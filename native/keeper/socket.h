/* The shim's listening socket: where it is, and binding it or joining the shim that has it. */
#ifndef LM_SOCKET_H
#define LM_SOCKET_H

#include <stdbool.h>

#include "../common/error.h"
#include "paths.h"

#define LM_SOCKET_DIR "/run/containerd/s"
#define LM_SOCKET_PATH_MAX 106
/* Connections that may wait to be accepted. */
#define LM_BACKLOG 4096

struct lm_socket {
  char *path;
  int fd;      /* listening; -1 when joined */
  bool joined; /* a running shim answers at path */
  struct lm_made made;
};

/* <dir>/<sha256 of filepath.Join(grpc_address, namespace, group)>, to be freed; as containerd computes it. */
char *lm_socket_path(const char *dir, const char *grpc_address, const char *namespace, const char *group);

/* Binds `path` (making its directory), or finds the live shim there; a dead socket is replaced. */
int lm_socket_open(struct lm_socket *sock, const char *dir, const char *path, struct lm_error *err);
/* Takes back what lm_socket_open() made. */
void lm_socket_undo(struct lm_socket *sock);
void lm_socket_free(struct lm_socket *sock);

/* 1: something listens at path; 0: a socket nobody listens on; negative: -errno of the attempt. */
int lm_socket_probe(const char *path);

#endif
