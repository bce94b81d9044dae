/* The keeper <-> engine message layout; native/README.md explains each message.
 * scripts/generate.mjs turns the numbers below into src/sys/gen/protocol.ts: keep one plain define per line. */
#ifndef LM_PROTOCOL_H
#define LM_PROTOCOL_H

#include <stdint.h>

#define LM_MAGIC 76
#define LM_PROTOCOL 1
#define LM_HEADER_SIZE 24
#define LM_INLINE_MAX 32768
#define LM_MESSAGE_MAX 5242880
#define LM_FDS_MAX 16

/* Node's options for an engine, separated by spaces. SIGUSR1 opens no inspector. What is young in V8's heap may take
 * twice 4 MiB: its default of 16 is never given back after a busy time; with less than 2 the start is collected three
 * times. Options that change V8's hash of them (--expose-gc) make it refuse the compiled code of Node's own modules. */
#define LM_ENGINE_OPTIONS "--disable-sigusr1 --max-semi-space-size=4 --min-semi-space-size=2"
/* What an engine gets of the daemon's environment, besides all that begins with LAMINA_. */
#define LM_ENGINE_VARIABLES "PATH XDG_RUNTIME_DIR DBUS_SYSTEM_BUS_ADDRESS DBUS_SESSION_BUS_ADDRESS"

/* keeper to engine */
#define LM_MSG_HELLO 1
#define LM_MSG_ENTRY 2
#define LM_MSG_RELAY_STATE 3
#define LM_MSG_ACCEPTED 4
#define LM_MSG_FRAME 5
#define LM_MSG_CLOSED 6
#define LM_MSG_EXITED 7
#define LM_MSG_REPLAYED 8
#define LM_MSG_SPAWNED 9
#define LM_MSG_ADOPTED 10
#define LM_MSG_RELAYED 11
#define LM_MSG_FAILED 12
#define LM_MSG_SIGNALED 13
#define LM_MSG_PING 14
#define LM_MSG_DONE 15
#define LM_MSG_CHILD 16

/* the lamina command to the engine, and its answer */
#define LM_MSG_ASK 32
#define LM_MSG_STATUS 96

/* engine to keeper */
#define LM_MSG_WELCOME 64
#define LM_MSG_DECLINE 65
#define LM_MSG_PUT 66
#define LM_MSG_DEL 67
#define LM_MSG_SPAWN 68
#define LM_MSG_ADOPT 69
#define LM_MSG_ACK 70
#define LM_MSG_SEND 71
#define LM_MSG_RELEASE 72
#define LM_MSG_SHUT 73
#define LM_MSG_RELAY 74
#define LM_MSG_UNRELAY 75
#define LM_MSG_EXIT 76
#define LM_MSG_PONG 77
#define LM_MSG_BATCH 78
#define LM_MSG_ATTACH 79
#define LM_MSG_READ_OUT 80

/* flags */
#define LM_F_BODY_FD 1
#define LM_F_OVERSIZE 2
#define LM_F_ENDED 4
#define LM_F_CLEAR_ENV 8
#define LM_F_DIE_WITH_KEEPER 16
#define LM_F_FINISH 32
#define LM_F_STANDING 64
#define LM_F_ATTACHED 128
#define LM_F_REOPEN 256
#define LM_F_QUIET 512
#define LM_F_COUNTED 1024
#define LM_F_UNREAD 2048

struct lm_header {
  uint8_t magic;
  uint8_t version;
  uint16_t type;
  uint32_t flags;
  uint32_t serial;
  uint32_t count;
  uint64_t arg;
};

_Static_assert(sizeof(struct lm_header) == LM_HEADER_SIZE, "header layout");

#endif
