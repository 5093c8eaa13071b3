/* The codecs that weigh compares. Knows nothing of files and of the ledger. */
#ifndef CODEC_H
#define CODEC_H

#include <stddef.h>

struct codec {
    const char *name;
    int level;
    /* The largest size `size` bytes can pack to. */
    size_t (*bound)(size_t size);
    /* Both return the bytes written to `to`, or 0 when they fail. */
    size_t (*pack)(int level, void *to, size_t room, const void *from, size_t size);
    size_t (*unpack)(void *to, size_t room, const void *from, size_t size);
};

/* Ends with an entry whose name is NULL. */
extern const struct codec codecs[];

/* The size `data` packs to, or 0 when it cannot be packed or comes back different. */
size_t codec_weigh(const struct codec *codec, const void *data, size_t size);

#endif
