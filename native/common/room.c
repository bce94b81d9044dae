#include "room.h"

#include <stdlib.h>
#include <sys/mman.h>

/* gcc says so by a macro, clang by a feature. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WATCHED 1
#endif

#ifdef WATCHED
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

void lm_room_make(struct lm_room *room, size_t size) {
  /* Mapped by itself, so that lm_room_trim() can give back its pages. */
  void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bytes == MAP_FAILED) abort();
  *room = (struct lm_room){.bytes = bytes, .size = size};
  ASAN_POISON_MEMORY_REGION(bytes, size);
}

void lm_room_free(struct lm_room *room) {
  if (room->bytes == NULL) return;
  ASAN_UNPOISON_MEMORY_REGION(room->bytes, room->size);
  (void)munmap(room->bytes, room->size);
  *room = (struct lm_room){0};
}

uint8_t *lm_room_take(struct lm_room *room) {
  if (room->taken) abort();
  room->taken = true;
  ASAN_UNPOISON_MEMORY_REGION(room->bytes, room->size);
  return room->bytes;
}

void lm_room_leave(struct lm_room *room) {
  room->taken = false;
  ASAN_POISON_MEMORY_REGION(room->bytes, room->size);
}

void lm_room_trim(struct lm_room *room) {
  if (!room->taken) (void)madvise(room->bytes, room->size, MADV_DONTNEED);
}
